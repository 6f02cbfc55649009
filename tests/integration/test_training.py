"""Ray Train with DDP and DeepSpeed, interrupted and resumed: .venv/bin/pytest tests/integration/test_training.py"""

import contextlib
import math
import threading
import time

import numpy as np
import psutil
import pyarrow as pa
import pytest
import torch
from transformers import AutoModelForCausalLM

from s2l_ray.pipeline.plan import plan_run
from s2l_ray.pipeline.run import run_plan
from s2l_ray.stages.finetune import run_finetune
from s2l_ray.stages.proxy import run_proxy
from s2l_ray.stages.trajectories import run_trajectories
from s2l_ray.storage.artifacts import Artifact
from s2l_ray.tables.schemas import losses_matrix

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def selected(ray_cluster, small_recipe, word_problems, tmp_path_factory):
    """(recipe, plan) with a random selection made."""
    recipe = small_recipe(word_problems, tmp_path_factory.mktemp("storage"), name="selected",
                          **{"selection.selector": "random", "selection.controls": [], "target.precision": "fp32"})
    plan = plan_run(recipe)
    run_plan(plan_run(recipe, "select"), "test")
    return recipe, plan


def finetune(selected, num_workers=2, **changes):
    """Fine-tune under other settings into an artifact of their own; returns its model."""
    recipe, plan = selected
    changed = recipe.model_copy(update={
        "target": recipe.target.model_copy(update=changes),
        "resources": recipe.resources.model_copy(update={"num_workers": num_workers})})
    done = plan.step("finetune", "random").artifact
    artifact = Artifact(done.storage, "finetune", {**done.identity, "case": [num_workers, changes]}, done.parents)
    selection, examples = plan.step("select", "random").artifact, plan.step("prepare").artifact
    run_finetune(artifact, selection, examples, changed, "test")
    return AutoModelForCausalLM.from_pretrained(artifact.storage.path(artifact.file("model")), dtype=torch.float32)


def processes_of(kind):
    """This session's processes of Ray's name; asking its state API would take longer than they live."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):  # it ended while we looked
            if f"ray::{kind}" in " ".join(process.cmdline()):
                found.append(process)
    return found


def farthest(model, other):
    weights = other.state_dict()
    return max(float((w - weights[name]).abs().max()) for name, w in model.state_dict().items())


@pytest.fixture(scope="module")
def stage_0(selected):
    return finetune(selected, zero_stage=0)


@pytest.mark.parametrize("zero_stage", [1, 2, 3])
def test_every_zero_stage_ends_as_the_same_loadable_model(selected, stage_0, zero_stage):
    # fp32, one seed: sharding moves memory about and must not move the result. A learning rate of 1e-3 over 3 steps
    # moves weights by up to 3e-3, so 1e-5 leaves no room for another gradient.
    assert farthest(finetune(selected, zero_stage=zero_stage), stage_0) < 1e-5


def test_one_worker_trains_the_same_model_as_two(selected, stage_0):
    assert farthest(finetune(selected, num_workers=1, zero_stage=0), stage_0) < 1e-5


def test_training_moves_the_weights(selected, stage_0):
    recipe, _ = selected
    base = AutoModelForCausalLM.from_pretrained(recipe.target.model.path, dtype=torch.float32)
    assert farthest(base, stage_0) > 1e-4


@pytest.mark.slow
def test_what_is_killed_in_mid_epoch_changes_neither_weights_nor_trajectories(selected):
    recipe, plan = selected
    prepare = plan.step("prepare").artifact
    proxy = recipe.proxy.model_copy(update={"max_steps": 120, "num_checkpoints": 4})
    longer = recipe.model_copy(update={"proxy": proxy})
    steps_an_epoch = math.ceil(prepare.manifest()["rows"]["examples"] / proxy.global_batch_size)
    # An example that a resumed epoch left out or took twice would be another step of Adam: up to 1e-3 a weight.
    assert all(step % steps_an_epoch for step in (24, 48, 72, 96)), "no checkpoint is at the end of an epoch"
    killed = []

    def kill_one(kind, folder):
        deadline = time.monotonic() + 240
        while time.monotonic() < deadline and kind not in killed:
            saved = [n for n in prepare.storage.list_names(folder) if n.startswith("checkpoint")]
            found = processes_of(kind) if saved else []
            if found:
                found[0].kill()
                killed.append(kind)
            time.sleep(0.02)

    def train(case, kill=None):
        artifact = Artifact(prepare.storage, "proxy", {"case": case}, {"examples": prepare.fingerprint})
        thread = threading.Thread(target=kill_one, args=(kill, artifact.file("resume")), daemon=True)
        if kill:
            thread.start()
        run_proxy(artifact, prepare, longer)
        assert not artifact.storage.exists(artifact.file("resume")), "resume checkpoints are cleared away"
        folders = ["model", *(f"point-{p['step']:08d}" for p in artifact.manifest()["points"])]
        models = [AutoModelForCausalLM.from_pretrained(artifact.storage.path(artifact.file(f))) for f in folders]
        losses = Artifact(prepare.storage, "trajectories", {"case": case}, {"proxy": artifact.fingerprint})
        run_trajectories(losses, artifact, prepare, longer)
        shards = prepare.storage.list_names(losses.file("shards"))
        return models, pa.concat_tables([prepare.storage.read_table(losses.file(f"shards/{name}")) for name in shards])

    calm, calm_losses = train("calm")
    for kind in ("RayTrainWorker", "TrainController"):
        interrupted, losses = train(f"killed {kind}", kill=kind)
        assert kind in killed, "nothing was killed: the training ended before its first checkpoint was seen"
        for ours, theirs in zip(interrupted, calm, strict=True):
            assert farthest(ours, theirs) < 1e-5
        assert losses["example_id"] == calm_losses["example_id"]
        np.testing.assert_allclose(losses_matrix(losses), losses_matrix(calm_losses), atol=1e-4)
