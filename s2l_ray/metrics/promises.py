"""What every metric promises, as checks of anybody's: `s2l_ray.testing` publishes them.

Each raises an AssertionError that says what the metric did instead. Ours pass them too.
"""

import math
from collections.abc import Callable
from typing import Any, get_args, get_type_hints

import numpy as np
import pyarrow as pa

from s2l_ray.metrics.metric import Answer, Metric, Options

RIGHT = Answer("The answer is 4.", "The answer is 4.", "4", ("4",))
WRONG = Answer("blue", "The answer is 4.", "4", ("4",))
_ODD = ("", " \n", "4", "...", "Ünïcödé ∑ 数 🙂", "\x00", "a" * 5000, "\\boxed{", "1e999")
_TEXTS = ("The answer is 4.", "blue", "", "four, or 4", "5")


def is_described(metric: Metric, **answers: Answer) -> None:
    """It is an object of a Metric's class with a name, a docstring and facts of the right kinds."""
    assert isinstance(metric, Metric), f"{metric!r} is no object of a class of s2l_ray.metrics.metric.Metric"
    name, facts = getattr(metric, "name", None), get_type_hints(Metric)
    assert isinstance(name, str) and name.isidentifier(), f"name={name!r} must be letters, digits and underscores"
    assert (type(metric).__doc__ or "").strip(), f"{name}: its class needs a docstring that says what it is"
    for fact in ("needs", "better"):
        known = get_args(get_args(facts[fact])[0])
        assert getattr(metric, fact) in known, f"{name}: {fact}={getattr(metric, fact)!r} is none of {', '.join(known)}"
    assert type(metric.decimals) is int and metric.decimals >= 0, (
        f"{name}: decimals={metric.decimals!r} must be 0 or more"
    )


def gives_an_interval(metric: Metric, **answers: Answer) -> None:
    """Over any rows of predictions it gives a value inside its interval, the same for the same generator."""
    for values in ([0.0, 1.0, 1.0, 0.0, 1.0], [0.0] * 5, [1.0] * 5, [0.25]):
        texts = list(_TEXTS[: len(values)])
        own = {metric.name: values} if metric.is_per_example else {}
        rows = pa.table({"prediction": texts, "reference": texts[::-1], **own})
        found, again = (metric.estimate(rows, np.random.default_rng(0)) for _ in range(2))
        what = f"{metric.name}: over {values}"
        assert all(map(math.isfinite, (found.value, found.low, found.high))), f"{what}: {found} is not finite"
        assert found.low <= found.value <= found.high, f"{what}: {found} has its value outside its interval"
        assert found.n == len(values), f"{what}: {found} is of {found.n} rows, not {len(values)}"
        assert found == again, f"{what}: {found}, then {again}: draw from the generator that is given"


def scores_from_0_to_1(metric: Metric, **answers: Answer) -> None:
    """Every answer, however odd, has a value from 0 to 1, the same each time; without a gold answer too."""
    if metric.needs != "answers" or not metric.is_per_example:
        return
    for text in (*_ODD, *_TEXTS):
        for gold in ("4", None):
            answer = Answer(text, "The answer is 4.", gold, () if gold is None else (gold,))
            value = _value(metric, answer)
            assert 0 <= value <= 1, f"{metric.name}: {answer} has the value {value}, which must be from 0 to 1"
            assert _value(metric, answer) == value, f"{metric.name}: {answer} has another value the second time"


def tells_right_from_wrong(metric: Metric, *, right: Answer = RIGHT, wrong: Answer = WRONG) -> None:
    """A right answer is better than a wrong one, in the direction that `better` says; so are options."""
    sign = 1 if metric.better == "higher" else -1
    if metric.needs == "answers" and metric.is_per_example:
        pair = _value(metric, right), _value(metric, wrong)
        assert sign * pair[0] > sign * pair[1], (
            f"{metric.name}: {right} has {pair[0]}, {wrong} has {pair[1]}, and "
            f"better={metric.better!r}: give a right and a wrong answer of its kind as right= and wrong=, if these "
            "are not"
        )
    if metric.needs == "options":
        found = [_rank(metric, Options((9.0, 1.0, 8.0), (4, 4, 4), right=right_one)) for right_one in (1, 0)]
        assert sign * found[0] > sign * found[1], (
            f"{metric.name}: where the right option has the lowest loss its value "
            f"is {found[0]}, where it has the highest {found[1]}, and better={metric.better!r}"
        )


def knows_no_match_without_gold(metric: Metric, **answers: Answer) -> None:
    """If it needs gold answers, one without is wrong."""
    if metric.needs_gold and metric.needs == "answers" and metric.is_per_example:
        value = _value(metric, Answer("4", "4", None))
        assert value == 0, f"{metric.name}: needs_gold, and an answer without a gold one has the value {value}, not 0"


PROMISES: tuple[Callable[..., None], ...] = (
    is_described, gives_an_interval, scores_from_0_to_1, tells_right_from_wrong, knows_no_match_without_gold,
)


def check_metric(metric: Metric, *, right: Answer = RIGHT, wrong: Answer = WRONG) -> None:
    """Check all promises of a metric; of the answers `right` must be better than `wrong`.

    Raises
    ------
    AssertionError
        One is broken; the message says which, on what, and what to do.
    """
    for promise in PROMISES:
        promise(metric, right=right, wrong=wrong)


def _value(metric: Metric, answer: Answer) -> float:
    return _number(metric, answer, lambda: metric.judge(answer).value)


def _rank(metric: Metric, options: Options) -> float:
    return _number(metric, options, lambda: metric.rank(options))


def _number(metric: Metric, of: Any, work: Callable[[], float]) -> float:
    try:
        return float(work())
    except Exception as error:
        raise AssertionError(f"{metric.name}: {of} raised {type(error).__name__}: {error}") from error
