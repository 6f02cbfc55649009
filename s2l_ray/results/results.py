"""What a finished run found: each selection's metrics side by side, differences with intervals, and the cost."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from rich.table import Table

from s2l_ray.metrics.differences import difference
from s2l_ray.pipeline.plan import RunPlan
from s2l_ray.pipeline.run import Done
from s2l_ray.progress.wording import clock
from s2l_ray.recipe.registry import METRICS
from s2l_ray.stages.planning import BASE
from s2l_ray.stages.tasks import HARNESS, read_values

_HARNESS_DIGITS = 3
_Found = dict[tuple[str, str | None], Done]
"""What came of each step, by its stage and what of it."""


def collect_results(plan: RunPlan, done: Sequence[Done]) -> dict[str, Any]:
    """Return one JSON-able object about the run.

    `arms`: rows, metrics and folders of each selection; `differences`: the selection asked for minus each control,
    paired over the same held-out examples; `stages`: seconds of each step (as first computed) and its share.
    """
    found: _Found = {(one.step.stage.name, one.step.of): one for one in done}
    arms = {name: arm for name in (BASE, *plan.recipe.arms) if (arm := _arm(found, name))}
    total = sum(one.manifest["wall_s"] for one in done)
    stages = [
        {"label": one.step.label, "wall_s": one.manifest["wall_s"], "reused": one.is_reused,
         "share": one.manifest["wall_s"] / max(total, 1e-9)} for one in done
    ]
    return {
        "run": plan.recipe.name,
        "seed": plan.recipe.seed,
        "storage": plan.storage.uri,
        "pool": found["prepare", None].manifest["rows"],
        "arms": arms,
        "differences": _differences(plan, found),
        "stages": stages,
        "wall_s": round(sum(one.seconds for one in done), 1),
    }


def _arm(found: _Found, name: str) -> dict[str, Any]:
    arm: dict[str, Any] = {}
    if ("select", name) in found:
        one = found["select", name]
        arm |= {"rows": one.manifest["rows"]["selected"], "subset": f"{one.step.artifact.uri}/subset.jsonl"}
    if ("finetune", name) in found:
        one = found["finetune", name]
        arm |= {"finetune_s": one.manifest["wall_s"], "steps": one.manifest["total_steps"],
                "model": f"{one.step.artifact.uri}/model"}
    if ("evaluate", name) in found:
        arm["metrics"] = found["evaluate", name].manifest["metrics"]
    return arm


def _differences(plan: RunPlan, found: _Found) -> list[dict[str, Any]]:
    """Return ours minus theirs for each control, task and metric that has a value for each example."""
    recipe, gaps = plan.recipe, []
    ours = recipe.selection.selector
    if ("evaluate", ours) not in found:
        return []
    for control in recipe.selection.controls:
        pair = [_predictions(found["evaluate", name]) for name in (ours, control)]
        for task in recipe.evaluation.tasks:
            mine, theirs = (table.filter(pc.equal(table["task"], task.name)) for table in pair)
            for metric in (name for name in task.metrics if METRICS.find(name).is_per_example):
                gap = difference(metric, mine, theirs, np.random.default_rng(recipe.seed))
                gaps.append({"control": control, "task": task.name, "metric": metric, **gap.to_dict()})
        gaps += [{"control": control, **gap} for gap in _harness_differences(plan, found, ours, control)]
    return gaps


def _harness_differences(plan: RunPlan, found: _Found, ours: str, control: str) -> Iterator[dict[str, Any]]:
    """Yield the same for what lm-evaluation-harness measured of both, with what its table needs to know of it."""
    pair = [found["evaluate", name] for name in (ours, control)]
    for task, metrics in pair[0].manifest["metrics"].items():
        for metric, about in metrics.items() if task.startswith(HARNESS) else ():
            mine, theirs = (read_values(one.step.artifact.storage, one.step.artifact.folder, task, metric)
                            for one in pair)
            gap = difference(metric, mine, theirs, np.random.default_rng(plan.recipe.seed))
            yield {"task": task, "metric": metric, **gap.to_dict(),
                   **{key: about[key] for key in ("better", "harness")}}


def _predictions(one: Done) -> pa.Table:
    return one.step.artifact.read_table("predictions.parquet")


def tables_of(results: dict[str, Any]) -> list[Table]:
    """Return tables for people."""
    tables = [_metrics_table(results, task, metric) for task, metric in _task_metrics(results)]
    if results["differences"]:
        tables.append(_difference_table(results))
    return [*tables, _stage_table(results)]


def _task_metrics(results: dict[str, Any]) -> list[tuple[str, str]]:
    pairs = [(t, m) for arm in results["arms"].values() for t, ms in arm.get("metrics", {}).items() for m in ms]
    return list(dict.fromkeys(pairs))


def _metrics_table(results: dict[str, Any], task: str, metric: str) -> Table:
    arms = {name: arm for name, arm in results["arms"].items() if "metrics" in arm}
    values = [arm["metrics"][task][metric] for arm in arms.values()]
    by = f"by lm-evaluation-harness {values[0]['harness']}; " if "harness" in values[0] else ""
    table = Table(title=f"{task}: {metric} ({by}{_better(values[0], metric)} is better; 95 % interval)",
                  title_justify="left")
    for heading in ("", *arms):
        table.add_column(heading, justify="left" if not heading else "right")
    table.add_row("rows", *(f"{arm['rows']:,}" if "rows" in arm else "-" for arm in arms.values()))
    table.add_row("steps", *(f"{arm['steps']:,}" if "steps" in arm else "-" for arm in arms.values()))
    table.add_row("training", *(clock(a["finetune_s"]) if "finetune_s" in a else "-" for a in arms.values()))
    digits = _HARNESS_DIGITS if "harness" in values[0] else METRICS.find(metric).decimals
    table.add_row("all", *(f"{v['value']:.{digits}f} [{v['low']:.{digits}f}, {v['high']:.{digits}f}]" for v in values),
                  style="bold")
    for source in values[0]["by_source"]:
        table.add_row(f"{source} (n={values[0]['by_source'][source]['n']})",
                      *(f"{v['by_source'][source]['value']:.{digits}f}" for v in values))
    return table


def _better(found: Mapping[str, Any], metric: str) -> str:
    """Return which direction is better: of the harness's metrics only what it measured says so."""
    return str(found["better"] if "harness" in found else METRICS.find(metric).better)


