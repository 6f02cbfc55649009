"""What the finished cells say: differences between arms with intervals, what can be seen at all, and what S2L's choice is."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from scipy.special import stdtrit

from s2l_ray.metrics.seeds import SeedEstimate, difference_over_seeds, holm, mean_over_seeds
from s2l_ray.recipe.registry import SELECTORS
from s2l_ray.recipe.selection import SelectionConfig
from s2l_ray.selectors.chances import Draw, draw
from s2l_ray.selectors.run import pool_of as selector_pool
from tests.evidence.arms import loss_labels, source_labels, table_of
from tests.evidence.cells import Cell, Place, cells_of
from tests.evidence.making import pool_of
from tests.evidence.setting import FULL, RANDOM, S2L, STEPS

Losses = Mapping[int, np.ndarray]
"""Seed -> losses of the held-out rows, (N,)."""


@dataclass(frozen=True)
class Arm:
    """What is compared: an arm at a budget."""

    pool: str
    arm: str
    budget: float
    alike: str


@dataclass
class Comparison:
    """An arm beside another: ours minus theirs, below 0 where ours is better."""

    ours: Arm
    theirs: Arm
    estimate: SeedEstimate
    p_holm: float = field(default=float("nan"))
    """Corrected for all comparisons of its table."""

    @property
    def verdict(self) -> str:
        """Return what may be said of it."""
        if self.p_holm < 0.05:
            return "better" if self.estimate.value < 0 else "worse"
        return "cannot tell"

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return {"pool": self.ours.pool, "arm": self.ours.arm, "budget": self.ours.budget, "alike": self.ours.alike,
                "beside": self.theirs.arm, "beside_budget": self.theirs.budget, **self.estimate.to_dict(),
                "p_holm": self.p_holm, "verdict": self.verdict}


class Results:
    """The finished cells of a setting."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.cells = [cell for cell in cells_of(place.setting) if place.is_done(cell)]
        self.facts = {cell.name: place.facts(cell) for cell in self.cells}
        self.losses: dict[Arm, dict[int, np.ndarray]] = defaultdict(dict)
        self.right: dict[Arm, dict[int, np.ndarray]] = defaultdict(dict)
        """Of the questions that are answered: whether each is right, (M,)."""
        self.refused: dict[Arm, str] = {}
        for cell in self.cells:
            if cell.kind == "target":
                arm = Arm(cell.pool, cell.arm, cell.budget, cell.alike)
                if "refused" in self.facts[cell.name]:
                    self.refused[arm] = self.facts[cell.name]["refused"]
                else:
                    self.losses[arm][cell.seed] = np.load(place.file(cell, ".npy")).astype(np.float64)
                    right = place.file(cell, "-right.npy")
                    right_N = np.load(right).astype(np.float64) if right.exists() else np.empty(0)
                    if np.isfinite(right_N).any():
                        self.right[arm][cell.seed] = right_N[np.isfinite(right_N)]

    @property
    def pools(self) -> list[str]:
        """Return the pools that have a target."""
        return [pool for pool in self.place.setting.pools if any(arm.pool == pool for arm in self.losses)]

    def compared(self, ours: Arm, theirs: Arm, task: str | None = None) -> SeedEstimate | None:
        """Return ours minus theirs, or None where one is not there yet or no held-out row is of the task."""
        if not self.losses.get(ours) or not self.losses.get(theirs) or (task and task not in self.tasks(ours.pool)):
            return None
        weights_N = self.weights(ours.pool) if task is None else np.ones(len(self.tasks(ours.pool)))
        chosen = slice(None) if task is None else self.tasks(ours.pool) == task
        sides = ({seed: (weights_N * losses_N)[chosen] for seed, losses_N in self.losses[arm].items()}
                 for arm in (ours, theirs))
        return difference_over_seeds(*sides, np.random.default_rng(0))

    def weights(self, pool: str) -> np.ndarray:
        """Return what held-out rows weigh, (N,) of mean 1, so that every task weighs the same."""
        _, of_task_N, counts = np.unique(self.tasks(pool), return_inverse=True, return_counts=True)
        return len(of_task_N) / (len(counts) * counts[of_task_N])

    def tasks(self, pool: str) -> np.ndarray:
        """Return the task of each held-out row."""
        rows = pq.read_table(self.place.file(Cell("rows", pool), "-held_out.parquet"), columns=["task"])
        return np.array(rows["task"].to_pylist())

    def mean(self, arm: Arm, name: str) -> float:
        """Return the mean of a fact over an arm's seeds."""
        found = [facts[name] for facts in self.facts.values() if name in facts and facts["kind"] == "target"
                 and Arm(facts["pool"], facts["arm"], facts["budget"], facts["alike"]) == arm]
        return float(np.mean(found)) if found else float("nan")


def comparisons(results: Results) -> list[Comparison]:
    """Return every arm beside random and beside full, p-values corrected within each table: one pool, budget, length."""
    found = []
    for ours in sorted(results.losses, key=str):
        beside = [Arm(ours.pool, RANDOM, ours.budget, ours.alike), Arm(ours.pool, FULL, 1.0, STEPS)]
        for theirs in beside if ours.arm != FULL else ():
            estimate = results.compared(ours, theirs) if ours != theirs else None
            if estimate is not None and estimate.num_seeds > 1:
                found.append(Comparison(ours, theirs, estimate))
    families: dict[tuple[Any, ...], list[Comparison]] = defaultdict(list)
    for one in found:
        families[one.ours.pool, one.ours.budget, one.ours.alike, one.theirs.arm].append(one)
    for family in families.values():
        for one, adjusted in zip(family, holm([one.estimate.p for one in family]), strict=True):
            one.p_holm = adjusted
    return found


