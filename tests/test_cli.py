"""The command line: exit codes, messages, stdout kept for results: .venv/bin/pytest tests/test_cli.py"""

import json
import os
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from s2l_ray.cli import main


@pytest.fixture
def s2l(capsys):
    """Run a command line in this process; returns (exit code, stdout, stderr)."""

    def run(*arguments):
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        output = capsys.readouterr()
        return ended.value.code or 0, output.out, output.err

    return run


@pytest.fixture
def recipe(small_recipe, word_problems, tmp_path):
    """A good recipe as a file."""
    file = tmp_path / "recipe.yaml"
    file.write_text(yaml.safe_dump(small_recipe(word_problems, tmp_path / "out").model_dump(mode="json")))
    return file


@pytest.fixture
def table(tmp_path):
    """A trajectories table from elsewhere."""
    losses = np.random.default_rng(0).random((200, 4)).astype(np.float32)
    file = tmp_path / "losses.parquet"
    columns = {"example_id": [f"e{i}" for i in range(200)],
               "losses": pa.FixedSizeListArray.from_arrays(pa.array(losses.reshape(-1)), 4)}
    pq.write_table(pa.table(columns), file)
    return file


def test_select_on_a_bare_table_needs_no_model_and_no_ray(table, tmp_path):
    code = ("import sys; from s2l_ray.cli import main\n"
            "try: main(sys.argv[1:])\n"
            "except SystemExit as end: assert not end.code, end.code\n"
            "assert not {'torch', 'ray'} & set(sys.modules)")
    arguments = ["select", "--trajectories", table, "--selector", "s2l", "--budget", "20", "--seed", "3",
                 "--output", tmp_path / "chosen", "selection.num_clusters=5"]
    done = subprocess.run([sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert (result["budget"], result["num_clusters"], result["seed"]) == (20, 5, 3)
    chosen = pq.read_table(tmp_path / "chosen" / "selection.parquet")
    lines = [json.loads(line) for line in (tmp_path / "chosen" / "selection.jsonl").read_text().splitlines()]
    assert chosen.num_rows == 20 and lines == chosen.to_pylist()


def test_same_seed_same_ids_in_the_same_order(s2l, table, tmp_path):
    chosen = []
    for folder in ("a", "b"):
        assert s2l("select", "--trajectories", table, "--budget", "0.1", "--output", tmp_path / folder,
                   "selection.num_clusters=5")[0] == 0
        chosen.append(pq.read_table(tmp_path / folder / "selection.parquet")["example_id"].to_pylist())
    assert chosen[0] == chosen[1] and len(chosen[0]) == 20


def test_recipes_ends_with_one_json_object(s2l):
    code, out, _ = s2l("recipes")
    assert code == 0 and {"quickstart", "math-cpu", "mathinstruct-phi2"} <= set(json.loads(out.splitlines()[-1]))


BAD = {
    "unknown recipe": (["run", "math-cpy"], r"'math-cpy' is neither a file nor one of the shipped recipes.*math-cpu"),
    "unknown key": (["run", "RECIPE", "selection.num_cluster=5"], r"selection.num_cluster: unknown key; did you mean num_clusters"),
    "wrong type": (["run", "RECIPE", "proxy.max_steps=many"], r"proxy.max_steps='many'"),
    "both lengths": (["run", "RECIPE", "proxy.epochs=2"], r"exactly one of epochs \(now 2.0\) and max_steps \(now 6\)"),
    "missing file": (["run", "RECIPE", "data.path=/nowhere/x.jsonl"], r"/nowhere/x.jsonl: no such file"),
    "missing column": (["run", "RECIPE", "data.id_column=uuid"], r"has no column 'uuid'; it has id, instruction"),
    "no format fits": (["run", "RECIPE", "data.format=messages"], r"no row fits data.format=messages: no column 'messages'"),
    "budget 0": (["run", "RECIPE", "selection.budget=0"], r"selection.budget"),
    "budget above the data": (["run", "RECIPE", "selection.budget=401"], r"budget=401 must be between 1 and the 400"),
    "too many clusters": (["run", "RECIPE", "selection.num_clusters=401"], r"num_clusters=401 exceeds the 400"),
    "too many points": (["run", "RECIPE", "trajectory.num_points=7"], r"num_points=7 exceeds the proxy's 6 optimizer steps"),
    "unknown selector": (["run", "RECIPE", "selection.selector=s3l"], r"'s3l' is unknown; did you mean s2l"),
    "unknown model": (["run", "RECIPE", "target.model.path=/nowhere/model"], r"'/nowhere/model'.*(does not exist|neither)"),
    "storage not writable": (["run", "RECIPE", "storage=/proc/s2l"], r"storage '/proc/s2l' cannot be written"),
    "batch does not fit workers": (["run", "RECIPE", "resources.num_workers=3"], r"global_batch_size=8 must be a multiple"),
    "unknown run": (["status", "nothing", "--storage", "STORAGE"], r"has no run 'nothing'"),
    "no table": (["select", "--trajectories", "/nowhere.parquet"], r"/nowhere.parquet: no such file"),
    "override without value": (["run", "RECIPE", "seed"], r"'seed' must have the form key.path=value"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_exits_2_with_one_message_before_anything_starts(case, s2l, recipe, tmp_path):
    arguments, message = BAD[case]
    places = {"RECIPE": recipe, "STORAGE": tmp_path}
    code, out, err = s2l(*(places.get(argument, argument) for argument in arguments))
    assert code == 2, err
    assert out == ""
    assert "Traceback" not in err and "starting Ray" not in err
    import re

    assert re.search(message, " ".join(err.split())), err


def test_another_schema_version_is_refused(s2l, recipe, tmp_path):
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "s2l-storage.json").write_text('{"schema_version": 0}')
    code, _, err = s2l("run", recipe, f"storage={tmp_path / 'old'}")
    assert code == 2 and "holds schema version 0, this program writes 1" in " ".join(err.split())


def test_empty_data_is_refused(s2l, recipe, tmp_path):
    (tmp_path / "empty.jsonl").write_text("")
    code, _, err = s2l("run", recipe, f"data.path={tmp_path / 'empty.jsonl'}")
    assert code == 2 and "the file is empty" in err


def test_a_truncated_parquet_file_is_named(s2l, recipe, table, tmp_path):
    cut = tmp_path / "cut.parquet"
    cut.write_bytes(table.read_bytes()[:-50])
    code, _, err = s2l("run", recipe, f"data.path={cut}")
    assert code == 2 and "cut.parquet: not a readable Parquet file" in " ".join(err.split())


def test_help_does_not_wait_for_torch():
    code = "import sys, s2l_ray.cli; assert not {'torch', 'ray', 'transformers'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ})
