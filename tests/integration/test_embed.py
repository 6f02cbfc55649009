"""Embeddings, and a selector that needs them, on real Ray: .venv/bin/pytest tests/integration/test_embed.py"""

import numpy as np
import pyarrow as pa
import pytest
import torch
from transformers import AutoModel

from s2l_ray.config import ResourcesConfig
from s2l_ray.pipeline import plan_line, run_line
from s2l_ray.tables import vectors_matrix

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def embedded(finished):
    """The finished run's line again, asked for a k-center selection: (line, labels of what had to be run)."""
    recipe = finished[0]
    selection = recipe.selection.model_copy(update={"selector": "k_center", "controls": []})
    line = plan_line(recipe.model_copy(update={"selection": selection, "name": "embedded"}), "select")
    accounts = run_line(line, "test")
    return line, [account["label"] for account in accounts if not account["reused"]]


def test_only_what_the_selector_needs_is_computed(embedded):
    line, run = embedded
    assert [step.label for step in line.steps] == ["prepare", "proxy", "embed", "select k_center"]
    assert run == ["embed", "select k_center"], "the proxy is the finished run's"


def test_embeddings_are_the_mean_of_the_last_hidden_state_at_unit_length(embedded):
    line, _ = embedded
    embed, prepare, proxy = (line.step(label).artifact for label in ("embed", "prepare", "proxy"))
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


def test_the_number_of_workers_does_not_change_a_byte(embedded):
    from s2l_ray.artifacts import Artifact
    from s2l_ray.stages.embed import run_embed

    line, _ = embedded
    done, prepare, proxy = (line.step(label).artifact for label in ("embed", "prepare", "proxy"))
    again = Artifact(done.storage, "embed", {**done.identity, "copy": 1}, done.parents)
    run_embed(again, line.recipe.embedding, proxy, prepare, ResourcesConfig(num_scoring_workers=1))
    read = done.storage.read_bytes
    names = done.storage.list_names(done.file("shards"))
    assert names and all(read(done.file(f"shards/{n}")) == read(again.file(f"shards/{n}")) for n in names)


def test_the_selection_has_the_budget(embedded):
    line, _ = embedded
    artifact = line.step("select k_center").artifact
    table: pa.Table = artifact.storage.read_table(artifact.file("selection.parquet"))
    assert table.num_rows == 44 and set(artifact.parents) == {"examples", "target_examples", "embeddings"}
