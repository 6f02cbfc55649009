"""What a node must have, of a node that lacks it: .venv/bin/pytest tests/execution/test_node.py"""

import pytest

from s2l_ray.errors import InputError
from s2l_ray.execution.node import check_node, look
from s2l_ray.storage.files import Storage


@pytest.fixture
def node(tmp_path):
    """What this machine has."""
    return look(Storage(str(tmp_path)), "f", "x", "node 10.0.0.7", [])


def test_a_node_without_a_package_that_adds_to_ours_is_refused_by_name(node, installed):
    check_node(node)
    installed("s2l-letters", {"selectors": {"by_length": "m:SELECTOR"}}, version="1.2")
    with pytest.raises(InputError, match=r"node 10\.0\.0\.7 has no s2l-letters: install the same versions on every node"):
        check_node(node)


def test_another_version_of_it_is_refused_with_both(node, installed):
    installed("s2l-letters", {"selectors": {"by_length": "m:SELECTOR"}}, version="1.2")
    node["versions"]["s2l-letters"] = "1.1"
    with pytest.raises(InputError, match=r"has s2l-letters 1\.1 instead of 1\.2"):
        check_node(node)
