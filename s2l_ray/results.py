"""What a finished run found: each selection's metrics side by side, differences with intervals, and the cost."""

from typing import Any

import numpy as np
import pyarrow.compute as pc
from rich.table import Table

from s2l_ray.artifacts import Artifact
from s2l_ray.feasibility import selections_of
from s2l_ray.metrics.estimates import difference
from s2l_ray.pipeline import Line
from s2l_ray.progress import clock

_LOWER_IS_BETTER = {"loss"}


def collect_results(line: Line, accounts: list[dict[str, Any]]) -> dict[str, Any]:
    """Return one JSON-able object about the run.

    `arms`: rows, metrics and folders of each selection; `differences`: the selection asked for minus each control,
    paired over the same held-out examples; `stages`: seconds of each step (as first computed) and its share.
    """
    manifests = {account["label"]: account["manifest"] for account in accounts}
    reused = {account["label"]: account["reused"] for account in accounts}
    arms = {}
    for name in ["base", *(config.selector for config in selections_of(line.recipe))]:
        arm = _arm(line, name, manifests)
        if arm:
            arms[name] = arm
    total = sum(manifest["wall_s"] for manifest in manifests.values())
    stages = [
        {"label": label, "wall_s": m["wall_s"], "share": m["wall_s"] / max(total, 1e-9), "reused": reused[label]}
        for label, m in manifests.items()
    ]
    return {
        "run": line.recipe.name,
        "seed": line.recipe.seed,
        "storage": line.storage.uri,
        "pool": manifests["prepare"]["rows"],
        "arms": arms,
        "differences": _differences(line, manifests),
        "stages": stages,
        "wall_s": round(sum(account["seconds"] for account in accounts), 1),
    }


def _arm(line: Line, name: str, manifests: dict[str, Any]) -> dict[str, Any]:
    arm: dict[str, Any] = {}
    if f"select {name}" in manifests:
        arm["rows"] = manifests[f"select {name}"]["rows"]["selected"]
        arm["subset"] = _uri(line, f"select {name}", "subset.jsonl")
    if f"finetune {name}" in manifests:
        arm["finetune_s"] = manifests[f"finetune {name}"]["wall_s"]
        arm["steps"] = manifests[f"finetune {name}"]["total_steps"]
        arm["model"] = _uri(line, f"finetune {name}", "model")
    if f"evaluate {name}" in manifests:
        arm["metrics"] = manifests[f"evaluate {name}"]["metrics"]
    return arm


def _uri(line: Line, label: str, file: str) -> str:
    return line.storage.uri_of(line.step(label).artifact.file(file))


def _differences(line: Line, manifests: dict[str, Any]) -> list[dict[str, Any]]:
    """Return ours minus theirs for each control, task and metric that has a value for each example."""
    recipe, found = line.recipe, []
    ours = f"evaluate {recipe.selection.selector}"
    if ours not in manifests:
        return []
    for control in recipe.selection.controls:
        pair = [_predictions(line.step(label).artifact) for label in (ours, f"evaluate {control}")]
        for task in recipe.evaluation.tasks:
            mine, control_rows = (table.filter(pc.equal(table["task"], task.name)) for table in pair)
            for metric in (m for m in task.metrics if m != "bleu"):
                gap = difference(metric, mine, control_rows, np.random.default_rng(recipe.seed))
                found.append({"control": control, "task": task.name, "metric": metric, **gap.to_dict()})
    return found


def _predictions(artifact: Artifact) -> Any:
    return artifact.storage.read_table(artifact.file("predictions.parquet"))


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
    better = "lower is better" if metric in _LOWER_IS_BETTER else "higher is better"
    table = Table(title=f"{task}: {metric} ({better}; 95 % interval)", title_justify="left")
    for heading in ("", *arms):
        table.add_column(heading, justify="left" if not heading else "right")
    table.add_row("rows", *(f"{arm['rows']:,}" if "rows" in arm else "-" for arm in arms.values()))
    table.add_row("steps", *(f"{arm['steps']:,}" if "steps" in arm else "-" for arm in arms.values()))
    table.add_row("training", *(clock(a["finetune_s"]) if "finetune_s" in a else "-" for a in arms.values()))
    values = [arm["metrics"][task][metric] for arm in arms.values()]
    table.add_row("all", *(f"{v['value']:.3f} [{v['low']:.3f}, {v['high']:.3f}]" for v in values), style="bold")
    for source in values[0]["by_source"]:
        table.add_row(f"{source} (n={values[0]['by_source'][source]['n']})",
                      *(f"{v['by_source'][source]['value']:.3f}" for v in values))
    return table


def _difference_table(results: dict[str, Any]) -> Table:
    ours = next(name for name in results["arms"] if name != "base")
    table = Table(title=f"{ours} minus control, paired over the same examples", title_justify="left")
    for heading in ("control", "task", "metric", "difference", "95 % interval", ""):
        table.add_column(heading)
    for gap in results["differences"]:
        if gap["low"] <= 0 <= gap["high"]:
            verdict = "no significant difference"
        else:
            good = (gap["value"] < 0) == (gap["metric"] in _LOWER_IS_BETTER)
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
