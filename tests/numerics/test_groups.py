"""Members and means of groups: .venv/bin/pytest tests/numerics/test_groups.py"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s2l_ray.numerics import groups
from s2l_ray.numerics.groups import group_means, group_members

LABELS = st.lists(st.integers(0, 5), max_size=60).map(lambda labels: np.array(labels, dtype=np.int32))


@settings(deadline=None)
@given(LABELS)
def test_members_are_the_ascending_positions(labels):
    members = group_members(labels, 7)
    assert [rows.tolist() for rows in members] == [np.flatnonzero(labels == group).tolist() for group in range(7)]


def test_members_by_hand_in_small_pieces(monkeypatch):
    monkeypatch.setattr(groups, "_CHUNK", 2)
    assert [rows.tolist() for rows in group_members(np.array([2, 0, 2, 2, 0]), 3)] == [[1, 4], [], [0, 2, 3]]


def test_means_by_hand():
    # Group 0: (1, 2) and (3, 6), mean (2, 4); group 1 is empty; group 2: (5, 5).
    rows = np.array([[1, 2], [5, 5], [3, 6]], dtype=np.float32)
    assert group_means(rows, np.array([0, 2, 0]), 3).tolist() == [[2, 4], [0, 0], [5, 5]]


def test_means_of_many_blocks_are_those_of_numpy():
    rng = np.random.default_rng(0)
    rows, labels = rng.random((300_000, 3)).astype(np.float32), rng.integers(0, 4, 300_000)
    expected = [rows[labels == group].astype(np.float64).mean(axis=0) for group in range(4)]
    assert group_means(rows, labels, 4) == pytest.approx(np.array(expected), rel=1e-12)