def answered(results: Results) -> list[dict[str, Any]]:
    """Return each arm's share of questions answered right, and that less random's at its budget, with 95 % intervals."""
    found = []
    for arm, seeds in sorted(results.right.items(), key=str):
        is_full = arm.arm == FULL
        random = results.right.get(Arm(arm.pool, RANDOM, results.place.setting.main_budget if is_full else arm.budget,
                                       STEPS if is_full else arm.alike))
        beside = difference_over_seeds(seeds, random, np.random.default_rng(0)) if random and arm.arm != RANDOM else None
        found.append({"pool": arm.pool, "arm": arm.arm, "budget": arm.budget, "alike": arm.alike,
                      **mean_over_seeds(np.stack([seeds[seed] for seed in sorted(seeds)])).to_dict(),
                      "less_random": None if beside is None else beside.to_dict()})
    return found


def gate(results: Results, pool: str) -> dict[str, Any]:
    """Return whether more data helps here at all: full beside random, without which a setting proves nothing."""
    setting, found = results.place.setting, {}
    random = Arm(pool, RANDOM, setting.main_budget, STEPS)
    for alike in ("steps", "epochs"):
        estimate = results.compared(Arm(pool, FULL, 1.0, alike), random)
        if estimate is not None:
            found[f"full at equal {alike}"] = {**estimate.to_dict(), "helps": estimate.high < 0}
    return found


def detectable(results: Results, pool: str) -> float | None:
    """Return the difference that the seeds of the setting see in four of five cases, known from random's own spread.

    In one comparison by itself: one of many, corrected, needs more.
    """
    seeds = results.losses.get(Arm(pool, RANDOM, results.place.setting.main_budget, STEPS), {})
    count = len(results.place.setting.seeds)
    if len(seeds) < 2:
        return None
    weights_N = results.weights(pool)
    spread = float(np.std([(weights_N * losses_N).mean() for losses_N in seeds.values()], ddof=1))
    quantiles = stdtrit(count - 1, 0.975) + stdtrit(count - 1, 0.8)
    return float(quantiles * spread * np.sqrt(2 / count))


def agreement(results: Results, pool: str) -> list[dict[str, Any]]:
    """Return what selections by two proxies share, as a part of the budget, by S2L's clusters and by bins of the loss."""
    place, found = results.place, []
    proxies = [cell for cell in results.cells if cell.kind == "proxy" and cell.pool == pool]
    first = next((cell for cell in proxies if cell.shape == 0 and cell.seed == 0), None)
    if first is None or not place.is_done(Cell("inputs", pool)):
        return []
    draws = {(cell, name): _draw(place, cell, name) for cell in proxies for name in (S2L, "loss_bins")}
    budget = len(draws[first, S2L].ids)
    for cell in proxies:
        shared = {name: draws[first, name].shared_by_lot(draws[cell, name]) for name in (S2L, "loss_bins")}
        found.append({"proxy": first.shape, "seed": first.seed, "other": cell.shape, "other_seed": cell.seed,
                      "weights": results.facts[cell.name]["weights"],
                      **{f"shared_{name}": None if value is None else value / budget for name, value in shared.items()}})
    return found


def _draw(place: Place, cell: Cell, name: str) -> Draw:
    selector = SELECTORS.find(name)
    pool = selector_pool(table_of(pool_of(place, cell.pool, cell.seed, cell.shape)), selector.needs)
    config = SelectionConfig(selector=name, budget=place.setting.main_budget, num_clusters=place.setting.num_clusters)
    return draw(selector, pool, config, cell.seed + 1000 * (cell.shape + 2))


def chosen(results: Results, pool: str, arms: Iterable[str]) -> list[dict[str, Any]]:
    """Return what arms chose: lengths, and how far their sources and losses are from the pool's (half the sum of gaps)."""
    place, setting, found = results.place, results.place.setting, []
    for arm in arms:
        cells = [cell for cell in results.cells if cell.kind == "target" and cell.pool == pool and cell.arm == arm
                 and cell.alike == STEPS and cell.budget == (1.0 if arm == FULL else setting.main_budget)
                 and "refused" not in results.facts[cell.name]]
        if not cells:
            continue
        gaps = defaultdict(list)
        for cell in cells:
            rows, own = np.load(place.file(cell, "-rows.npy")), pool_of(place, pool, cell.seed)
            for name, labels_N in (("sources", source_labels(own)), ("losses", loss_labels(own))):
                shares = [np.bincount(labels, minlength=labels_N.max() + 1) / len(labels) for labels in (labels_N[rows], labels_N)]
                gaps[name].append(0.5 * np.abs(shares[0] - shares[1]).sum())
        key = Arm(pool, arm, cells[0].budget, STEPS)
        found.append({"arm": arm, "tokens_each": results.mean(key, "tokens_each"),
                      "supervised_each": results.mean(key, "supervised_each"),
                      **{f"away_{name}": float(np.mean(values)) for name, values in gaps.items()}})
    return found

