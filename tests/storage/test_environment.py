"""Variables that are set for a while."""

import os

import pytest

from s2l_ray.storage.environment import environment


def test_what_was_there_is_there_again_also_after_an_error(monkeypatch):
    monkeypatch.setenv("S2L_HAD", "before")
    monkeypatch.delenv("S2L_HAD_NOT", raising=False)
    with pytest.raises(KeyError), environment({"S2L_HAD": "within", "S2L_HAD_NOT": "within"}):
        assert os.environ["S2L_HAD"] == os.environ["S2L_HAD_NOT"] == "within"
        raise KeyError
    assert os.environ["S2L_HAD"] == "before" and "S2L_HAD_NOT" not in os.environ