def _difference_table(results: dict[str, Any]) -> Table:
    ours = next(name for name in results["arms"] if name != BASE)
    table = Table(title=f"{ours} minus control, paired over the same examples", title_justify="left")
    for heading in ("control", "task", "metric", "difference", "95 % interval", ""):
        table.add_column(heading)
    for gap in results["differences"]:
        if gap["low"] <= 0 <= gap["high"]:
            verdict = "no significant difference"
        else:
            good = (gap["value"] > 0) == (_better(gap, gap["metric"]) == "higher")
            verdict = f"{ours} is better" if good else f"{gap['control']} is better"
        table.add_row(gap["control"], gap["task"], gap["metric"], f"{gap['value']:+.3f}",
                      f"[{gap['low']:+.3f}, {gap['high']:+.3f}]", verdict)
    return table


def _stage_table(results: dict[str, Any]) -> Table:
    table = Table(title=f"time by stage (this run: {clock(results['wall_s'])})", title_justify="left")
    for heading in ("stage", "seconds", "share", ""):
        table.add_column(heading, justify="right" if heading in ("seconds", "share") else "left")
    for stage in results["stages"]:
        table.add_row(stage["label"], f"{stage['wall_s']:.1f}", f"{stage['share']:.0%}",
                      "reused" if stage["reused"] else "")
    return table
