"""Somebody's own training in place of a proxy: .venv/bin/pytest tests/integration/test_checkpoints.py"""

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, Trainer, TrainingArguments

from s2l_ray.cli.extend import extended
from s2l_ray.cli.main import main
from s2l_ray.errors import InputError
from s2l_ray.pipeline.plan import plan_run
from s2l_ray.pipeline.run import run_plan
from s2l_ray.quickstart import ASSETS
from s2l_ray.recipe.loading import parse_tree
from s2l_ray.results.record import find_record

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("here")]


def run(*arguments):
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    return ended.value.code or 0


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """Thirty word problems."""
    file = tmp_path_factory.mktemp("rows") / "mine.jsonl"
    file.write_text("".join(json.dumps({"id": f"r{n}", "instruction": f"Ann has {n} pens and buys {n % 7}. How many?",
                                        "output": str(n + n % 7)}) + "\n" for n in range(30)))
    return file


@pytest.fixture(scope="module", params=["weights", "adapters"])
def trained(request, rows, tmp_path_factory):
    """The folder of a plain Trainer's run on these rows, with checkpoints at steps 2, 4 and 6."""
    folder = tmp_path_factory.mktemp("theirs")
    tokenizer = AutoTokenizer.from_pretrained(ASSETS / "proxy_base")
    tokenizer.chat_template = None
    model = AutoModelForCausalLM.from_pretrained(ASSETS / "proxy_base")
    if request.param == "adapters":
        model = get_peft_model(model, LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM"))
    texts = [" ".join(json.loads(line)[key] for key in ("instruction", "output")) for line in rows.read_text().splitlines()]
    encoded = [tokenizer(text)["input_ids"][:16] for text in texts]
    data = [{"input_ids": ids, "labels": ids} for ids in encoded if len(ids) == 16]
    arguments = TrainingArguments(output_dir=str(folder), max_steps=6, save_steps=2, per_device_train_batch_size=2,
                                  learning_rate=1e-3, report_to=[], use_cpu=True, disable_tqdm=True)
    Trainer(model, arguments, train_dataset=data, processing_class=tokenizer).train()
    return folder


def test_a_trainers_checkpoints_are_scored_as_they_are(rows, trained, tmp_path, capsys):
    file = tmp_path / "losses.parquet"
    settings = [f"storage={tmp_path / 'out'}", "data.id_column=id", "trajectory.precision=fp32"]
    assert run("trajectories", rows, "--checkpoints", trained, "--export", file, *settings) == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    points = [{"step": 2, "fraction": pytest.approx(1 / 3)}, {"step": 4, "fraction": pytest.approx(2 / 3)},
              {"step": 6, "fraction": 1.0}]
    assert result["export"]["points"] == points
    table = pq.read_table(file)
    losses = {row["example_id"]: row["losses"] for row in table.to_pylist()}
    examples = _examples(tmp_path / "out")
    assert losses.keys() == examples.keys() and len(losses) == 30
    for column, step in enumerate((2, 4, 6)):
        model = AutoModelForCausalLM.from_pretrained(trained / f"checkpoint-{step}", dtype=torch.float32).eval()
        for name in ("r0", "r13", "r29"):
            ids, supervised = (torch.tensor([examples[name][key]]) for key in ("input_ids", "supervised"))
            with torch.no_grad():
                loss = model(input_ids=ids, labels=torch.where(supervised, ids, -100)).loss
            assert losses[name][column] == pytest.approx(loss.item(), rel=1e-6, abs=1e-5)
    assert np.ptp(table["losses"].combine_chunks().flatten().to_numpy()) > 0.1, "the points differ"


def test_a_selection_by_them_trains_nothing(rows, trained, tmp_path, capsys):
    settings = [f"storage={tmp_path / 'out'}", "data.id_column=id", "selection.num_clusters=3"]
    assert run("select", rows, "--checkpoints", trained, "--budget", 6, *settings) == 0
    said = capsys.readouterr()
    result = json.loads(said.out.splitlines()[-1])
    assert result["arms"]["s2l"]["rows"] == 6
    assert "data.prompt_style=alpaca" in said.err and "3 checkpoints, steps 2 to 6" in said.err
    (proxy,) = (tmp_path / "out" / "proxy").iterdir()
    assert not (proxy / "curve.parquet").exists()
    names = {path.name for path in (proxy / "model").iterdir()}
    assert "tokenizer.json" in names and not names & {"optimizer.pt", "trainer_state.json", "training_args.bin"}
    assert run("report", tmp_path / "out" / "runs" / "mine") == 0
    assert run("status", tmp_path / "out" / "runs" / "mine") == 0
    assert run("plan", rows, "trajectory.checkpoints=" + str(trained), *settings) == 0


def _examples(storage):
    (folder,) = (storage / "prepare").iterdir()
    tables = [pq.read_table(path) for path in (folder / "examples").iterdir()]
    return {row["example_id"]: row for table in tables for row in table.to_pylist()}


def test_our_own_proxys_points_give_the_same_bytes(finished, tmp_path):
    recipe, plan = finished[0], finished[1]
    proxy, scored = (plan.step(label).artifact for label in ("proxy", "trajectories"))
    for point in proxy.manifest()["points"]:
        source = proxy.storage.path(proxy.file(f"point-{point['step']:08d}"))
        (tmp_path / f"checkpoint-{point['step']}").symlink_to(source)
    again = recipe.model_copy(update={"name": "again", "trajectory": recipe.trajectory.model_copy(update={"checkpoints": str(tmp_path)})})
    other = plan_run(again, "trajectories")
    run_plan(other, "test")
    theirs = other.step("trajectories").artifact
    assert theirs.fingerprint != scored.fingerprint, "whose weights they are is not known"
    for name in scored.list_names("shards"):
        assert theirs.storage.read_bytes(theirs.file(f"shards/{name}")) == scored.storage.read_bytes(scored.file(f"shards/{name}"))


def test_a_finished_selection_grows_by_new_rows_without_another_training(finished, tmp_path, capsys):
    recipe, plan = finished[0], finished[1]
    scored, select = (plan.step(*key).artifact for key in (("trajectories",), ("select", "s2l")))
    more = tmp_path / "more.jsonl"
    lines = [json.loads(line) for line in Path(recipe.data.path).read_text().splitlines()[:50]]
    new = [{**row, "id": f"new{n}", "instruction": f"Later: {row['instruction']}"} for n, row in enumerate(lines)]
    more.write_text("".join(json.dumps(row) + "\n" for row in [*new, lines[0]]))  # and one that is there already
    run_folder = plan.storage.uri_of(plan.folder)
    before = select.read_table("selection.parquet")["example_id"].to_pylist()
    proxies = set((Path(plan.storage.uri) / "proxy").iterdir())
    assert run("select", more, "--extend", run_folder, "--budget", 60, "name=grown", "data.max_bad_fraction=1") == 0
    said = capsys.readouterr()
    result = json.loads(said.out.splitlines()[-1])
    added = set((Path(plan.storage.uri) / "proxy").iterdir()) - proxies
    assert not any((points / "curve.parquet").exists() for points in added), "nothing was trained"
    grown = find_record(str(Path(plan.storage.uri) / "runs" / "grown"), "")
    folders = {step["label"]: f"{step['stage']}/{step['fingerprint']}" for step in grown.steps}
    after = plan.storage.read_table(f"{folders['select s2l']}/selection.parquet")["example_id"].to_pylist()
    assert after[: len(before)] == before and len(after) == 60
    num_new = sum(name.startswith("new") for name in after)
    assert {name.rpartition("/")[2]: count for name, count in result["extended"].items()} == {
        Path(recipe.data.path).name: 60 - num_new, "more.jsonl": num_new}
    assert f"{len(before)} were chosen before" in said.err
    # As many new rows as starting over would choose, of 450 rows 60: about 50 x 60 / 450 = 6.7.
    anew = plan_run(parse_tree(dict(grown.content["recipe"]), ["name=anew", "selection.extends=null"]), "select")
    run_plan(anew, "test")
    over = anew.step("select", "s2l").artifact.read_table("selection.parquet")["example_id"].to_pylist()
    assert num_new == sum(name.startswith("new") for name in over) and 2 <= num_new <= 16
    assert set(after) - set(before) <= set(over), "what is added is what starting over chooses"
    # Six shards of 64 of the 400 rows are as they were; the seventh held 16 rows, and has 64 now.
    assert f"384 rows have their losses from {scored.folder}: the others are scored" in said.err
    losses = _losses(scored)
    again = _losses_of(plan.storage, f"{folders['trajectories']}/shards")
    assert losses.keys() < again.keys() and len(again) == len(losses) + 50
    away = [float(np.abs(np.subtract(losses[name], again[name])).max()) for name in losses]
    assert max(away) < 1e-5 and sum(one > 0 for one in away) <= 16, "another batch, no more"
    # What has grown grows again, by its own name.
    third = tmp_path / "third.jsonl"
    third.write_text("".join(json.dumps({**row, "id": f"third{n}", "instruction": f"Last: {row['instruction']}"}) + "\n"
                             for n, row in enumerate(lines[:20])))
    assert run("select", third, "--extend", Path(plan.storage.uri) / "runs" / "grown", "--budget", 70) == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert result["run"] == "grown-extended" and sum(result["extended"].values()) == 70
    assert sum(name.endswith("third.jsonl") for name in result["extended"]) == 1


def test_a_data_set_of_the_hub_is_extended_at_the_commit_that_the_run_had(finished, tmp_path, monkeypatch):
    recipe, plan = finished[0], finished[1]
    storage, commit = plan.storage, "a" * 40
    table = pa.Table.from_pylist([json.loads(line) for line in Path(recipe.data.path).read_text().splitlines()])
    pq.write_table(table, tmp_path / "rows.parquet")
    for one, rows in ((commit, table), ("b" * 40, table.slice(0, 50))):
        pq.write_table(rows, tmp_path / "rows.parquet")
        storage.upload_file(tmp_path / "rows.parquet", f"downloads/our--rows-{one}/train.parquet")
    monkeypatch.setattr("s2l_ray.rows.hub.commit_of", lambda kind, name, revision: revision or commit)  # there is no hub here
    told = recipe.model_dump(mode="json")
    told["data"] |= {"path": None, "hub_name": "our/rows"}
    first = plan_run(parse_tree(told, ["name=of_the_hub", "selection.controls=[]"]), "select")
    run_plan(first, "test")
    grown = extended(str(Path(storage.uri) / "runs" / "of_the_hub"), str(tmp_path / "rows.parquet"), [], "60")
    assert grown.data.hub_revision == commit, "not what a name without a revision means by then"


def test_losses_by_other_weights_are_not_taken(finished, tmp_path, capsys):
    recipe, plan = finished[0], finished[1]
    settings = ["name=otherwise", "selection.controls=[]"]
    known = f"trajectory.known={plan.step('trajectories').artifact.fingerprint}"
    for further, why in ((["proxy.learning_rate=0.003"], "is by other weights"), (["trajectory.num_points=2"], "is by other points"),
                         (["trajectory.batch_tokens=4096"], "or other batches")):
        run_plan(plan_run(parse_tree(recipe.model_dump(), [*settings, known, *further]), "trajectories"), "test")
        assert f"{why}, so every row is scored" in capsys.readouterr().err
    with pytest.raises(InputError, match=r"trajectory[.]known=0123456789abcdef: .* holds no finished trajectories"):
        run_plan(plan_run(parse_tree(recipe.model_dump(), [
            *settings, "trajectory.known=0123456789abcdef", "trajectory.batch_tokens=2048"]), "trajectories"), "test")


def test_what_cannot_be_extended_is_refused_by_name(finished, tmp_path, capsys):
    recipe, plan = finished[0], finished[1]
    more = tmp_path / "more.jsonl"
    more.write_text('{"instruction": "a", "output": "b"}\n')
    run_folder = plan.storage.uri_of(plan.folder)
    assert run("select", more, "--extend", run_folder, "--selector", "random", "--budget", 9) == 2
    assert "--selector: with --extend the run's own recipe says it" in capsys.readouterr().err
    assert run("select", "quickstart", "--extend", run_folder) == 2
    assert "takes new rows" in capsys.readouterr().err
    assert run("select", more, "--extend", tmp_path / "runs" / "none") == 2
    assert "no run or sweep 'none'" in capsys.readouterr().err
    assert run("select", recipe.data.path, "--extend", run_folder, "--budget", 60) == 2
    assert "is one of the rows' files already" in capsys.readouterr().err
    assert run("select", more, "--extend", run_folder, "--budget", 60, "selection.selector=random") == 2
    assert "was chosen by s2l, not by random" in capsys.readouterr().err
    assert run("select", more, "--extend", run_folder, "--budget", 20) == 2
    assert "44 were chosen before, the budget is 20" in capsys.readouterr().err
    copy = tmp_path / "out"  # a storage whose proxy is gone
    for folder in ("runs", "select"):
        shutil.copytree(Path(plan.storage.uri) / folder, copy / folder)
    shutil.copy(Path(plan.storage.uri) / "s2l-storage.json", copy)
    assert run("select", more, "--extend", copy / "runs" / plan.recipe.name, "--budget", 60) == 2
    said = capsys.readouterr().err
    assert "the proxy of" in said and "is not there, unfinished or deleted" in said and "data.more" in said
    record = json.loads((copy / "runs" / plan.recipe.name / "run.json").read_text())
    record["recipe"]["selection"]["budget"] = 40
    (copy / "runs" / plan.recipe.name / "run.json").write_text(json.dumps(record))
    assert run("select", more, "--extend", copy / "runs" / plan.recipe.name) == 2
    assert "say with --budget how many it is to have" in capsys.readouterr().err


def _losses(artifact):
    return _losses_of(artifact.storage, artifact.file("shards"))


def _losses_of(storage, folder):
    tables = [storage.read_table(f"{folder}/{name}") for name in storage.list_names(folder)]
    return {row["example_id"]: row["losses"] for table in tables for row in table.to_pylist()}


def test_the_model_before_the_training_is_not_one_of_them(finished, tmp_path):
    recipe, plan = finished[0], finished[1]
    proxy = plan.step("proxy").artifact
    for point in proxy.manifest()["points"][1:]:
        (tmp_path / f"checkpoint-{point['step']}").symlink_to(proxy.storage.path(proxy.file(f"point-{point['step']:08d}")))
    tree = recipe.model_dump()
    tree["trajectory"]["checkpoints"], tree["selection"]["selector"] = str(tmp_path), "ifd"
    tree["proxy"]["model"] |= {"path": str(tmp_path / "checkpoint-6"), "tokenizer": str(ASSETS / "proxy_base")}
    with pytest.raises(InputError, match=r"is a checkpoint of it: set proxy[.]model[.]path to the model that it began with"):
        plan_run(type(recipe).model_validate(tree), "select")
