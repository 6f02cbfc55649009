"""What more data would buy, in sentences: .venv/bin/pytest tests/report/test_advice.py"""

from types import SimpleNamespace

import numpy as np

from s2l_ray.metrics.seeds import SeedEstimate
from s2l_ray.report.advice import advice
from s2l_ray.report.scores import Score, Scores


def scores_of(rows, *, full=None, lower_is_better=False):
    """Scores from (label, share, value, half an interval), three seeds each."""
    found = [Score(SimpleNamespace(label=label, control=None), SeedEstimate(value, value - half, value + half, 0.5, 100, 3),
                   0, share) for label, share, value, half in rows]
    if full is not None:
        found.append(Score(SimpleNamespace(label="full", control="whole pool"),
                           SeedEstimate(full, full - 0.001, full + 0.001, 0.5, 100, 1), 0, 1.0))
    return Scores(SimpleNamespace(lower_is_better=lower_is_better), tuple(found), (), (), None)


def rising(label, shares, half, sign=1):
    """On the curve 0.7 - 0.05 b^-0.4."""
    return [(label, share, sign * (0.7 - 0.05 * share**-0.4), half) for share in shares]


def test_what_is_clear_is_said_with_its_interval():
    first, second, last = advice(scores_of(rising("s2l", (0.02, 0.05, 0.11, 0.25), 1e-5), full=0.62))
    # 0.05 (0.25^-0.4 - 0.26^-0.4) = 0.00136; the curve is at 0.62 where b = 0.309, at 0.619 (full data's lower end) where b = 0.300.
    assert first.startswith("s2l: one more percent of the pool beyond 25\u00a0% is expected to change it by +0.0014 (95 %: +")
    assert second == "s2l: the smallest budget whose interval reaches full data's 0.620 is about 30\u00a0%."
    assert last.startswith("These come from a curve")


def test_what_cannot_be_told_says_how_many_seeds_would():
    first, *_ = advice(scores_of(rising("s2l", (0.02, 0.05, 0.11, 0.25), 0.15)))
    assert "would buy cannot be told yet" in first
    assert " seeds instead of 3 would, as far as it is they that differ." in first or "no number of seeds" in first
    flat = [("random", share, 0.5 + 0.001 * (-1) ** n, 0.05) for n, share in enumerate((0.02, 0.05, 0.11, 0.25))]
    assert "no number of seeds up to a hundred would: more held-out examples" in advice(scores_of(flat))[0]


def test_a_loss_falls_and_the_whole_pool_has_no_next_percent():
    rows = rising("s2l", (0.1, 0.3, 1.0), 1e-5, sign=-1)
    first, second, _ = advice(scores_of(rows, full=-0.65, lower_is_better=True))
    assert first.startswith("s2l: the last percent of the pool is expected to change it by \u2212")
    assert second.startswith("s2l: the smallest budget whose interval reaches full data's -0.650 is about ")
    share = float(second.rpartition("about ")[2].split("\u00a0")[0])
    assert np.isclose(share, 99, atol=4), "0.7 - 0.05 b^-0.4 = 0.65 at b = 1"


def test_two_budgets_are_no_curve():
    assert advice(scores_of(rising("s2l", (0.1, 0.3), 0.01), full=0.6)) == []
