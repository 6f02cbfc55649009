"""What a report is about: the records of its runs, their arms, the pool and the metric they are compared by."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from s2l_ray.errors import InputError
from s2l_ray.recipe.registry import METRICS
from s2l_ray.report.arms import Arm, Point, arms_of, points_of
from s2l_ray.results.record import Record, find_record
from s2l_ray.storage.artifacts import is_finished, read_manifest
from s2l_ray.storage.files import Storage


@dataclass(frozen=True)
class Metric:
    """What the arms are compared by."""

    task: str
    name: str
    lower_is_better: bool
    by: str = ""
    """Behind its name, who measured it, where that was not we."""

    @property
    def title(self) -> str:
        """Return its name for people."""
        return f"{self.name.replace('_', ' ')} on {self.task}{self.by}"


@dataclass(frozen=True)
class Study:
    """Runs and sweeps of one prepared pool."""

    records: tuple[Record, ...]
    arms: tuple[Arm, ...]
    points: tuple[Point, ...]
    metric: Metric | None
    _manifests: dict[tuple[str, str, str], dict[str, Any] | None] = field(default_factory=dict, repr=False)

    @property
    def recipe(self) -> Mapping[str, Any]:
        """Return the first record's recipe."""
        return self.records[0].content["recipe"]

    @property
    def selector(self) -> str:
        """Return the selector that the study is about."""
        return str(self.recipe["selection"]["selector"])

    def manifest(self, storage: Storage, stage: str, fingerprint: str | None) -> dict[str, Any] | None:
        """Return an artifact's manifest, or None where it is not finished."""
        if fingerprint is None:
            return None
        key = (storage.uri, stage, fingerprint)
        if key not in self._manifests:
            is_there = is_finished(storage, stage, fingerprint)
            self._manifests[key] = read_manifest(storage, stage, fingerprint) if is_there else None
        return self._manifests[key]

    def manifest_of(self, arm: Arm, stage: str) -> dict[str, Any] | None:
        """Return the manifest of an arm's select, finetune or evaluate step, or None where it is not finished."""
        return self.manifest(arm.storage, stage, arm.fingerprint(stage))

    def trajectories_of(self, arm: Arm, pool: str) -> dict[str, Any] | None:
        """Return the manifest of the finished trajectories of a prepared pool in an arm's line, None without any."""
        own = (self.manifest(arm.storage, "trajectories", step["fingerprint"]) for step in arm.steps
               if step["stage"] == "trajectories")
        return next((found for found in own if found is not None and found["parents"]["examples"] == pool), None)

    def find(self, storage: Storage, fingerprint: str) -> dict[str, Any] | None:
        """Return the manifest of a step of any stage by its fingerprint alone."""
        stages = [step["stage"] for record in self.records for step in record.steps
                  if step["fingerprint"] == fingerprint]
        return self.manifest(storage, stages[0], fingerprint) if stages else None

    def metrics_of(self, arm: Arm) -> dict[str, Any]:
        """Return {task: {metric: value}} of an arm's finished evaluation, empty without one."""
        return (self.manifest_of(arm, "evaluate") or {}).get("metrics", {}) if arm.state == "finished" else {}

    @property
    def primary(self) -> Arm | None:
        """Return the arm whose clusters and rows are shown: finished down to its selection.

        Of the study's selector at the recipe's own budget and number of clusters; without that, its largest budget;
        of equal ones the lowest seed.
        """
        wanted = self.recipe["selection"]
        chosen = [arm for arm in self.arms if self.manifest_of(arm, "select") is not None]
        own = [arm for arm in chosen if arm.selector == self.selector] or chosen

        def order(arm: Arm) -> tuple:
            clusters = arm.settings.get("selection.num_clusters")
            return (arm.budget != wanted["budget"], clusters != wanted["num_clusters"], -self.rows(arm), arm.seed)

        return min(own, key=order, default=None)

    def rows(self, arm: Arm) -> int:
        """Return how many rows an arm's selection has, 0 where there is none yet."""
        manifest = self.manifest_of(arm, "select")
        return 0 if manifest is None else int(manifest["rows"]["selected"])

    def share(self, arm: Arm) -> float | None:
        """Return the share of the candidates that an arm's selection has, None where there is none yet."""
        manifest = self.manifest_of(arm, "select")
        return None if manifest is None else manifest["rows"]["selected"] / manifest["rows"]["candidates"]

    def point_of(self, arm: Arm) -> Point:
        """Return the point that an arm belongs to."""
        return next(point for point in self.points if arm in point.arms)


def read_study(runs: Sequence[str], storage: str) -> Study:
    """Return the study of these runs and sweeps, given as folders or names.

    Raises
    ------
    InputError
        There is no such run, its record or a manifest is damaged, or two of them are about different pools.
    """
    records = [find_record(run, storage) for run in dict.fromkeys(runs)]
    _refuse_other_pools(records)
    arms = [arm for record in records for arm in arms_of(record)]
    metric = next((found for record in records if (found := _metric(record.content)) is not None), None)
    points = points_of(arms)
    study = Study(tuple(records), tuple(arm for point in points for arm in point.arms), tuple(points), metric)
    return replace(study, metric=_harness_metric(study) if metric is None else _told_by(study, metric))


def _refuse_other_pools(records: Sequence[Record]) -> None:
    def pools(record: Record) -> set[str]:
        return {step["fingerprint"] for step in record.steps if step["label"] == "prepare"}

    first = records[0]
    for other in records[1:]:
        if not pools(first) & pools(other):
            raise InputError(
                f"{first.name!r} and {other.name!r} are about different pools (prepare {_named(pools(first))} and "
                f"{_named(pools(other))}): make a report of each"
            )


def _named(pools: set[str]) -> str:
    return " or ".join(sorted(pools)) or "none"


def _metric(record: Mapping[str, Any]) -> Metric | None:
    """Return a sweep's metric, or a run's first one that the predictions hold for every example."""
    if "metric" in record:
        task, _, name = record["metric"].rpartition(".")
        return Metric(task, name, record["mode"] == "min")
    for task in record["recipe"]["evaluation"]["tasks"]:
        for name in task["metrics"]:
            facts = METRICS.get(name)
            if facts is not None and facts.is_per_example:
                return Metric(task["name"], name, facts.better == "lower")
    return None


def _harness_metric(study: Study) -> Metric | None:
    """Return the first metric that lm-evaluation-harness measured: which it has is known when it has done so."""
    measured = (found for arm in study.arms for found in study.metrics_of(arm).items())
    return next((Metric(task, name, found["better"] == "lower", harness_title(found)) for task, metrics in measured
                 for name, found in metrics.items() if "harness" in found), None)


def _told_by(study: Study, metric: Metric) -> Metric:
    """Return the metric with who measured it."""
    by_task = (study.metrics_of(arm).get(metric.task, {}) for arm in study.arms)
    found: dict[str, Any] = next((by_name[metric.name] for by_name in by_task if metric.name in by_name), {})
    return replace(metric, by=harness_title(found))


def harness_title(found: Mapping[str, Any]) -> str:
    """Return " by lm-evaluation-harness VERSION" of a metric that it measured; nothing of ours."""
    return f" by lm-evaluation-harness {found['harness']}" if "harness" in found else ""
