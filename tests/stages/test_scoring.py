"""What scoring in bf16 hides of a training: .venv/bin/pytest tests/stages/test_scoring.py"""

import json

import numpy as np
import pyarrow as pa
import pytest
import torch

from s2l_ray.modeling.losses import LossScorer, table_losses
from s2l_ray.modeling.models import finish_folder, load_model, save_weights
from s2l_ray.modeling.schedule import TrajectoryPoint
from s2l_ray.quickstart import ASSETS
from s2l_ray.recipe.model import ModelConfig
from s2l_ray.recipe.scoring import TrajectoryConfig
from s2l_ray.stages.trajectories import _agreement_facts
from s2l_ray.stages.workers.scoring import ShardScorer
from s2l_ray.storage.artifacts import Artifact
from s2l_ray.storage.files import Storage
from s2l_ray.tables.schemas import EXAMPLES, shard_name

BASE = ModelConfig(path=str(ASSETS / "proxy_base"))


def learned(model, table, share):
    """Change every weight by a share of itself in the direction that lowers the losses."""
    ids = torch.tensor(table["input_ids"].to_pylist())
    model(input_ids=ids, labels=ids).loss.backward()
    with torch.no_grad():
        for weight in model.parameters():
            weight.sub_(weight.grad.sign() * weight.abs() * share)
    model.zero_grad()
    return model


@pytest.fixture
def score(tmp_path):
    """A function (share of every weight by which training changes it) -> what is said of bf16, with the real losses."""
    rng = np.random.default_rng(0)
    ids = [rng.integers(5, 200, 24).tolist() for _ in range(16)]
    names = [f"row-{n}" for n in range(len(ids))]
    table = pa.table([names, ["a"] * 16, ids, [[False] * 4 + [True] * 20] * 16, [24] * 16, [20] * 16], schema=EXAMPLES)

    def make(share):
        storage = Storage(str(tmp_path))
        examples, proxy, made = (Artifact(storage, stage, {"share": share}) for stage in ("prepare", "proxy", "trajectories"))
        examples.write_table(f"examples/{shard_name(0)}", table)
        model = load_model(BASE, vocab_size=0, seed=0)
        for weight in model.parameters():  # as it is published: in bf16
            weight.data = weight.data.bfloat16().float()
        points, exact = [TrajectoryPoint(step, step / 4) for step in (0, 4)], []
        for point in points:
            if point.step:
                learned(model, table, share)
            folder = tmp_path / "scratch" / str(share) / point.folder
            folder.mkdir(parents=True)
            save_weights(model, folder)
            finish_folder(folder, BASE)
            storage.upload_folder(folder, f"{proxy.folder}/{point.folder}")
            exact.append(table_losses([LossScorer(model)], table, 512)[:, 0])
        scorer = ShardScorer(made, proxy, examples, TrajectoryConfig(num_points=1, precision="bf16"), points)
        return scorer.run(shard_name(0)), np.array(exact).T

    return make


def test_weights_changed_by_less_than_bf16_can_tell_apart_are_said_with_how_much_is_hidden(score, capsys):
    # bf16 has 8 bits of a weight: what changes it by 1/1024 of itself is rounded away, but in embeddings and norms,
    # which are held in fp32 on CPUs.
    row, exact_NC = score(2**-10)
    assert row["mean_learned"] == pytest.approx(float((exact_NC[:, 0] - exact_NC[:, 1]).mean()), abs=0.02)
    assert 0.1 < row["mean_excess"] / row["mean_learned"] <= 1.1
    facts = _agreement_facts([{"num_compared": 0}, json.loads(json.dumps(row))])
    said = capsys.readouterr().err
    assert "trajectories: bf16 hides " in said and "trajectory.precision=fp32" in said
    assert facts["bf16_from_fp32"]["mean_learned"] == row["mean_learned"]


def test_a_training_that_bf16_shows_is_not_spoken_of(score, capsys):
    row, _ = score(2**-5)
    _agreement_facts([row])
    said = capsys.readouterr().err
    assert "of fp32" in said and "hides" not in said


def test_a_proxy_that_learned_nothing_hides_nothing(capsys):
    row = {"num_compared": 4, "mean_difference": 0.1, "largest_difference": 0.2, "mean_excess": 0.1, "mean_learned": -0.01}
    _agreement_facts([row])
    assert "hides" not in capsys.readouterr().err
