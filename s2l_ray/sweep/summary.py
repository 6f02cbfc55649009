"""What a sweep found, for people at a terminal and for programs: each point's metric over its seeds, and failures."""

from typing import Any

import numpy as np
from rich.table import Table

from s2l_ray.errors import InputError
from s2l_ray.metrics.seeds import SeedEstimate, mean_over_seeds
from s2l_ray.progress.wording import clock
from s2l_ray.stages.tasks import read_values
from s2l_ray.sweep.record import Sweep
from s2l_ray.sweep.space import Trial


def estimates_of(sweep: Sweep) -> dict[str, SeedEstimate]:
    """Return the metric of each point over the seeds that finished, the best first."""
    by_point: dict[str, list[np.ndarray]] = {}
    for trial in sweep.trials:
        if sweep.state(trial.name) == "finished":
            by_point.setdefault(trial.point, []).append(_values(sweep, trial))
    found = {point: mean_over_seeds(np.stack(values)) for point, values in by_point.items()}
    return dict(sorted(found.items(), key=lambda item: item[1].value, reverse=sweep.mode == "max"))


def _values(sweep: Sweep, trial: Trial) -> np.ndarray:
    """Return the metric of each held-out example, (N,)."""
    task, metric = sweep.metric.rsplit(".", 1)
    artifact = sweep.plans[trial.name].step("evaluate", trial.recipe.selection.selector).artifact
    values = read_values(artifact.storage, artifact.folder, task, metric)[metric]
    if not len(values):
        raise InputError(f"sweep.metric={sweep.metric!r} was not measured: see {artifact.uri}/metrics.json")
    return np.asarray(values.to_numpy(), dtype=np.float64)


def tables_of(sweep: Sweep) -> list[Table]:
    """Return the points as a table, and the trials that failed as another."""
    table = Table(title=f"{sweep.metric} ({'more' if sweep.mode == 'max' else 'less'} is better), 95 % interval over "
                  "seeds and examples", title_justify="left")
    for heading in ("trial", "mean", "interval", "seeds", "examples"):
        table.add_column(heading, justify="left" if heading == "trial" else "right")
    for point, found in estimates_of(sweep).items():
        table.add_row(point, f"{found.value:.3f}", f"[{found.low:.3f}, {found.high:.3f}]", str(found.num_seeds),
                      f"{found.num_examples:,}")
    return [table, *([_failures(sweep)] if sweep.errors else [])]


def _failures(sweep: Sweep) -> Table:
    table = Table(title="failed", title_justify="left")
    table.add_column("trial")
    table.add_column("error")
    for name, error in sweep.errors.items():
        table.add_row(name, error)
    return table


def results_of(sweep: Sweep) -> dict[str, Any]:
    """Return one JSON-able object about the sweep."""
    assert sweep.wall_s is not None
    states = [sweep.state(trial.name) for trial in sweep.trials]
    return {
        "sweep": sweep.recipe.name, "storage": sweep.storage.uri, "metric": sweep.metric, "mode": sweep.mode,
        "points": {
            point: {name: value for name, value in found.to_dict().items() if name != "p"}
            for point, found in estimates_of(sweep).items()
        },
        "trials": {state: states.count(state) for state in sorted(set(states))},
        "reused": len(sweep.reused), "errors": sweep.errors, "wall_s": round(sweep.wall_s, 1),
        "wall": clock(sweep.wall_s), "table": sweep.storage.uri_of(f"{sweep.folder}/trials.parquet"),
    }
