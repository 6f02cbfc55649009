"""Each configuration's metric over examples and seeds, and the differences that the answer is about."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from s2l_ray.metrics.seeds import SeedEstimate, difference_over_seeds, holm, mean_over_seeds
from s2l_ray.report.arms import Arm, Point, trained_alike
from s2l_ray.report.study import Metric, Study
from s2l_ray.stages.tasks import read_values

_SIGNIFICANT = 0.05

Values = Mapping[int, np.ndarray]
"""Seed -> the metric of every example, (N,), the same examples in the same order in each."""


@dataclass(frozen=True)
class Score:
    """A point's metric: the mean with its interval over examples and seeds."""

    point: Point
    estimate: SeedEstimate
    rows: int
    share: float


@dataclass(frozen=True)
class Gap:
    """The difference ours - theirs."""

    ours: Point
    theirs: Point
    estimate: SeedEstimate
    lower_is_better: bool
    adjusted_p: float = float("nan")
    """p by Holm's method over the family of differences that it is read with; NaN outside a family."""

    @property
    def is_significant(self) -> bool:
        """Tell whether the adjusted p is below 0.05."""
        return self.adjusted_p < _SIGNIFICANT

    @property
    def is_better(self) -> bool:
        """Tell whether the difference itself, without its interval, is for the better."""
        return (self.estimate.value < 0) == self.lower_is_better and self.estimate.value != 0

    @property
    def reaches(self) -> bool:
        """Tell whether the interval holds 0 or lies on the better side."""
        return self.estimate.low <= 0 if self.lower_is_better else self.estimate.high >= 0

    @property
    def worst(self) -> float:
        """Return how much worse ours may be within the interval, in the metric's unit; 0 where it may not."""
        return max(0.0, self.estimate.high if self.lower_is_better else -self.estimate.low)


@dataclass(frozen=True)
class Scores:
    """All that was measured by the study's metric."""

    metric: Metric | None
    scores: tuple[Score, ...]
    against_random: tuple[Gap, ...]
    """Each configuration that is no control against random at its budget, Holm-adjusted within its selector."""
    against_full: tuple[Gap, ...]
    """Each configuration, random too, against full data."""
    base: float | None
    """The mean of the target as it was before fine-tuning."""
    num_left_out: int = 0
    """Held-out examples that some arm was not evaluated on, left out for all."""


def read_scores(study: Study) -> Scores:
    """Read the predictions of all finished arms and compare them.

    Held-out examples are matched by id; where the arms were evaluated on different ones (a task with a limit draws
    others under another seed), those common to all are compared.
    """
    if study.metric is None:
        return Scores(None, (), (), (), None)
    tables = {id(arm): table for arm in study.arms if (table := _predictions(study, arm, study.metric)) is not None}
    if not tables:
        return Scores(study.metric, (), (), (), None)
    common, largest = _common_ids(list(tables.values()))
    if len(common) == 0:
        return Scores(study.metric, (), (), (), None, largest)
    values = {key: _aligned(table, common, study.metric.name) for key, table in tables.items()}
    by_point = {
        id(point): {arm.seed: values[id(arm)] for arm in point.finished if id(arm) in values} for point in study.points
    }
    scored = [point for point in study.points if by_point[id(point)]]
    scores = tuple(_score(study, point, by_point[id(point)]) for point in scored)
    full = [point for point in scored if point.control == "whole pool"]
    random = [point for point in scored if point.control == "chance"]
    randoms = _gaps([point for point in scored if not point.is_control], random, by_point, study.metric,
                    same_budget=True)
    fulls = _gaps([point for point in scored if point not in full], full, by_point, study.metric, same_budget=False)
    return Scores(study.metric, scores, tuple(_adjusted(randoms)), tuple(fulls), _base(study),
                  largest - len(common))


def _predictions(study: Study, arm: Arm, metric: Metric) -> pa.Table | None:
    """Return example_id and metric of the task's rows, or None for an arm without a result."""
    fingerprint = arm.fingerprint("evaluate")
    if arm.state != "finished" or fingerprint is None or study.manifest_of(arm, "evaluate") is None:
        return None
    if metric.by and metric.name not in study.metrics_of(arm).get(metric.task, {}):
        return None  # measured without the harness, or without this task of it
    rows = read_values(arm.storage, f"evaluate/{fingerprint}", metric.task, metric.name)
    return rows if rows.num_rows and rows[metric.name].null_count == 0 else None


def _common_ids(tables: Sequence[pa.Table]) -> tuple[pa.Array, int]:
    """Return the ids that all tables have, in the first one's order, and the rows of the largest table."""
    common = tables[0]["example_id"].combine_chunks()
    for table in tables[1:]:
        if not common.equals(table["example_id"].combine_chunks()):
            common = common.filter(pc.is_in(common, value_set=table["example_id"].combine_chunks()))
    return common, max(table.num_rows for table in tables)


def _aligned(table: pa.Table, ids: pa.Array, metric: str) -> np.ndarray:
    places = pc.index_in(ids, value_set=table["example_id"].combine_chunks())
    return table[metric].take(places).to_numpy().astype(np.float64)


def _score(study: Study, point: Point, values: Values) -> Score:
    arm = next(arm for arm in point.finished if arm.seed in values)
    share = study.share(arm)
    estimate = mean_over_seeds(np.stack(list(values.values())))
    return Score(point, estimate, study.rows(arm), 1.0 if share is None else share)


def _gaps(
    ours: Sequence[Point], theirs: Sequence[Point], values: Mapping[int, Values], metric: Metric, *, same_budget: bool
) -> list[Gap]:
    """Return the difference of each of ours to the point of theirs that is trained alike."""
    gaps = []
    for point in ours:
        for other in theirs:
            fits = other is not point and trained_alike(point, other)
            fits = fits and (point.budget == other.budget or not same_budget)
            if fits:
                rng = np.random.default_rng(0)
                estimate = difference_over_seeds(values[id(point)], values[id(other)], rng)
                gaps.append(Gap(point, other, estimate, metric.lower_is_better))
                break
    return gaps


def _adjusted(gaps: Sequence[Gap]) -> list[Gap]:
    """Return the differences with p adjusted by Holm's method, each selector's a family of its own."""
    adjusted: dict[int, Gap] = {}
    for selector in dict.fromkeys(gap.ours.selector for gap in gaps):
        family = [gap for gap in gaps if gap.ours.selector == selector]
        for gap, p in zip(family, holm([gap.estimate.p for gap in family]), strict=True):
            adjusted[id(gap)] = replace(gap, adjusted_p=p)
    return [adjusted[id(gap)] for gap in gaps]


def _base(study: Study) -> float | None:
    assert study.metric is not None
    for record in study.records:
        for step in record.steps:
            if step["stage"] == "evaluate" and step.get("arm") is None:
                manifest = study.manifest(record.storage, "evaluate", step["fingerprint"])
                found = (manifest or {}).get("metrics", {}).get(study.metric.task, {}).get(study.metric.name)
                if found is not None:
                    return float(found["value"])
    return None
