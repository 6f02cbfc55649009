"""What the stages took, what was reused, and what selecting cost against what it saved."""

from collections.abc import Mapping
from typing import Any

from s2l_ray.progress.wording import clock
from s2l_ray.report.arms import Arm, trained_alike
from s2l_ray.report.figures import Section, Table
from s2l_ray.report.study import Study
from s2l_ray.results.record import Record
from s2l_ray.stages.table import stage_of


def cost_section(study: Study) -> Section:
    """Return seconds and GPU-seconds of each step, and the balance of selecting."""
    tables = tuple(_steps_table(study, record) for record in study.records)
    return Section(tuple(_balance(study)), tables=tables)


def selecting_seconds(study: Study, arm: Arm) -> float:
    """Return the seconds of all that led to an arm's selection, after the tokenising that full data needs too."""
    fingerprint = arm.fingerprint("select")
    pending, seen, total = ([] if fingerprint is None else [fingerprint]), set[str](), 0.0
    while pending:
        one = pending.pop()
        manifest = None if one in seen else study.find(arm.storage, one)
        seen.add(one)
        if manifest is not None and stage_of(manifest["stage"]).is_selecting:
            total += manifest["wall_s"]
            pending += manifest["parents"].values()
    return total


def training_seconds(study: Study, arm: Arm) -> float | None:
    """Return the seconds of an arm's fine-tuning, None where it is not finished."""
    manifest = study.manifest_of(arm, "finetune")
    return None if manifest is None else float(manifest["wall_s"])


def gpu_seconds(manifest: Mapping[str, Any], recipe: Mapping[str, Any]) -> float | None:
    """Return GPU-seconds: what a stage held of GPUs, times the seconds; None where that was not recorded.

    A training holds one GPU for each of its workers. Scoring processes hold one each while they score; how many there
    were is known from their summed seconds, which only the trajectories and probes record.
    """
    resources = manifest.get("resources", recipe["resources"])
    workers = stage_of(manifest["stage"]).workers
    if not resources["use_gpu"] or workers in ("none", "cpu"):
        return 0.0
    if workers == "training":
        return float(manifest["wall_s"] * max(manifest["num_workers_used"]))
    return float(manifest["model_s"]) if "model_s" in manifest else None


def _steps_table(study: Study, record: Record) -> Table:
    rows, recipe = [], record.content["recipe"]
    seconds = gpus = reused_s = 0.0
    for step in record.steps:
        manifest = study.manifest(record.storage, step["stage"], step["fingerprint"])
        if manifest is None:
            rows.append((step["label"], step["stage"], "-", "-", "not finished"))
            continue
        is_reused = manifest["started"] < record.content["started"]
        held = gpu_seconds(manifest, recipe)
        seconds, gpus = seconds + manifest["wall_s"], gpus + (held or 0)
        reused_s += manifest["wall_s"] if is_reused else 0
        rows.append((step["label"], step["stage"], f"{manifest['wall_s']:,.1f}",
                     "not recorded" if held is None else f"{held:,.1f}", "reused" if is_reused else "made here"))
    rows.append(("all", "", f"{seconds:,.1f}", f"{gpus:,.1f}", f"{reused_s:,.1f} s reused"))
    return Table(
        f"{'Sweep' if record.is_sweep else 'Run'} {record.name}: seconds of each step when it was first made",
        ("step", "stage", "seconds", "GPU-seconds", "in this run"), tuple(rows), frozenset({0, 1, 4}),
    )


def _balance(study: Study) -> list[str]:
    """Say what selecting cost, and what training on the selection took against training on all."""
    primary = study.primary
    if primary is None:
        return ["What selecting cost is not known: no selection is finished."]
    name, select_s = study.point_of(primary).label, selecting_seconds(study, primary)
    first = (f"Selecting {study.rows(primary):,} rows with {name} cost {clock(select_s)} "
             f"({select_s:,.1f} s: all that the selection needs beyond tokenising).")
    ours = training_seconds(study, primary)
    full = next((arm for point in study.points if point.control == "whole pool"
                 and trained_alike(point, study.point_of(primary)) for arm in point.finished), None)
    theirs = None if full is None else training_seconds(study, full)
    if ours is None or full is None or theirs is None:
        return [first, "What it saved is not known: that needs finished fine-tunings on the selection and on full "
                       "data (selection.controls=[full])."]
    saved, second = theirs - ours, f"Fine-tuning took {ours:,.1f} s on the selection and {theirs:,.1f} s on full data"
    steps = [(study.manifest_of(one, "finetune") or {}).get("total_steps") for one in (primary, full)]
    if steps[0] == steps[1]:
        return [first, f"{second}, both for {steps[0]:,} steps (target.max_steps): what differs is the rows' length "
                       "and chance. With target.epochs a smaller selection takes fewer steps, which saves time."]
    if saved <= 0:
        return [first, f"{second}: no time was saved."]
    times = select_s / saved
    worth = ("which pays for selecting in this one training" if times <= 1 else
             f"so the selection pays for itself after {times:,.1f} such trainings")
    return [first, f"{second}: {clock(saved)} less, {worth}."]
