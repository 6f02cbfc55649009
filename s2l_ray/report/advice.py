"""What the next percent of data is expected to buy, and the smallest budget that reaches full data."""

import numpy as np

from s2l_ray.metrics.budget_curve import FEWEST_BUDGETS, BudgetCurve, fit_budget_curve, seeds_that_would_tell
from s2l_ray.metrics.intervals import NORMAL_QUANTILE
from s2l_ray.report.figures import number, percent, sign
from s2l_ray.report.scores import Score, Scores

_STEP = 0.01
_PLACES = np.arange(1, 101) / 100


def advice(scores: Scores) -> list[str]:
    """Return sentences about each configuration that was run at three budgets or more."""
    assert scores.metric is not None
    labels = dict.fromkeys(s.point.label for s in scores.scores if s.point.control != "whole pool")
    sentences = []
    for label in labels:
        own = sorted((score for score in scores.scores if score.point.label == label), key=lambda score: score.share)
        if len({score.share for score in own}) >= FEWEST_BUDGETS:
            curve = fit_budget_curve(*(np.array(column) for column in zip(*map(_measured, own), strict=True)))
            sentences += [_next_percent(label, own, curve), *_reaching(label, own, curve, scores)]
    if sentences:
        sentences.append("These come from a curve A - C b^-g through each configuration's budgets (arXiv 1712.00409), "
                         "and hold between and just beyond them.")
    return sentences


def _measured(score: Score) -> tuple[float, float, float]:
    return score.share, score.estimate.value, (score.estimate.high - score.estimate.low) / 2 / NORMAL_QUANTILE


def _next_percent(label: str, own: list[Score], curve: BudgetCurve) -> str:
    """Say what one more percent of the pool would change."""
    last, seeds = own[-1].share, min(score.estimate.num_seeds for score in own)
    begin = min(last, 1 - _STEP)
    gain = curve.gain(begin, _STEP)
    what = f"one more percent of the pool beyond {percent(last)}" if begin == last else "the last percent of the pool"
    found = f"{sign(gain.value)} (95 %: {sign(gain.low)} to {sign(gain.high)})"
    if gain.is_clear:
        return f"{label}: {what} is expected to change it by {found}."
    needed = seeds_that_would_tell(gain, seeds)
    more = f"about {needed} seeds instead of {seeds} would, as far as it is they that differ" if needed else \
        "no number of seeds up to a hundred would: more held-out examples, or budgets farther apart"
    return f"{label}: what {what} would buy cannot be told yet, {found}; {more}."


def _reaching(label: str, own: list[Score], curve: BudgetCurve, scores: Scores) -> list[str]:
    """Say from which budget on full data is within the interval, where full data was measured."""
    assert scores.metric is not None
    full = next((score for score in scores.scores if score.point.control == "whole pool"), None)
    if full is None:
        return []
    places = _PLACES[own[0].share - _STEP / 2 <= _PLACES]
    share = curve.first_that_reaches(full.estimate.value, _measured(full)[2], places,
                                     lower_is_better=scores.metric.lower_is_better)
    reached = number(full.estimate.value)
    if share is None:
        return [f"{label}: the curve reaches full data's {reached} at no budget, as far as it can be told."]
    before = " or less" if share == places[0] else ""
    return [f"{label}: the smallest budget whose interval reaches full data's {reached} is about {percent(share)}"
            f"{before}."]
