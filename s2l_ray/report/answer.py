"""The answer in sentences: how little data is enough, and whether the selection beats a random one."""

from collections.abc import Sequence

from s2l_ray.report.arms import Point, facts_of
from s2l_ray.report.figures import Section, Table, counted, cut, from_what, interval, number, percent, probability, sign
from s2l_ray.report.scores import Gap, Score, Scores
from s2l_ray.report.study import Metric, Study

_MOST_IN_A_SENTENCE = 2
_STATES = (("failed", "failed", "failed"), ("stopped", "was stopped", "were stopped"),
           ("waiting", "is not finished", "are not finished"))


def answer_section(study: Study, scores: Scores) -> Section:
    """Return the sentences, and the two families of differences as tables."""
    if scores.metric is None:
        return Section((
            "There is no answer yet: this run has no evaluation with a metric for each example (loss, exact_match or "
            "rouge_l). Name held-out tasks under evaluation.tasks, and run it to the end.",
        ))
    if not scores.scores:
        states = ", ".join(f"{point.label}: {arm.state}" for point in study.points for arm in point.arms[:1])
        return Section((f"There is no answer yet: no arm has a finished evaluation of {scores.metric.title} "
                        f"({states or 'no arm'}).", *_failures(study)))
    sentences = [*_against_full(study, scores), *_against_random(study, scores), *_failures(study)]
    one_seed = all(score.estimate.num_seeds == 1 for score in scores.scores)
    if one_seed:
        sentences.append("One seed: the intervals hold the chance in the held-out examples, not that of another "
                         "selection and training, so they are too narrow.")
    if scores.num_left_out:
        sentences.append(f"{counted(scores.num_left_out, 'held-out example')} that not every arm was evaluated on are "
                         "left out for all.")
    return Section(tuple(sentences), tables=tuple(_tables(study, scores)))


def verdict(gap: Gap) -> str:
    """Return a difference to random in a plain word."""
    if not gap.is_significant:
        return "no significant difference"
    return f"{gap.ours.label} is better" if gap.is_better else f"{gap.theirs.label} is better"


def _against_full(study: Study, scores: Scores) -> list[str]:
    """Say what the smallest budget is whose interval reaches full data's, and how sure that is."""
    metric, name = scores.metric, _title(study)
    assert metric is not None
    own = [gap for gap in scores.against_full if gap.ours.selector == study.selector]
    if not any(score.point.control == "whole pool" for score in scores.scores):
        why = ("the arm on full data has no result" if any(point.control == "whole pool" for point in study.points) else
               "no arm is trained on all of the pool (selection.controls=[random,full] adds it)")
        return [f"Whether {name} reaches full data is not known: {why}."]
    if not own:
        return [f"Whether {name} reaches full data is not known: no arm of it is finished."]
    by_size = sorted(own, key=lambda gap: _score(scores, gap.ours).rows)
    reached = next((gap for gap in by_size if gap.reaches), None)
    if reached is None:
        return [f"No budget of {name} reaches full data on {metric.title}.",
                f"The largest, {_size(scores, by_size[-1].ours)}: {_compared(scores, by_size[-1])}."]
    sentences = [
        f"The smallest budget at which {name}'s interval reaches full data on {metric.title} is "
        f"{_size(scores, reached.ours)}.",
        f"There it is {_compared(scores, reached)}. {_not_excluded(reached, metric)}",
    ]
    tightest = min(by_size, key=lambda gap: gap.worst)
    if tightest.worst < reached.worst:
        sentences.append(f"The tightest bound is that of {_size(scores, tightest.ours)}: "
                         f"{_compared(scores, tightest)}. {_not_excluded(tightest, metric)}")
    return sentences


def _compared(scores: Scores, gap: Gap) -> str:
    ours, theirs = (_score(scores, point).estimate for point in (gap.ours, gap.theirs))
    return (f"{number(ours.value)} against {number(theirs.value)}, a difference of {sign(gap.estimate.value)} "
            f"(95\N{NO-BREAK SPACE}% interval {interval(gap.estimate, signed=True)}; {from_what(gap.estimate)})")


def _not_excluded(gap: Gap, metric: Metric) -> str:
    """Say how large a loss against full data the interval leaves possible, so that noise is not taken for success."""
    if gap.worst == 0:
        return "All of the interval lies on the better side."
    way = "above" if metric.lower_is_better else "below"
    return f"A loss is not ruled out: the interval reaches {number(gap.worst)} {way} full data."


