"""A training on Ray whose worker is killed, then its controller: .venv/bin/pytest tests/integration/test_killed.py"""

import math
import threading
import time

import pytest

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
