"""The benchmarks of selecting and of load, on small tables: .venv/bin/pytest tests/benchmarks/test_benchmarks.py"""

import json
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from s2l_ray.recipe.registry import SELECTORS

FOLDER = Path(__file__).parent

pytestmark = pytest.mark.slow


def run(*arguments, script="selection.py"):
    done = subprocess.run([sys.executable, FOLDER / script, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def python(code):
    return subprocess.run([sys.executable, "-c", code], cwd=FOLDER, capture_output=True, text=True, check=False)


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


@pytest.mark.integration
@pytest.mark.long  # three minutes of a proxy on real rows
@pytest.mark.timeout(1500)
def test_every_selector_is_in_the_table_of_what_they_take(tmp_path):
    shared = FOLDER.parents[2] / "shared"
    if not shared.is_dir():
        pytest.skip("needs the real rows beside the checkout")
    data, task, tokenizer = (str(shared / name) for name in (
        "data/math_mixture.parquet", "data/gsm8k_test.parquet", "models/gpt2_tokenizer"))
    lines = run("--data", data, "--task", task, "--tokenizer", tokenizer, "--rows", "200", "--points", "2", "--clusters", "5",
                "--storage", str(tmp_path / "out"), "--trajectories", str(tmp_path / "t.parquet"),
                script="chosen.py").splitlines()
    rows = json.loads(lines[-1])["rows"]
    assert {row["selector"] for row in rows} == {*SELECTORS.names} - {"external", "pass_rate"}
    assert all(row["rows"] == 22 for row in rows if row["selector"] != "full") and len(lines) == 3 + len(rows)
    assert pq.read_table(tmp_path / "t.parquet").num_rows == rows[0]["rows"]


@pytest.mark.slow
@pytest.mark.integration
@pytest.mark.long  # as the attacked runs
def test_load_ends_within_its_limit():
    lines = run("--rows", "4000", "--limit-mb", "4096", "--points", "2", script="load.py").splitlines()
    found = json.loads(lines[-1])
    stages = {stage["stage"]: stage for stage in found["stages"]}
    assert list(stages) == ["prepare", "proxy", "trajectories", "select s2l"] and len(lines) == 1 + 4 + 1
    assert stages["prepare"]["rows"] == {"read": 4_000, "examples": 4_000, "duplicates": 0, "quarantined": 0}
    assert stages["select s2l"]["rows"]["selected"] == 40
    for stage in stages.values():
        assert 0 < stage["driver_mb"] < stage["all_mb"] <= found["peak_mb"] <= found["limit_mb"] == 4096
    assert stages["trajectories"]["largest_worker_mb"] > 0 and len(found["commit"]) == 40


def test_the_kernel_refuses_a_process_of_the_load_what_is_above_the_limit():
    done = python("import load; load.bound_each_process(6000); len(bytes(1 << 30)); bytearray(6 << 30)")
    assert done.returncode == 1 and "MemoryError" in done.stderr, done.stderr


def test_planted_near_duplicates_and_leaks_are_found():
    lines = run("--rows", "4000", "--only", "ours", "leaks", script="near_duplicates.py").splitlines()
    twins, leaks = json.loads(lines[-1])["results"]
    assert (twins["planted"], leaks["planted"]) == (200, 200)
    assert twins["recall"] >= 0.97 and twins["precision"] >= 0.99
    assert leaks["recall"] == 1.0 and leaks["precision"] >= 0.99


def test_the_load_ends_where_processes_take_more_together():
    # Each of them is below the limit, all together are not.
    done = python("""
import signal, subprocess, sys, time, load
signal.signal(signal.SIGINT, signal.default_int_handler)
hold = "import time; held = bytearray(b'1') * (300 << 20); time.sleep(60)"
with load.Tree(1000) as tree:
    held = [subprocess.Popen([sys.executable, "-c", hold]) for _ in range(4)]
    try:
        time.sleep(60)
    except KeyboardInterrupt:
        print("over", tree.is_over, tree.take_peaks()["all_mb"] > 1000)
    finally:
        for process in held:
            process.kill()
""")
    assert done.stdout == "over True True\n", done.stderr


@pytest.mark.long
def test_the_memory_of_a_target_is_measured_phase_by_phase():
    lines = run("--shape", "tiny", "--steps", "1", "--workers", "1", script="model_memory.py").splitlines()
    found = json.loads(lines[-1])
    assert list(found["peak_mb"]) == ["load", "train", "save", "evaluation's load", "evaluate"]
    assert all(peak > found["weights_mb"]["fp32"] for peak in found["peak_mb"].values()) and len(found["commit"]) >= 40
