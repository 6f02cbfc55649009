"""Scoring: exact, whole, and the same bytes whoever does it: .venv/bin/pytest tests/integration/test_trajectories.py"""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM

from s2l_ray.cli.main import main
from s2l_ray.execution.attempts import UnitError
from s2l_ray.recipe.resources import ResourcesConfig
from s2l_ray.report.row_scores import write_row_scores
from s2l_ray.results.record import find_record
from s2l_ray.stages.select import select_from_file
from s2l_ray.stages.trajectories import run_trajectories
from s2l_ray.storage.artifacts import Artifact
from s2l_ray.tables.schemas import losses_matrix

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("here")]


@pytest.fixture
def scored(finished):
    """(recipe, plan) run at least up to trajectories."""
    return finished[0], finished[1]


def artifacts(plan):
    return [plan.step(label).artifact for label in ("prepare", "proxy", "trajectories")]


def read(artifact, folder):
    storage = artifact.storage
    names = storage.list_names(artifact.file(folder))
    return pa.concat_tables([storage.read_table(artifact.file(f"{folder}/{name}")) for name in names])


def score_again(plan, recipe, seed_marker, resources):
    """Score the same examples into another artifact, and return it."""
    prepare, proxy, done = artifacts(plan)
    other = Artifact(done.storage, "trajectories", {**done.identity, "copy": seed_marker}, done.parents)
    run_trajectories(other, proxy, prepare, recipe.model_copy(update={"resources": resources}))
    return other


def shard_bytes(artifact):
    storage = artifact.storage
    return {n: storage.read_bytes(artifact.file(f"shards/{n}")) for n in storage.list_names(artifact.file("shards"))}


def test_losses_equal_the_model_at_batch_size_1(scored):
    _, plan = scored
    prepare, proxy, done = artifacts(plan)
    examples, losses_NC = read(prepare, "examples"), losses_matrix(read(done, "shards"))
    points = proxy.manifest()["points"]
    assert [p["fraction"] for p in points] == pytest.approx([0, 1 / 3, 2 / 3, 1])
    assert losses_NC.shape == (examples.num_rows, 4)
    for column, point in ((0, points[0]), (3, points[3])):
        folder = proxy.storage.path(proxy.file(f"point-{point['step']:08d}"))
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        for row in range(0, examples.num_rows, 37):
            ids = torch.tensor([examples["input_ids"][row].as_py()])
            supervised = torch.tensor([examples["supervised"][row].as_py()])
            with torch.no_grad():
                loss = model(input_ids=ids, labels=torch.where(supervised, ids, -100)).loss
            assert losses_NC[row, column] == pytest.approx(loss.item(), abs=1e-5)


