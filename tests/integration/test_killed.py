"""Trainings on Ray whose worker or controller is killed: .venv/bin/pytest tests/integration/test_killed.py"""

import math
import threading
import time
from pathlib import Path

import pytest
import ray

from s2l_ray.execution import capacity
from s2l_ray.execution.ray_internals import checkpoints_record
from s2l_ray.pipeline.plan import plan_run
from s2l_ray.pipeline.run import run_plan
from s2l_ray.stages.finetune import run_finetune
from s2l_ray.stages.proxy import run_proxy
from s2l_ray.storage.artifacts import Artifact

pytestmark = [pytest.mark.integration, pytest.mark.slow]


def test_what_is_killed_in_mid_epoch_changes_no_weights_of_model_and_points(
    finished_on_ray, on_this_machine, processes_of, weights_of
):
    prepare, recipe = finished_on_ray.step("prepare").artifact, finished_on_ray.recipe
    proxy = recipe.proxy.model_copy(update={"max_steps": 120, "num_checkpoints": 4})
    longer = recipe.model_copy(update={"proxy": proxy})
    steps_an_epoch = math.ceil(prepare.manifest()["rows"]["examples"] / proxy.global_batch_size)
    # An example that a resumed epoch left out or took twice would be another step of Adam: up to 1e-3 a weight.
    assert all(step % steps_an_epoch for step in (24, 48, 72, 96)), "no checkpoint is at the end of an epoch"
    calm, interrupted = (Artifact(prepare.storage, "proxy", {"case": case}, {"examples": prepare.fingerprint})
                         for case in ("calm", "killed"))
    killed = {}

    def saved():
        names = prepare.storage.list_names(interrupted.file("resume"))
        return {name for name in names if name.startswith("checkpoint")}

    def kill_both():
        seen, deadline = set(), time.monotonic() + 240
        for kind in ("RayTrainWorker", "TrainController"):
            while time.monotonic() < deadline and kind not in killed:
                found = processes_of(kind) if saved() - seen else []
                if found:
                    seen = saved()
                    killed[kind] = sorted(seen)
                    found[0].kill()
                time.sleep(0.02)

    with on_this_machine():
        run_proxy(calm, prepare, longer)
    thread = threading.Thread(target=kill_both, daemon=True)
    thread.start()
    run_proxy(interrupted, prepare, longer)
    thread.join()
    assert list(killed) == ["RayTrainWorker", "TrainController"], "the training ended before its checkpoints were seen"
    assert not interrupted.exists("resume"), "resume checkpoints are cleared away"
    assert interrupted.manifest()["points"] == calm.manifest()["points"]
    ours, theirs = weights_of(interrupted), weights_of(calm)
    assert ours.keys() == theirs.keys() and len(ours) == 1 + len(calm.manifest()["points"])
    for file, tensors in theirs.items():
        assert max(float((tensor - ours[file][name]).abs().max()) for name, tensor in tensors.items()) < 1e-5, file


@ray.remote(num_cpus=1)
class Other:
    """Takes a core as soon as it is free."""


def test_a_target_that_loses_a_worker_and_its_core_goes_on_with_the_other(
    ray_cluster, on_this_machine, small_recipe, word_problems, processes_of, weights_of, monkeypatch, tmp_path, capsys
):
    recipe = small_recipe(word_problems, tmp_path, **{
        "selection.selector": "random", "selection.controls": [], "target.zero_stage": 3, "target.precision": "fp32",
        "target.max_steps": 30, "target.num_checkpoints": 1, "target.micro_batch_size": 2})
    plan = plan_run(recipe)
    done, selection, examples = (plan.step(stage, of).artifact for stage, of in (
        ("finetune", "random"), ("select", "random"), ("prepare", None)))
    calm, interrupted = (Artifact(done.storage, "finetune", {**done.identity, "case": case}, done.parents)
                         for case in ("calm", "fewer"))
    noted = Path(interrupted.storage.path(interrupted.file("resume/checkpoint_manager_snapshot.json")))
    others, ended = [], threading.Event()

    def lose():
        while not others and not ended.wait(0.02):
            # Train's own list of checkpoints: a folder is there before all of its files are.
            if noted.exists() and "checkpoint_dir_name" in noted.read_text(encoding="utf-8"):
                others.append(Other.remote())
                monkeypatch.setattr(capacity, "_FREE_S", 1.0)  # the other core is not waited for
                processes_of("RayTrainWorker")[0].kill()

    with on_this_machine():
        run_plan(plan_run(recipe, "select"), "test")
        run_finetune(calm, selection, examples, recipe, "test")
    resources = recipe.resources.model_copy(update={"num_workers": (1, 2)})
    thread = threading.Thread(target=lose, daemon=True)
    thread.start()
    try:
        facts = run_finetune(interrupted, selection, examples, recipe.model_copy(update={"resources": resources}), "test")
    finally:
        ended.set()
        thread.join()
        for other in others:
            ray.kill(other)
    said = " ".join(capsys.readouterr().err.split())
    assert facts["num_workers_used"] == [2, 1], said
    assert "finetune on test: going on with 1 worker from a checkpoint of 2, converted to a universal checkpoint" in said
    (file, theirs), = weights_of(calm).items()
    ours = weights_of(interrupted)[file]
    assert max(float((tensor - ours[name]).abs().max()) for name, tensor in theirs.items()) < 1e-5


def test_a_list_of_checkpoints_that_a_full_disk_cut_off_is_passed_over(
    ray_cluster, small_recipe, word_problems, tmp_path, capsys
):
    plan = plan_run(small_recipe(word_problems, tmp_path / "out"), "proxy")
    proxy = plan.step("proxy").artifact
    folder = Path(proxy.storage.path(proxy.file("resume")))
    folder.mkdir(parents=True)
    (folder / checkpoints_record()).write_text("")
    run_plan(plan, "test")
    assert "the list of its checkpoints was cut off" in capsys.readouterr().err
    assert proxy.manifest()["total_steps"] == 6 and not folder.exists()
