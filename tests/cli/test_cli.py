"""The command line: exit codes, messages, stdout kept for results: .venv/bin/pytest tests/cli/test_cli.py"""

import json
import os
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer
import yaml

import s2l_ray
from s2l_ray.cli.main import app, main
from s2l_ray.recipe.loading import load_recipe
from s2l_ray.stages.table import STAGES
from s2l_ray.storage.files import SCHEMA_VERSION


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
    code = ("import sys; from s2l_ray.cli.main import main\n"
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


def test_the_chosen_rows_themselves_are_written(s2l, table, tmp_path):
    rows = [{"key": f"e{n}", "q": f"What is {n}?", "a": str(n)} for n in range(200)]
    (tmp_path / "mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = ["select", "--trajectories", table, "--budget", "20", "selection.num_clusters=5", "--output", tmp_path / "chosen",
               "--rows", tmp_path / "mine.jsonl"]
    assert s2l(*command, "--id-column", "key", 'selection.required=["e3"]')[0] == 0
    ids = pq.read_table(tmp_path / "chosen" / "selection.parquet")["example_id"].to_pylist()
    lines = [json.loads(line) for line in (tmp_path / "chosen" / "subset.jsonl").read_text().splitlines()]
    assert ids[0] == "e3" and lines == [rows[int(one[1:])] for one in ids]
    assert pq.read_table(tmp_path / "chosen" / "subset.parquet").to_pylist() == lines
    code, _, err = s2l(*command)  # nobody says that `key` holds the ids, and the rows' shape is unknown
    assert code == 2 and "data.columns" in err
    code, _, err = s2l(*command, "data.columns={instruction: q, output: a}")
    assert code == 2 and "20 of the 20 chosen ids are in no row" in err


def test_how_early_a_proxy_could_have_stopped_is_printed(s2l, table):
    code, out, _ = s2l("compare", "--early", table, "selection.num_clusters=5", "selection.budget=20")
    found = json.loads(out.splitlines()[-1])
    assert code == 0 and [row["points"] for row in found["rows"]][:3] == [2, 3, 4] and found["rows"][2]["overlap"] == 1
    code, _, err = s2l("compare", "--early", table, "selection.selector=random")
    assert code == 2 and "uses no trajectories" in err
    code, _, err = s2l("compare", "--early", "/nowhere.parquet")
    assert code == 2 and "--early /nowhere.parquet: no such file" in err
    code, _, err = s2l("compare", "--early", table, "--pool", table)
    assert code == 2 and "leave --pool out" in err


def test_same_seed_same_ids_in_the_same_order(s2l, table, tmp_path):
    chosen = []
    for folder in ("a", "b"):
        assert s2l("select", "--trajectories", table, "--budget", "0.1", "--output", tmp_path / folder,
                   "selection.num_clusters=5")[0] == 0
        chosen.append(pq.read_table(tmp_path / folder / "selection.parquet")["example_id"].to_pylist())
    assert chosen[0] == chosen[1] and len(chosen[0]) == 20


def test_examples_of_a_task_go_through_a_model(s2l, table, tmp_path):
    solved = tmp_path / "solved.jsonl"
    solved.write_text('{"instruction": "Add 1 and 2", "output": "3"}\n')
    code, _, err = s2l("select", "--trajectories", table, "--task-examples", solved)
    assert code == 2 and "give --task-embeddings" in err
    pool = tmp_path / "pool.jsonl"
    pool.write_text("".join(f'{{"instruction": "Add {n} and 2", "output": "{n + 2}"}}\n' for n in range(40)))
    code, out, err = s2l("select", pool, "--task-examples", solved, "--budget", "4", "--dry-run", f"storage={tmp_path / 'out'}")
    assert code == 0 and "select representation" in out + err and "embed wanted wanted" in out + err, out + err


def test_recipes_and_selectors_end_with_one_json_object(s2l):
    code, out, _ = s2l("recipes")
    assert code == 0 and {"quickstart", "quickstart-sweep", "mathinstruct-phi2"} <= set(json.loads(out.splitlines()[-1]))
    code, out, _ = s2l("selectors")
    assert code == 0 and json.loads(out.splitlines()[-1])["s2l"] == ["trajectories"]


def test_selectors_of_other_packages_are_listed_and_broken_ones_only_marked(s2l, table, installed, tmp_path):
    source = "from s2l_ray.selectors.methods.random import Random\nclass Mine(Random):\n    name = 'mine'\nMINE = Mine()\n"
    names = {"mine": "mine_module:MINE", "bad": "bad_module:MINE", "random": "mine_module:MINE"}
    installed("s2l-mine", {"selectors": names}, {"mine_module": source, "bad_module": "1 / 0"}, "1.2")
    code, out, _ = s2l("selectors")
    *lines, listed = out.splitlines()
    assert code == 0 and [name for name, needs in json.loads(listed).items() if needs is None] == ["bad", "random"]
    told = {line.split()[0]: line for line in lines}
    assert told["mine"].split()[1:] == ["-", "(s2l-mine", "1.2)"], "a class without a docstring is listed too"
    assert "broken" in told["bad"] and "ZeroDivisionError" in told["bad"]
    assert "offered by s2l-ray and s2l-mine 1.2" in told["random"]
    for name, expected in (("mine", 0), ("bad", 2), ("random", 2)):
        command = ("select", "--trajectories", table, "--selector", name, "--budget", "9", "--output", tmp_path / name)
        code, out, err = s2l(*command)
        assert (code, bool(out)) == (expected, not expected) and "Traceback" not in err, err
    assert json.loads((tmp_path / "mine" / "selection.jsonl").read_text().splitlines()[0])["rank"] == 0


def test_somebody_elses_wide_perplexities_with_a_nan_are_selected_from(s2l, tmp_path):
    values = np.random.default_rng(0).uniform(1, 50, (50, 3))
    values[7, 1] = np.nan
    columns = {f"ppl_{step}": values[:, column] for column, step in enumerate((5, 10, 100))}
    pq.write_table(pa.table({"example_id": [f"e{i}" for i in range(50)], **columns}), tmp_path / "theirs.parquet")
    command = ["select", "--trajectories", tmp_path / "theirs.parquet", "--budget", "10", "--output", tmp_path / "chosen",
               "selection.num_clusters=4"]
    code, _, err = s2l(*command)
    assert code == 2 and "look like perplexities: say --kind perplexity" in " ".join(err.split())
    code, _, err = s2l(*command, "--kind", "perplexity")
    assert code == 2 and "1 of 50 rows cannot be used (1 with a NaN or infinite value), e.g. 'e7'" in " ".join(err.split())
    code, out, err = s2l(*command, "--kind", "perplexity", "--drop-non-finite")
    result = json.loads(out.splitlines()[-1])
    assert (code, result["num_dropped"], result["num_candidates"], result["budget"]) == (0, 1, 49, 10), err
    dropped = pq.read_table(tmp_path / "chosen" / "quarantine.parquet").to_pylist()
    assert dropped == [{"example_id": "e7", "reason": "NaN or infinite value"}]


def test_compare_ends_with_one_json_object(s2l, table, tmp_path):
    for name in ("s2l", "random"):
        assert s2l("select", "--trajectories", table, "--selector", name, "--budget", "20", "--output", tmp_path / name,
                   "selection.num_clusters=5")[0] == 0
    code, out, _ = s2l("compare", tmp_path / "s2l", tmp_path / "random" / "selection.parquet", "--pool", table)
    found = json.loads(out.splitlines()[-1])
    assert code == 0 and "Jaccard" in out
    assert found["pairs"][0]["num_common_by_chance"] == 20 * 20 / 200
    assert [stable["num_clusters"] for stable in found["cluster_stability"]] == [5]
    code, out, err = s2l("compare", tmp_path / "s2l", tmp_path / "random", "--pool", tmp_path / "none.parquet")
    assert (code, out) == (2, "") and "--pool" in err and "no such file" in " ".join(err.split())


BAD = {
    "unknown recipe": (["run", "quickstrat"], r"'quickstrat' is neither a file nor one of the shipped recipes.*quickstart"),
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
    "unknown run": (["status", "nothing", "--storage", "STORAGE"], r"has no run or sweep 'nothing'"),
    "no table": (["select", "--trajectories", "/nowhere.parquet"], r"/nowhere.parquet: no such file"),
    "unknown kind": (["select", "--trajectories", "TABLE", "--kind", "bits"], r"--kind 'bits' is unknown; it is one of nats"),
    "kind without a table": (["select", "RECIPE", "--kind", "perplexity"], r"say how --trajectories FILE.parquet is read"),
    "dropping without a table": (["select", "RECIPE", "--drop-non-finite"], r"say how --trajectories FILE.parquet is read"),
    "export to a folder": (["trajectories", "RECIPE", "--export", "STORAGE"], r"must be a file in a folder"),
    "export below a file": (["trajectories", "RECIPE", "--export", "/dev/null/x.parquet"], r"--export .* cannot be written"),
    "one selection to compare": (["compare", "STORAGE"], r"give 2 to 26 selections to compare, got 1"),
    "nothing to compare": (["compare", "TABLE", "/nowhere"], r"/nowhere: no selection there"),
    "override without value": (["run", "RECIPE", "seed"], r"'seed' must have the form key.path=value"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_exits_2_with_one_message_before_anything_starts(case, s2l, recipe, table, tmp_path):
    arguments, message = BAD[case]
    places = {"RECIPE": recipe, "STORAGE": tmp_path, "TABLE": table}
    code, out, err = s2l(*(places.get(argument, argument) for argument in arguments))
    assert code == 2, err
    assert out == ""
    assert "Traceback" not in err and "starting Ray" not in err
    import re

    assert re.search(message, " ".join(err.split())), err


@pytest.mark.parametrize("option, refusal", [
    (["--selector", "s3l"], "selector 's3l' is unknown; did you mean s2l?"), (["--budget", "0"], "budget=0"),
    (["--budget", "401"], "budget=401"),
], ids=lambda value: value[0] if isinstance(value, list) else "")
def test_the_options_of_select_count_with_a_recipe_too(s2l, recipe, tmp_path, option, refusal):
    code, _, err = s2l("select", recipe, *option)
    assert code == 2 and refusal in " ".join(err.split()), err
    assert not (tmp_path / "out" / "prepare").exists()


def test_and_replace_the_recipes_settings(s2l, recipe, monkeypatch):
    given = []
    monkeypatch.setattr("s2l_ray.cli.select.run_until", lambda stage, source, overrides, **how: given.extend(overrides))
    s2l("select", recipe, "selection.seed=1", "--seed", "7", "--selector", "k_center", "--budget", "0.2")
    loaded = load_recipe(str(recipe), given).selection  # the last one counts
    assert (loaded.seed, loaded.selector, loaded.budget) == (7, "k_center", 0.2)


def test_settings_of_the_task_count_beside_the_held_out_rows(s2l, recipe, word_problems, monkeypatch):
    given = []
    monkeypatch.setattr("s2l_ray.cli.work.run_until", lambda stage, source, overrides, **how: given.extend(overrides))
    s2l("run", recipe, "evaluation.tasks.0.metrics=[exact_match]", "evaluation.tasks.0.gold=gsm8k", "--budget", "0.2",
        "--eval", word_problems / "held_out.jsonl", "selection.budget=0.3")
    loaded = load_recipe(str(recipe), given)
    (task,) = loaded.evaluation.tasks
    assert (task.name, task.metrics, task.gold) == ("held_out", ["exact_match"], "gsm8k")
    assert loaded.selection.budget == 0.2 and loaded.evaluation.include_base


@pytest.mark.parametrize("option", ["--kind", "--drop-non-finite", "--embeddings", "--output"])
def test_options_that_only_a_file_of_losses_has_are_not_ignored_with_a_recipe(s2l, recipe, option):
    value = [] if option == "--drop-non-finite" else ["nats"]
    code, _, err = s2l("select", recipe, option, *value)
    assert code == 2 and f"{option}: these say how --trajectories" in " ".join(err.split())


@pytest.mark.parametrize("command", [stage.name for stage in STAGES])
def test_every_stage_can_be_tried_dry_and_opened(command):
    (found,) = [one for one in typer.main.get_command(app).commands.values() if one.name == command]
    assert {"--dry-run", "--open", "--debug"} <= {name for param in found.params for name in param.opts}


def test_the_version_is_the_packages(s2l):
    assert s2l("--version")[:2] == (0, f"{s2l_ray.__version__}\n")


def test_another_schema_version_is_refused(s2l, recipe, tmp_path):
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "s2l-storage.json").write_text('{"schema_version": 0}')
    code, _, err = s2l("run", recipe, f"storage={tmp_path / 'old'}")
    assert code == 2 and f"holds schema version 0, this program writes {SCHEMA_VERSION}" in " ".join(err.split())


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


@pytest.mark.parametrize(("given", "expected"), [
    ({}, "10000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "active"}, None)])
def test_threads_wait_briefly_unless_the_user_says_how(given, expected, monkeypatch):
    for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit):
        main(["--version"])
    assert os.environ.get("GOMP_SPINCOUNT") == expected
