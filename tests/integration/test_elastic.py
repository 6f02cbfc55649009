"""Training on nodes that come and go: .venv/bin/pytest tests/integration/test_elastic.py"""

import contextlib
import json
import time

import pytest
import torch
from ray._raylet import GcsClient
from ray.autoscaler.v2.sdk import get_cluster_status
from ray.core.generated.autoscaler_pb2 import DRAIN_NODE_REASON_PREEMPTION
from transformers import AutoModelForCausalLM

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.undisturbed]

PROXY = {"selection.controls": [], "evaluation.tasks": [], "target.max_steps": 1, "target.zero_stage": 0}


SOON = "from s2l_ray.execution import training_progress, training; training_progress.SETTLED_S = training.SETTLED_S = 3.0"


def wait_for(condition, seconds, what):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
        time.sleep(0.2)


def proxy_folder(tmp_path):
    found = list((tmp_path / "out" / "proxy").glob("*"))
    return found[0] if found else tmp_path / "none"


def checkpoints(tmp_path):
    return sorted(path.name for path in proxy_folder(tmp_path).glob("resume/checkpoint_*"))


def num_points(tmp_path):
    return len(list(proxy_folder(tmp_path).glob("point-*")))


def manifest(tmp_path):
    return json.loads((proxy_folder(tmp_path) / "manifest.json").read_text())


@contextlib.contextmanager
def running(run):
    """Kill the run with the block; what it said is told where the block fails."""
    try:
        yield run
    except BaseException as error:
        run.kill()
        error.add_note(run.communicate()[1][-4000:])
        raise
    finally:
        run.kill()


def ended(run, seconds=600):
    out, err = run.communicate(timeout=seconds)
    assert run.returncode == 0, err[-4000:]
    return json.loads(out.splitlines()[-1]), err


@pytest.fixture(scope="module")
def nodes(lasting_nodes):
    """A head, to which each test adds nodes."""
    lasting_nodes.add(1)
    return lasting_nodes


def test_a_training_goes_on_with_fewer_workers_when_a_node_is_lost_and_with_more_when_one_comes(nodes, recipe_file, tmp_path):
    other = nodes.add(1)
    recipe = recipe_file(**{**PROXY, "proxy.max_steps": 2400, "proxy.num_checkpoints": 30, "resources.num_workers": [1, 2]})
    with running(nodes.run(recipe, command="proxy", patch=SOON)) as run:
        wait_for(lambda: checkpoints(tmp_path), 300, "a checkpoint")
        other.kill()
        wait_for(lambda: len(nodes.alive()) == 1, 120, "the loss of the node to be known")
        seen = checkpoints(tmp_path)
        wait_for(lambda: set(checkpoints(tmp_path)) - set(seen), 120, "a checkpoint of one worker")
        nodes.add(1)
        _, err = ended(run)
    assert manifest(tmp_path)["num_workers_used"] == [2, 1, 2], err[-2000:]
    assert "proxy: train: 2, then 1, then 2 workers" in err
    assert "proxy: train: there is room for more workers than 1; going on from a checkpoint with them" in err
    assert manifest(tmp_path)["total_steps"] == 2400 and num_points(tmp_path) == 4  # with the untouched model


@pytest.mark.long  # as the attacked runs
def test_a_notice_of_preemption_is_answered_with_a_checkpoint(nodes, recipe_file, tmp_path):
    recipe = recipe_file(**{**PROXY, "proxy.max_steps": 1200, "proxy.num_checkpoints": 0, "resources.num_workers": 2})
    nodes.add(1)  # what replaces the one that goes
    with running(nodes.run(recipe, command="proxy")) as run:
        wait_for(lambda: num_points(tmp_path) >= 2, 300, "a third of the training")
        assert not checkpoints(tmp_path), "the recipe asks for none"
        accepted, why = GcsClient(nodes.gcs).drain_node(
            busy_node(nodes), DRAIN_NODE_REASON_PREEMPTION, "spot", int((time.time() + 30) * 1000))
        assert accepted, why
        wait_for(lambda: checkpoints(tmp_path), 30, "the early checkpoint")
        ended(run)
    assert manifest(tmp_path)["num_workers_used"] == [2]
    interrupted = weights(tmp_path)
    ended(nodes.run(recipe, f"storage={tmp_path}/calm/out", command="proxy"))
    theirs = weights(tmp_path / "calm")
    assert max(float((interrupted[name] - theirs[name]).abs().max()) for name in theirs) < 1e-5


def busy_node(nodes):
    """The id of a node that trains, and is not the head."""
    used = {node.node_id: {usage.resource_name: usage.used for usage in node.resource_usage.usage}
            for node in get_cluster_status(nodes.gcs).active_nodes}
    return next(node for node, usage in used.items() if usage.get("CPU") and "node:__internal_head__" not in usage)


def weights(tmp_path):
    return AutoModelForCausalLM.from_pretrained(proxy_folder(tmp_path) / "model", dtype=torch.float32).state_dict()
