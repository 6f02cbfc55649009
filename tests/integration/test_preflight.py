"""What every node must be able to do, on nodes that cannot: .venv/bin/pytest tests/integration/test_preflight.py"""

import os

import pytest

from s2l_ray.errors import InputError
from s2l_ray.execution import node
from s2l_ray.execution.inputs import local_inputs
from s2l_ray.execution.preflight import check_nodes, describe_nodes
from s2l_ray.storage.artifacts import package_versions
from s2l_ray.storage.files import Storage

pytestmark = pytest.mark.integration


@pytest.fixture
def storage(tmp_path):
    return Storage.open(str(tmp_path / "out"))


def test_a_node_that_can_do_the_work_is_described(ray_cluster, storage, tmp_path):
    nodes = list(check_nodes(storage, [str(tmp_path)]).values())
    assert len(nodes) == 1 and nodes[0]["versions"] == package_versions() and nodes[0]["missing"] == []
    assert describe_nodes(nodes).startswith("1 node: 2 CPUs, 0 GPUs, ")
    assert [name for name in storage.list_names("") if "preflight" in name] == []


def test_an_input_that_a_node_does_not_see_is_named(ray_cluster, storage):
    with pytest.raises(InputError, match=r"node \S+ does not see /nowhere/pool.jsonl: use a folder that all nodes share"):
        check_nodes(storage, ["/nowhere/pool.jsonl"])


def test_other_versions_are_refused_with_both(ray_cluster, storage, monkeypatch):
    monkeypatch.setattr(node, "package_versions", lambda: {**package_versions(), "numpy": "0.1", "older": "1"})
    # The function travels to the node by name, so that the node answers with what it really has.
    with pytest.raises(InputError, match=r"has numpy \S+ instead of 0.1, no older: install the same versions"):
        check_nodes(storage, [])


def test_a_full_disk_is_refused_with_what_is_left(ray_cluster, storage, monkeypatch):
    monkeypatch.setattr(node, "_MIN_DISK_BYTES", 1 << 60)
    with pytest.raises(InputError, match=r"GB of disk left in .*; at least 1152921504.6 GB are needed"):
        check_nodes(storage, [])


def test_little_memory_is_refused_with_what_is_left(ray_cluster, storage, monkeypatch):
    monkeypatch.setattr(node, "_MIN_MEMORY_BYTES", 1 << 60)
    with pytest.raises(InputError, match=r"GB of memory left; at least 1152921504.6 GB are needed"):
        check_nodes(storage, [])


@pytest.fixture(scope="module")
def two_nodes(lasting_nodes, tmp_path_factory):
    """A cluster whose second node sees other disks than the first in two folders: (the cluster, those folders by kind)."""
    folders = {kind: tmp_path_factory.mktemp(kind) for kind in ("own", "read_only")}
    lasting_nodes.add(1)
    lasting_nodes.add(1, mounts="mount -t tmpfs tmpfs {own} && mount --bind {read_only} {read_only} && "
                                "mount -o remount,ro,bind {read_only}".format(**folders))
    return lasting_nodes, folders


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="gives a node mounts of its own: needs root")
@pytest.mark.parametrize(("kind", "said"), [
    ("own", "does not see what another node wrote"), ("read_only", "cannot write"),
])
def test_a_storage_that_does_not_serve_all_nodes_is_refused_before_work(two_nodes, recipe_file, kind, said):
    nodes, folders = two_nodes
    run = nodes.run(recipe_file(**{"selection.controls": []}), f"storage={folders[kind]}", "--dry-run")
    _, err = run.communicate(timeout=300)
    assert run.returncode == 2, err
    assert "does not serve all 2 nodes: node" in err and said in err and "Traceback" not in err
    assert list(folders[kind].glob("*/*")) == [], "nothing was done, and what the check wrote is gone"


def test_inputs_are_files_of_this_machine_alone(small_recipe, word_problems, tmp_path):
    recipe = small_recipe(word_problems, tmp_path)
    found = local_inputs(recipe)
    assert found == [str(word_problems / "pool.jsonl"), str(word_problems / "held_out.jsonl"), recipe.proxy.model.path,
                     recipe.target.model.path]
    remote = recipe.model_copy(update={"data": recipe.data.model_copy(update={"path": "s3://bucket/pool.jsonl"})})
    assert local_inputs(remote) == found[1:]