def _against_random(study: Study, scores: Scores) -> list[str]:
    own = [gap for gap in scores.against_random if gap.ours.selector == study.selector]
    name = _title(study)
    if not own:
        return [f"How {name} compares with a random choice is not known: there is no finished random arm of the same "
                "budget."]
    better = [gap for gap in own if gap.is_significant and gap.is_better]
    worse = [gap for gap in own if gap.is_significant and not gap.is_better]
    neither = [gap for gap in own if not gap.is_significant]
    sentences = []
    for gaps, what in ((better, "is better than random"), (worse, "is worse than random")):
        if gaps:
            sentences.append(f"{name} {what} at {_budgets(scores, gaps)}.")
    if neither:
        sentences.append(f"There is no significant difference between {name} and random at "
                         f"{_budgets(scores, neither)}.")
    if len(own) > 1:
        sentences.append(f"Significant is what stays below 0.05 after Holm's correction for {len(own)} comparisons.")
    return sentences


def _budgets(scores: Scores, gaps: Sequence[Gap]) -> str:
    """Return the budgets with their differences; of many the budgets alone, as the table has the rest."""
    if len(gaps) > _MOST_IN_A_SENTENCE:
        return ", ".join(f"{percent(_score(scores, gap.ours).share)}{_setting(gap.ours)}" for gap in gaps)
    parts = [
        f"{_size(scores, gap.ours)}: {sign(gap.estimate.value)} (95\N{NO-BREAK SPACE}% interval "
        f"{interval(gap.estimate, signed=True)}; {from_what(gap.estimate)})" for gap in gaps
    ]
    return "; ".join(parts)


def _failures(study: Study) -> list[str]:
    """Name the arms without a result, which are nowhere counted as a number."""
    sentences = []
    for state, one, many in _STATES:
        arms = [arm for arm in study.arms if arm.state == state]
        if arms:
            named = ", ".join(f"{arm.trial} ({cut(arm.error, 200)})" if arm.error else arm.trial for arm in arms[:5])
            more = f" and {len(arms) - 5} more" if len(arms) > 5 else ""
            what = f"{counted(len(arms), 'arm')} {one if len(arms) == 1 else many}"
            sentences.append(f"{what}: {named}{more}. No figure here counts {'it' if len(arms) == 1 else 'them'}.")
    return sentences


def _tables(study: Study, scores: Scores) -> list[Table]:
    metric = scores.metric
    assert metric is not None
    better = "lower is better" if metric.lower_is_better else "higher is better"
    tables = []
    if scores.against_random:
        tables.append(Table(
            f"Against random at the same budget: {metric.title} ({better})",
            ("configuration", "budget", "difference", "95 % interval", "p", "p, Holm", "examples", "seeds", "verdict"),
            tuple((g.ours.label, _rows(scores, g.ours), sign(g.estimate.value), interval(g.estimate, signed=True),
                   probability(g.estimate.p), probability(g.adjusted_p), f"{g.estimate.num_examples:,}",
                   str(g.estimate.num_seeds), verdict(g)) for g in scores.against_random),
            frozenset({0, 8}),
        ))
    if scores.against_full:
        tables.append(Table(
            f"Against full data: {metric.title} ({better})",
            ("configuration", "budget", "difference", "95 % interval", "loss not excluded", "examples", "seeds",
             "reaches full data"),
            tuple((g.ours.label, _rows(scores, g.ours), sign(g.estimate.value), interval(g.estimate, signed=True),
                   number(g.worst), f"{g.estimate.num_examples:,}", str(g.estimate.num_seeds),
                   "yes" if g.reaches else "no") for g in scores.against_full),
            frozenset({0, 7}),
        ))
    lost = [arm for arm in study.arms if arm.state != "finished"]
    if lost:
        tables.append(Table(
            "Arms without a result", ("arm", "configuration", "seed", "state", "error"),
            tuple((arm.trial, study.point_of(arm).label, str(arm.seed), arm.state, cut(arm.error or "", 300))
                  for arm in lost),
            frozenset({0, 1, 3, 4}),
        ))
    return tables


def _title(study: Study) -> str:
    facts = facts_of(study.selector)
    return (facts.title if facts else "") or study.selector


def _score(scores: Scores, point: Point) -> Score:
    return next(score for score in scores.scores if score.point is point)


def _size(scores: Scores, point: Point) -> str:
    score = _score(scores, point)
    return f"{percent(score.share)} of the pool ({score.rows:,} rows){_setting(point)}"


def _rows(scores: Scores, point: Point) -> str:
    score = _score(scores, point)
    return f"{percent(score.share)} ({score.rows:,} rows)"


def _setting(point: Point) -> str:
    """Return what tells a point's configuration from its selector's others: ' (K=50)', or nothing."""
    return point.label.removeprefix(point.selector)
