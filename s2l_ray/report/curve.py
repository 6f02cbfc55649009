"""The budget curve: each configuration's metric by budget, full data as a band, cost on a second axis."""

from typing import Any

from s2l_ray.report.advice import advice
from s2l_ray.report.arms import Point
from s2l_ray.report.cost import selecting_seconds, training_seconds
from s2l_ray.report.figures import Figure, Section, Table, colour, interval, number, percent, plot_text, style
from s2l_ray.report.scores import Score, Scores
from s2l_ray.report.study import Study, harness_title

_APART = 0.008  # of the plot's width, between the points of one budget


def curve_section(study: Study, scores: Scores) -> Section:
    """Return the curve with its table, or a sentence where nothing was evaluated."""
    if scores.metric is None or not scores.scores:
        return Section(("No budget curve: no arm has a finished evaluation.",))
    metric = scores.metric
    better = "lower" if metric.lower_is_better else "higher"
    num_budgets = len({score.point.budget for score in scores.scores if score.point.control != "whole pool"})
    title = f"{metric.title[0].upper()}{metric.title[1:]}"
    sentences = [f"{title}; {better} is better. Bars are 95 % intervals over "
                 "held-out examples and seeds; below are the mean seconds of selecting and fine-tuning."]
    if num_budgets == 1:
        sentences.append("One budget was run; a sweep over selection.budget makes this a curve.")
    sentences += advice(scores)
    description = "; ".join(
        f"{score.point.label} at {percent(score.share)}: {number(score.estimate.value)} "
        f"({interval(score.estimate)})" for score in scores.scores[:12]
    )
    figure = Figure(
        "curve", f"{title} by budget", f"{title} by share of the pool. {description}.",
        _traces(study, scores), _layout(scores), (_table(study, scores), *_other_metrics(study)), 480,
    )
    return Section(tuple(sentences), (figure,))


def _traces(study: Study, scores: Scores) -> list[dict[str, Any]]:
    traces: list[dict[str, Any]] = []
    labels = list(dict.fromkeys(s.point.label for s in scores.scores if s.point.control != "whole pool"))
    for order, label in enumerate(labels):
        own = sorted((s for s in scores.scores if s.point.label == label), key=lambda s: s.share)
        shares = [100 * score.share for score in own]
        # Side by side: intervals of one budget would lie over each other.
        x = [share + _APART * _range(scores)[1] * (order - (len(labels) - 1) / 2) for share in shares]
        traces.append({
            "type": "scatter", "mode": "lines+markers", "name": plot_text(label), "x": x,
            "legendgroup": plot_text(label), "y": [score.estimate.value for score in own],
            "error_y": {"type": "data", "symmetric": False, "color": colour(order), "thickness": 1.5, "width": 5,
                        "array": [s.estimate.high - s.estimate.value for s in own],
                        "arrayminus": [s.estimate.value - s.estimate.low for s in own]},
            "customdata": shares, "hovertemplate": "%{y:.4f} at %{customdata:.3g} %", **style(order),
        })
        traces.append({
            "type": "scatter", "mode": "lines+markers", "name": plot_text(label), "x": x, "yaxis": "y2",
            "y": [_seconds(study, score.point) for score in own], "legendgroup": plot_text(label), "showlegend": False,
            "customdata": shares, "hovertemplate": "%{y:,.1f} s at %{customdata:.3g} %", **style(order),
        })
    return [*_full_band(scores), *traces]


def _full_band(scores: Scores) -> list[dict[str, Any]]:
    """Return full data's interval over the whole width, and its mean as a line."""
    ends = _range(scores)
    traces: list[dict[str, Any]] = []
    for score in (s for s in scores.scores if s.point.control == "whole pool"):
        low, high, mean = score.estimate.low, score.estimate.high, score.estimate.value
        traces += [
            {"type": "scatter", "mode": "lines", "x": [*ends, *ends[::-1]], "y": [low, low, high, high],
             "fill": "toself", "fillcolor": colour(6, 0.18), "line": {"width": 0}, "hoverinfo": "skip",
             "name": plot_text(f"{score.point.label}: 95 % interval")},
            {"type": "scatter", "mode": "lines", "x": ends, "y": [mean, mean], "name": plot_text(score.point.label),
             "line": {"color": colour(6), "width": 1.5, "dash": "dash"}, "hovertemplate": "%{y:.4f}"},
        ]
    return traces


def _range(scores: Scores) -> list[float]:
    shares = [100 * s.share for s in scores.scores if s.point.control != "whole pool"] or [100.0]
    return [0.0, 1.15 * max(shares)]


def _layout(scores: Scores) -> dict[str, Any]:
    assert scores.metric is not None
    # Below and not over the metric: marks of seconds between the intervals would read as further results.
    return {
        "xaxis": {"title": {"text": "rows selected (% of the pool)"}, "range": _range(scores), "anchor": "y2"},
        "yaxis": {"title": {"text": plot_text(scores.metric.title)}, "domain": [0.36, 1]},
        "yaxis2": {"title": {"text": "seconds"}, "domain": [0, 0.24], "rangemode": "tozero"},
    }


def _seconds(study: Study, point: Point) -> float | None:
    """Return the mean seconds of selecting and fine-tuning over a point's seeds."""
    spent = [selecting_seconds(study, arm) + seconds for arm in point.finished
             if (seconds := training_seconds(study, arm)) is not None]
    return sum(spent) / len(spent) if spent else None


def _table(study: Study, scores: Scores) -> Table:
    assert scores.metric is not None
    rows = [_row(study, score) for score in sorted(scores.scores, key=lambda s: (s.point.label, s.share))]
    if scores.base is not None:
        rows.append(("before fine-tuning", "-", "-", number(scores.base), "-", "-", "-", "-"))
    return Table(
        f"{scores.metric.title} by budget",
        ("configuration", "share of the pool", "rows", "mean", "95 % interval", "examples", "seeds",
         "seconds of selecting and training"),
        tuple(rows),
    )


def _row(study: Study, score: Score) -> tuple[str, ...]:
    seconds = _seconds(study, score.point)
    return (
        score.point.label, percent(score.share), f"{score.rows:,}", number(score.estimate.value),
        interval(score.estimate), f"{score.estimate.num_examples:,}", str(score.estimate.num_seeds),
        "-" if seconds is None else f"{seconds:,.1f}",
    )


def _other_metrics(study: Study) -> list[Table]:
    """Return what else the evaluations measured, of each arm, with the interval over its examples alone."""
    rows = []
    for arm in study.arms:
        for task, metrics in study.metrics_of(arm).items():
            rows += [(arm.trial, str(arm.seed), f"{task}{harness_title(found)}", name, number(found["value"]),
                      f"{number(found['low'])} to {number(found['high'])}", f"{found['n']:,}")
                     for name, found in metrics.items()]
    if not rows:
        return []
    columns = ("arm", "seed", "task", "metric", "value", "95 % interval", "examples")
    return [Table("All that was measured, arm by arm; these intervals are over examples alone", columns, tuple(rows),
                  frozenset({0, 2, 3}))]
