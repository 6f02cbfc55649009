"""How few points are enough: .venv/bin/pytest tests/selectors/test_early.py"""

import json

import numpy as np
import pyarrow as pa
import pytest

from s2l_ray.errors import InputError
from s2l_ray.recipe.selection import SelectionConfig
from s2l_ray.selectors.early import early_agreement
from s2l_ray.tables.schemas import with_metadata


def table_of(losses_NC, points=True):
    count, width = losses_NC.shape
    losses = pa.FixedSizeListArray.from_arrays(pa.array(losses_NC.astype(np.float32).reshape(-1)), width)
    table = pa.table({"example_id": [f"e{n:04d}" for n in range(count)], "losses": losses})
    known = [{"step": place, "fraction": place / (width - 1)} for place in range(width)]
    return with_metadata(table, {"points": known} if points else {})


def settled(num_rows=300, num_points=7, settles=3):
    """Two groups that part for good at one point: before it all rows are noise, after it nothing changes."""
    rng = np.random.default_rng(0)
    losses = rng.normal(3, 1, (num_rows, num_points))
    groups = np.arange(num_rows) % 2
    losses[:, settles:] = 20 * groups[:, None] + 0.01 * rng.random((num_rows, 1))
    return losses


def agreement(losses_NC, **settings):
    config = SelectionConfig(**{"budget": 30, "num_clusters": 2, **settings})
    return early_agreement(table_of(losses_NC), config, 0)


def test_points_after_the_groups_have_parted_change_nothing():
    found = agreement(settled())
    first = {row["points"]: row for row in found["rows"] if row["every"] == 1}
    assert first[2]["rand"] < 0.1 and first[3]["rand"] < 0.1, "noise"
    assert all(first[count]["rand"] == pytest.approx(1) for count in (4, 5, 6, 7))
    # Two clusters of 150, 15 drawn from each: every row with probability 0.1, so 30 x 0.1 = 3 of 30 by lot.
    assert first[5]["expected"] == pytest.approx(0.1) == pytest.approx(found["expected_at_most"])
    assert first[7]["overlap"] == 1, "all points with the same seed"
    assert [first[count]["training"] for count in (2, 7)] == [pytest.approx(1 / 6), 1]
    assert first[2]["scoring"] == pytest.approx(2 / 7)


def test_unequal_clusters_are_expected_to_share_more_than_chance():
    # Clusters of 270 and 30; 15 from each: 15 / 270 and 15 / 30. Expected in common: (270 / 18^2 + 30 / 4) / 30 = 0.2778.
    losses = np.zeros((300, 4))
    losses[:30] = 9
    found = agreement(losses + np.random.default_rng(0).normal(0, 0.01, (300, 4)))
    assert found["expected_at_most"] == pytest.approx((270 / 18**2 + 30 / 4) / 30)
    assert found["overlap_by_chance"] == pytest.approx(0.1)
    assert found["seeds"]["rand"] == pytest.approx(1) and 0 < found["seeds"]["overlap"] < 1


def test_a_selection_without_a_lottery_is_the_same_by_the_points_that_settle_it():
    found = agreement(settled(), selector="high_loss")
    assert all(row["overlap"] == 1 for row in found["rows"] if row["every"] == 1 and row["points"] >= 4)
    assert found["seeds"]["overlap"] == 1


def test_clusters_are_those_of_the_settings():
    # Raw losses fall apart by their level, z-scored ones by their course: what all points say differs.
    rng = np.random.default_rng(0)
    rising = np.linspace(0, 1, 6) * np.where(rng.random(200) < 0.5, 1, -1)[:, None]
    losses = rising + 50 * rng.integers(0, 2, 200)[:, None] + rng.normal(0, 0.01, (200, 6))
    raw, scored = (agreement(losses, normalise=name)["rows"][0]["rand"] for name in ("none", "zscore"))
    assert raw == pytest.approx(1) and scored < 1, "two points rise or fall as all do, but for what is noise at the first"
    with_first = agreement(settled(), include_initial=True)["rows"][0]
    assert with_first["rand"] != agreement(settled())["rows"][0]["rand"]


def test_thinned_points_reach_to_the_end_and_everything_is_json():
    found = agreement(settled())
    thinned = [(row["points"], row["every"], row["training"]) for row in found["rows"] if row["every"] > 1]
    assert thinned == [(4, 2, 1.0), (3, 3, 1.0), (2, 4, 1.0)]
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    bare = early_agreement(table_of(settled(), points=False), SelectionConfig(budget=30, num_clusters=2), 0)
    assert bare["rows"][-1]["training"] == 1


def test_what_cannot_be_asked_is_refused():
    with pytest.raises(InputError, match="random uses no trajectories"):
        agreement(settled(), selector="random")
    with pytest.raises(InputError, match="2 points: three are needed"):
        agreement(settled()[:, :2])
