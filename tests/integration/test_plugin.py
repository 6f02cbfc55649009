"""Packages of selectors, metrics and shapes, installed beside ours: .venv/bin/pytest tests/integration/test_plugin.py"""

import json
import os
import random
import shutil
import site
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

ROOT = Path(__file__).parents[2]
PLUGINS = ROOT / "tests" / "plugin"
pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """The Python of a virtual environment of its own: what is installed here, and the two packages."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    python = folder / "bin" / "python"
    here = [*site.getsitepackages(), str(ROOT)]  # with .pth files, by which an editable install is found
    own = next((folder / "lib").glob("python*")) / "site-packages"
    lines = [f"import site; site.addsitedir({place!r})" for place in here]
    (own / "here.pth").write_text("\n".join(lines) + "\n")
    sources = [folder / "sources" / name for name in ("letters", "broken")]
    for source in sources:
        shutil.copytree(PLUGINS / source.name, source)
    subprocess.run([sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--disable-pip-version-check",
                    "--no-deps", *sources], check=True)
    assert {path.name for path in own.glob("*.dist-info")} == {"s2l_letters-1.2.dist-info", "s2l_broken-0.3.dist-info"}
    return python


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """An otherwise empty folder with a table of lengths, and letters in two files."""
    folder, draw = tmp_path_factory.mktemp("empty"), random.Random(0)
    lengths = np.random.default_rng(0).integers(1, 50, 200)
    pq.write_table(pa.table({"example_id": [f"e{i}" for i in range(200)], "num_supervised_tokens": lengths}), folder / "t.parquet")
    for name, count in (("letters", 120), ("held_out", 20)):
        sums = [(draw.randrange(1000), draw.randrange(1000)) for _ in range(count)]
        rows = [{"letter": f"What is {a} plus {b}?", "reply": f"It is {a + b}"} for a, b in sums]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture(scope="module")
def s2l(environment, folder):
    """A function that runs `s2l` in that environment and folder."""
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    def run(*arguments):
        code = "from s2l_ray.cli.main import main; main()"
        return subprocess.run([environment, "-c", code, *map(str, arguments)], cwd=folder, env=variables,
                              capture_output=True, text=True, check=False)

    return run


def test_the_list_has_theirs_with_their_package_and_marks_what_is_broken(s2l):
    done = s2l("selectors")
    listed = json.loads(done.stdout.splitlines()[-1])
    assert listed["by_length"] == ["lengths"] and listed["half_written"] is None and listed["density"] is None
    assert listed["s2l"] == ["trajectories"]
    lines = {line.split()[0]: line for line in done.stdout.splitlines()[:-1]}
    assert lines["by_length"].endswith("(s2l-letters 1.2)") and "Draws without replacement" in lines["by_length"]
    assert "broken" in lines["half_written"] and "RuntimeError: to be written" in lines["half_written"]


def test_it_selects_by_name_from_the_command_line(s2l, folder):
    first, again, other = (s2l("select", "--trajectories", "t.parquet", "--selector", "by_length", "--budget", "0.11",
                               "--seed", seed, "--output", f"chosen-{number}") for number, seed in enumerate((1, 1, 2)))
    assert [done.returncode for done in (first, again, other)] == [0, 0, 0], first.stderr
    found = json.loads(first.stdout.splitlines()[-1])
    assert (found["selector"], found["budget"], found["plugins"]) == ("by_length", 22, {"by_length": "s2l-letters 1.2"})
    chosen = [pq.read_table(folder / f"chosen-{number}" / "selection.parquet")["example_id"].to_pylist() for number in range(3)]
    assert chosen[0] == chosen[1] != chosen[2] and len(set(chosen[0])) == 22
    lengths = dict(zip(*pq.read_table(folder / "t.parquet").to_pydict().values(), strict=True))
    assert np.mean([lengths[one] for one in chosen[0]]) > np.mean(list(lengths.values()))


def test_rows_of_their_shape_are_chosen_from_without_a_recipe_and_again_by_another_version(s2l, folder, environment):
    def chosen():
        done = s2l("select", "letters.jsonl", "selection.selector=by_length", "selection.controls=[]", "storage=by_version",
                   "--budget", "0.11")
        assert done.returncode == 0 and "120 rows, letters" in " ".join(done.stderr.split()), done.stderr
        found = json.loads(done.stdout.splitlines()[-1])
        return found["arms"]["by_length"]["subset"], [stage["reused"] for stage in found["stages"]]

    first, _ = chosen()
    assert len(Path(first).read_text().splitlines()) == 13 and chosen() == (first, [True, True])
    (metadata,) = environment.parent.parent.glob("lib/python*/site-packages/s2l_letters-1.2.dist-info/METADATA")
    whole = metadata.read_text()
    try:
        metadata.write_text(whole.replace("Version: 1.2", "Version: 1.3"))
        other, reused = chosen()
        assert other != first and reused == [False, False], "rows read and chosen by another version are others"
    finally:
        metadata.write_text(whole)


@pytest.mark.parametrize(("name", "said"), [
    ("half_written", "selector 'half_written' of s2l-broken 0.3 (entry point s2l_broken:SELECTOR) cannot be loaded: RuntimeError: to be written"),
    ("density", "selector 'density' is offered by s2l-ray and s2l-broken 0.3: uninstall one of them"),
    ("by_lenght", "did you mean by_length? known: ask_llm, "),
])
def test_what_is_broken_is_an_error_for_who_names_it(s2l, name, said):
    done = s2l("select", "--trajectories", "t.parquet", "--selector", name, "--budget", "5", "--output", "none")
    assert (done.returncode, done.stdout) == (2, "")
    assert said in " ".join(done.stderr.split()) and "Traceback" not in done.stderr


def test_the_packages_own_tests_pass(environment, folder):
    done = subprocess.run([environment, "-m", "pytest", "-q", "-p", "no:cacheprovider", PLUGINS / "letters"], cwd=folder,
                          capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "9 passed" in done.stdout, done.stdout + done.stderr


def test_a_run_reads_their_shape_chooses_by_their_selector_and_measures_their_metric(s2l, folder, small_recipe, word_problems):
    tree = small_recipe(word_problems, "out", **{
        "data.path": "letters.jsonl", "data.id_column": None, "selection.budget": 30, "selection.controls": [],
        "evaluation.tasks": [{"name": "letters", "path": "held_out.jsonl", "metrics": ["loss"], "max_new_tokens": 4}],
    }).model_dump(mode="json")
    tree["evaluation"]["tasks"][0]["metrics"].append("last_word")  # known there alone, as is the selector
    tree["selection"]["selector"] = "by_length"
    (folder / "recipe.yaml").write_text(yaml.safe_dump(tree))
    done = s2l("run", "recipe.yaml")
    assert done.returncode == 0, done.stderr
    assert "left out: row shape 'half_read' of s2l-broken 0.3" in " ".join(done.stderr.split())
    found = json.loads(done.stdout.splitlines()[-1])
    assert "last_word" in json.dumps(found)
    manifests = [json.loads(path.read_text()) for path in (folder / "out").glob("*/*/manifest.json")]
    plugins = {manifest["stage"]: manifest["identity"].get("plugins") for manifest in manifests}
    letters = "s2l-letters 1.2"
    assert plugins == {"prepare": {"letters": letters}, "select": {"by_length": letters}, "finetune": None,
                       "evaluate": {"last_word": letters}}
    assert all(manifest["packages"]["s2l-letters"] == "1.2" for manifest in manifests)
