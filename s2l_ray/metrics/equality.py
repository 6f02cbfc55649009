"""Decide whether two final answers are the same: by our own rules, and by mathematics where they are not sure."""

import logging
from dataclasses import dataclass

from s2l_ray.metrics import rules, symbolic
from s2l_ray.metrics.spelling import tidy

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether two answers are the same, and what the judges said where they did not agree."""

    is_equal: bool
    disagreement: str = ""


def answers_equal(predicted: str | None, reference: str) -> bool:
    """Whether `predicted` is the reference answer, as `judge`; None (no answer found) never is."""
    return judge(predicted, reference).is_equal


def judge(predicted: str | None, reference: str) -> Verdict:
    """Return whether two answers are the same: where our rules or math-verify's symbolic comparison say so.

    math-verify is asked only where the rules are not sure: not about two numbers, nor about words.
    """
    if predicted is None:
        return Verdict(False)
    ours = rules.verdict(predicted, reference)
    if ours is not None:
        return Verdict(ours)
    theirs = symbolic.same_value(tidy(predicted), tidy(reference))
    if not theirs:
        said = "" if theirs is False else f"our rules: no, math-verify: no verdict within {symbolic.MAX_SECONDS} s"
        return Verdict(False, said)
    _LOG.info("answers %r and %r: the rules say no, math-verify says yes", predicted[:200], reference[:200])
    return Verdict(True, "our rules: no, math-verify: yes")