def test_the_last_point_is_the_finished_proxy(scored):
    _, plan = scored
    proxy = artifacts(plan)[1]
    last = proxy.manifest()["points"][-1]["step"]
    weights = [AutoModelForCausalLM.from_pretrained(proxy.storage.path(proxy.file(folder))).state_dict()
               for folder in (f"point-{last:08d}", "model")]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_one_and_two_workers_write_the_same_bytes(scored):
    recipe, plan = scored
    first = shard_bytes(artifacts(plan)[2])
    for workers in (1, 2):
        again = score_again(plan, recipe, f"workers{workers}", ResourcesConfig(num_scoring_workers=workers))
        assert shard_bytes(again) == first
    assert len(first) == -(-artifacts(plan)[0].manifest()["rows"]["examples"] // 64)


def test_finished_shards_are_not_scored_again(scored):
    recipe, plan = scored
    prepare, proxy, done = artifacts(plan)
    storage = done.storage
    partial = Artifact(storage, "trajectories", {**done.identity, "copy": "partial"}, done.parents)
    names = storage.list_names(done.file("shards"))
    for name in names[:4]:
        storage.write_bytes(partial.file(f"shards/{name}"), storage.read_bytes(done.file(f"shards/{name}")))
    manifest = run_trajectories(partial, proxy, prepare, recipe)
    assert (manifest["num_shards_reused"], manifest["num_shards"]) == (4, len(names))
    assert shard_bytes(partial) == shard_bytes(done)


@pytest.mark.slow
def test_a_poisoned_shard_stops_the_stage_with_its_name_and_the_others_are_kept(scored):
    recipe, plan = scored
    prepare, proxy, done = artifacts(plan)
    storage, shards = prepare.storage, prepare.storage.list_names(prepare.file("examples"))
    path = prepare.file(f"examples/{shards[2]}")
    sound, table = storage.read_bytes(path), storage.read_table(path)
    # A token that the model does not have, in the shard's last example.
    ids = [*table["input_ids"].to_pylist()[:-1], [10**6] * len(table["input_ids"][-1])]
    place = table.column_names.index("input_ids")
    other = Artifact(done.storage, "trajectories", {**done.identity, "copy": "poisoned"}, done.parents)
    storage.write_table(path, table.set_column(place, "input_ids", pa.array(ids, table["input_ids"].type)))
    try:
        with pytest.raises(UnitError, match=f"trajectories: shard {shards[2]} .first example '{table['example_id'][0]}'. failed: "):
            run_trajectories(other, proxy, prepare, recipe)
    finally:
        storage.write_bytes(path, sound)
    assert storage.list_names(other.file("shards")) == [name for name in shards if name != shards[2]]
    manifest = run_trajectories(other, proxy, prepare, recipe)
    assert manifest["num_shards_reused"] == len(shards) - 1
    assert shard_bytes(other) == shard_bytes(done)


def test_a_shard_of_other_examples_is_an_error_and_never_a_hole(scored):
    recipe, plan = scored
    prepare, proxy, done = artifacts(plan)
    storage = done.storage
    broken = Artifact(storage, "trajectories", {**done.identity, "copy": "broken"}, done.parents)
    names = storage.list_names(done.file("shards"))
    for name in names:  # the first shard's rows under every name
        storage.write_bytes(broken.file(f"shards/{name}"), storage.read_bytes(done.file(f"shards/{names[0]}")))
    with pytest.raises(RuntimeError, match=f"trajectories of {names[1]} are not those of its examples"):
        run_trajectories(broken, proxy, prepare, recipe)
    assert not broken.is_finished


def test_the_exported_file_selects_as_the_run_did(scored, tmp_path, capsys):
    recipe, plan = scored
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe.model_dump(mode="json")))
    export = tmp_path / "losses.parquet"
    with pytest.raises(SystemExit) as ended:
        main(["trajectories", str(tmp_path / "recipe.yaml"), "--export", str(export)])
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert not ended.value.code and result["export"]["rows"] == result["pool"]["examples"]
    assert result["export"]["points"] == artifacts(plan)[2].manifest()["points"]
    select_from_file(export, recipe.selection, recipe.seed, tmp_path / "chosen")
    select = plan.step("select", "s2l").artifact
    ours = select.storage.read_table(select.file("selection.parquet"))
    assert pq.read_table(tmp_path / "chosen" / "selection.parquet").to_pylist() == ours.to_pylist()


def test_the_table_of_every_row_counts_as_the_selection_does(scored, tmp_path):
    _, plan = scored
    said = write_row_scores(f"{plan.storage.uri}/{plan.folder}", "", tmp_path / "rows.parquet")
    table = pq.read_table(tmp_path / "rows.parquet")
    # Of the run's record: another test may have run it with other settings since.
    record = find_record(f"{plan.storage.uri}/{plan.folder}", "")
    (folder,) = [f"select/{step['fingerprint']}" for step in record.steps if step["stage"] == "select" and step["arm"] == "s2l"]
    kept = {row["example_id"]: row["rank"] for row in plan.storage.read_table(f"{folder}/selection.parquet").to_pylist()}
    assert said["rows"] == plan.step("prepare").artifact.manifest()["rows"]["examples"]
    assert {i: r for i, r in zip(table["example_id"].to_pylist(), table["s2l_rank"].to_pylist(), strict=True)
            if r is not None} == kept
    sizes = {fact["cluster"]: fact["size"] for fact in plan.storage.read_json(f"{folder}/findings.json")["clusters"] if fact["size"]}
    counted = {entry["values"]: entry["counts"] for entry in table["s2l_cluster"].value_counts().to_pylist()}
    assert sum(abs(counted[cluster] - size) for cluster, size in sizes.items()) <= 2, "but for a row between two centroids"
    losses = losses_matrix(read(plan.step("trajectories").artifact, "shards"))
    assert table["last_loss"].to_numpy() == pytest.approx(losses[:, -1])
