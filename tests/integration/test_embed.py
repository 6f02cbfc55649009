"""Embeddings, and a selector that needs them: .venv/bin/pytest tests/integration/test_embed.py"""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from transformers import AutoModel

from s2l_ray.errors import InputError
from s2l_ray.pipeline.plan import plan_run
from s2l_ray.pipeline.run import run_plan
from s2l_ray.recipe.resources import ResourcesConfig
from s2l_ray.recipe.selection import SelectionConfig
from s2l_ray.tables.schemas import vectors_matrix

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("here")]


@pytest.fixture(scope="module")
def embedded(here, finished):
    """The finished run's line again, asked for a k-center selection: (plan, labels of what had to be run)."""
    recipe = finished[0]
    selection = recipe.selection.model_copy(update={"selector": "k_center", "controls": []})
    plan = plan_run(recipe.model_copy(update={"selection": selection, "name": "embedded"}), "select")
    done = run_plan(plan, "test")
    return plan, [one.step.label for one in done if not one.is_reused]


def test_only_what_the_selector_needs_is_computed(embedded):
    plan, run = embedded
    assert [step.label for step in plan.steps] == ["prepare", "proxy", "embed", "select k_center"]
    assert run == ["embed", "select k_center"], "the proxy is the finished run's"


def test_embeddings_are_the_mean_of_the_last_hidden_state_at_unit_length(embedded):
    plan, _ = embedded
    embed, prepare, proxy = (plan.step(label).artifact for label in ("embed", "prepare", "proxy"))
    storage = embed.storage
    model = AutoModel.from_pretrained(storage.path(proxy.file("model")), dtype=torch.float32).eval()
    for shard in storage.list_names(embed.file("shards"))[:2]:
        table = storage.read_table(embed.file(f"shards/{shard}"))
        examples = storage.read_table(prepare.file(f"examples/{shard}"))
        assert table["example_id"].equals(examples["example_id"])
        vectors_ND = vectors_matrix(table, "embedding")
        for row in range(0, table.num_rows, 23):
            with torch.no_grad():
                hidden_TD = model(torch.tensor([examples["input_ids"][row].as_py()])).last_hidden_state[0]
            expected = hidden_TD.mean(dim=0) / hidden_TD.mean(dim=0).norm()
            assert vectors_ND[row] == pytest.approx(expected.numpy(), abs=1e-5)
        assert np.linalg.norm(vectors_ND, axis=1) == pytest.approx(np.ones(table.num_rows), abs=1e-5)


def test_a_wanted_tasks_examples_are_represented_as_the_pools_are_and_the_nearest_taken(here, finished, tmp_path):
    """Rows of the pool itself, as examples of what is wanted, choose themselves first."""
    recipe = finished[0]
    pool = [json.loads(line) for line in Path(recipe.data.path).read_text().splitlines()]
    (tmp_path / "solved.jsonl").write_text("".join(f"{json.dumps(pool[row])}\n" for row in (40, 7)))
    selection = SelectionConfig(selector="representation", budget=10, task_examples=[
        {"name": "sums", "path": str(tmp_path / "solved.jsonl")}])
    plan = plan_run(recipe.model_copy(update={"selection": selection, "name": "wanted"}), "select")
    labels = [step.label for step in plan.steps]
    assert labels == ["prepare", "prepare wanted sums", "proxy", "embed representations", "embed wanted sums",
                      "select representation"]
    run_plan(plan, "test")
    embed, examples, proxy = (plan.step(*label).artifact for label in (
        ("embed", "wanted sums"), ("prepare", "wanted sums"), ("proxy",)))
    model = AutoModel.from_pretrained(embed.storage.path(proxy.file("model")), dtype=torch.float32).eval()
    (shard,) = embed.list_names("shards")
    vectors_MD = vectors_matrix(embed.read_table(f"shards/{shard}"), "embedding")
    for vector, ids in zip(vectors_MD, examples.read_table(f"examples/{shard}")["input_ids"].to_pylist(), strict=True):
        with torch.no_grad():
            hidden_TD = model(torch.tensor([ids])).last_hidden_state[0]
        mean = torch.arange(1.0, len(ids) + 1) @ hidden_TD
        assert vector == pytest.approx((mean / mean.norm()).numpy(), abs=1e-5)
    chosen = plan.step("select", "representation").artifact
    rows = [json.loads(line) for line in chosen.storage.read_bytes(chosen.file("subset.jsonl")).splitlines()]
    assert len(rows) == 10 and {json.dumps(row) for row in rows[:2]} == {json.dumps(pool[row]) for row in (40, 7)}
    assert chosen.read_json("findings.json")["num_same_as_a_task_example"] == 2


def test_without_examples_of_a_task_nothing_is_started(finished):
    recipe = finished[0]
    selection = SelectionConfig(selector="representation", budget=10)
    with pytest.raises(InputError, match=r"selection\.task_examples"):
        plan_run(recipe.model_copy(update={"selection": selection, "name": "wanted"}), "select")


def test_the_number_of_workers_does_not_change_a_byte(embedded):
    from s2l_ray.stages.embed import run_embed
    from s2l_ray.storage.artifacts import Artifact

    plan, _ = embedded
    done, prepare, proxy = (plan.step(label).artifact for label in ("embed", "prepare", "proxy"))
    again = Artifact(done.storage, "embed", {**done.identity, "copy": 1}, done.parents)
    alone = plan.recipe.model_copy(update={"resources": ResourcesConfig(num_scoring_workers=1)})
    run_embed(again, prepare, proxy, alone, "mean")
    read = done.storage.read_bytes
    names = done.storage.list_names(done.file("shards"))
    assert names and all(read(done.file(f"shards/{n}")) == read(again.file(f"shards/{n}")) for n in names)


def test_the_selection_has_the_budget(embedded):
    plan, _ = embedded
    artifact = plan.step("select", "k_center").artifact
    table: pa.Table = artifact.read_table("selection.parquet")
    assert table.num_rows == 44 and set(artifact.parents) == {"examples", "target_examples", "embeddings"}
