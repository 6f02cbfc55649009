"""Starting a cluster on a machine that is too busy for Ray's own patience: .venv/bin/pytest tests/execution/test_cluster.py"""

import inspect

import pytest
import ray
from ray._private.node import Node

from s2l_ray.execution import cluster


@pytest.fixture
def starts(monkeypatch, tmp_path):
    """Stands in for `ray.init`, which can hardly be made slow: each start takes the next outcome."""
    outcomes, given = [], []

    def init(**options):
        given.append(options)
        if (error := outcomes.pop(0)) is not None:
            raise error

    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setenv("HOME", str(tmp_path))
    return outcomes, given


def test_a_start_that_took_too_long_is_repeated_and_reported(starts, capsys):
    outcomes, given = starts
    outcomes += [Exception("The current node timed out during startup. This could"), None]
    cluster.start_local(3, object_store_memory=1)
    assert len(given) == 2 and given[0] == given[1] and given[0]["num_cpus"] == 3
    assert "this machine is busy; trying again (1 of 2)" in capsys.readouterr().err


def test_three_are_enough_and_other_errors_are_not_repeated(starts):
    outcomes, given = starts
    outcomes += [Exception("The current node timed out during startup.")] * 3
    with pytest.raises(Exception, match="timed out during startup"):
        cluster.start_local(2)
    assert len(given) == 3
    outcomes += [ValueError("no such option")]
    with pytest.raises(ValueError, match="no such option"):
        cluster.start_local(2)
    assert len(given) == 4


def test_ray_still_says_it_in_these_words():
    assert cluster._TOO_SLOW in inspect.getsource(Node.__init__), (
        f"Ray {ray.__version__} words a slow start otherwise: adapt _TOO_SLOW in s2l_ray/execution/cluster.py")


def test_the_token_is_for_its_owner_alone(starts, tmp_path):
    token = tmp_path / ".ray" / "auth_token"
    token.parent.mkdir()
    token.write_text("secret")
    token.chmod(0o644)
    starts[0].append(None)
    cluster.start_local(2)
    assert token.stat().st_mode & 0o777 == 0o600
