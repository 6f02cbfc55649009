"""The benchmark of selecting, on small tables: .venv/bin/pytest tests/test_benchmarks.py"""

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[1] / "jobs" / "benchmarks" / "selection.py"


def run(*arguments):
    done = subprocess.run([sys.executable, SCRIPT, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_help_says_how():
    assert "--stream" in run("--help")


def test_small_tables_are_measured_and_the_last_line_says_where():
    lines = run("--rows", "20000", "--embeddings", "500", "1000", "--only", "s2l", "inertia", "ltd").splitlines()
    found = json.loads(lines[-1])
    assert [(case["case"], case["selector"], case["rows"]) for case in found["results"]] == [
        ("from_file", "s2l", 20_000), ("inertia", "inertia", 20_000),
        ("from_embeddings", "ltd", 500), ("from_embeddings", "ltd", 1000)]
    assert all(case["seconds"] > 0 and case["cpu_seconds"] > 0 for case in found["results"])
    assert found["results"][0]["peak_mb"] > 0 and found["results"][1]["inertia"] > 0
    assert found["machine"]["cores"] >= 1 and found["versions"]["numpy"] and len(found["commit"]) == 40
    assert len(found["powers"]["ltd"]) == 1 and len(lines) == 1 + 4 + 1 + 1
