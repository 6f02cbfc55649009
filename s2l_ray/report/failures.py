"""Rows that a fine-tuned target gets wrong, or that the proxy learned least, as rows to start new data from."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from s2l_ray.errors import InputError
from s2l_ray.progress.notes import note
from s2l_ray.recipe.registry import METRICS
from s2l_ray.report.arms import Arm
from s2l_ray.report.study import Study, read_study
from s2l_ray.rows.originals import values
from s2l_ray.storage.files import Storage
from s2l_ray.tables.schemas import losses_matrix

COLUMN = "failure"
"""Beside a row's own columns: what was wrong with it."""
_SAID = ("prediction", "answer", "reference")


def write_failures(run: str, storage: str, arm: str | None, least_learned: int, output: Path | None) -> dict[str, Any]:
    """Write JSONL, each row as it came with one column more; return the file and how many rows are of which kind.

    Rows of the evaluation's tasks whose value of a right-or-wrong metric is 0 come with the target's own answer, the
    gold one, and the task; then as many rows of the pool as asked for, whose loss under the proxy fell least from the
    first recorded point to the last. Generators that start from a model's failures take such rows (LLM2LLM, arXiv
    2403.15042; ReverseGen, arXiv 2410.16736).

    Raises
    ------
    InputError
        There is no such run or arm, it is not evaluated, or nothing tells right from wrong.
    """
    study = read_study([run], storage)
    own = _arm(study, arm or study.selector)
    rows, counts = [], {}
    for task, failed in _of_tasks(study, own):
        rows += failed
        counts[task] = len(failed)
    if least_learned:
        learned = _least_learned(study, own, least_learned)
        rows += learned
        counts["pool"] = len(learned)
    if not counts:
        raise InputError(f"{run!r}: no task that {own.trial} was evaluated on has a metric that tells right from wrong "
                         f"({', '.join(_right_or_wrong())}), and --pool asks for no row: add exact_match to a task's "
                         "metrics and run it, or say --pool 100")
    held_out = sorted(counts.keys() - {"pool"})
    if any(counts[task] for task in held_out):
        note(f"rows of {', '.join(held_out)} are held out: what learns from them, or from rows made of them, is no "
             "longer measured by these tasks")
    target = Storage(str(output.absolute().parent)) if output else own.storage
    name = output.name if output else f"{study.records[0].folder}/failures-{own.trial}.jsonl"
    target.write_bytes(name, "".join(json.dumps(row, ensure_ascii=False, default=str) + "\n" for row in rows).encode())
    return {"file": target.uri_of(name), "arm": own.trial, "rows": len(rows), "of": counts}


def _right_or_wrong() -> list[str]:
    """Return the metrics whose value of an example is 1 or 0: those that need a gold answer."""
    return [metric.name for metric in METRICS if metric.needs_gold and metric.is_per_example]


def _arm(study: Study, name: str) -> Arm:
    for arm in study.arms:
        if arm.trial == name or (study.records[0].is_sweep and arm.selector == name):
            return arm
    raise InputError(f"there is no arm {name!r} in {study.records[0].name!r}: it has "
                     f"{', '.join(arm.trial for arm in study.arms)}")


def _of_tasks(study: Study, arm: Arm) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Yield each task that has such a metric, with the rows that failed by the first one."""
    manifest = study.manifest_of(arm, "evaluate")
    if manifest is None:
        return
    table = arm.storage.read_table(f"evaluate/{arm.fingerprint('evaluate')}/predictions.parquet")
    for task, measured in manifest["metrics"].items():
        metric = next((name for name in _right_or_wrong() if name in measured and name in table.column_names), None)
        examples = manifest["parents"].get(f"examples:{task}")
        if metric is not None and examples is not None:
            failed = table.filter(pc.and_(pc.equal(table["task"], task), pc.equal(table[metric], 0)))
            said = [{name: row[name] for name in _SAID if row.get(name) is not None} for row in failed.to_pylist()]
            about = [{"task": task, "metric": metric, **each} for each in said]
            yield task, _with_originals(arm.storage, examples, failed["example_id"], about)


def _least_learned(study: Study, arm: Arm, count: int) -> list[dict[str, Any]]:
    """Return the rows of the pool whose loss fell least, the least first, equal ones in the order of their ids."""
    manifest = study.manifest_of(arm, "select")
    trajectories = None if manifest is None else study.trajectories_of(arm, manifest["parents"]["examples"])
    if trajectories is None or len(trajectories["points"]) < 2:
        raise InputError("--pool: this run has no trajectories of two points or more, so no loss fell")
    folder = f"trajectories/{trajectories['fingerprint']}/shards"
    table = pa.concat_tables([arm.storage.read_table(f"{folder}/{name}", ["example_id", "losses"])
                              for name in arm.storage.list_names(folder)])
    losses_NC = losses_matrix(table)
    falls_N = losses_NC[:, 0] - losses_NC[:, -1]
    order = np.lexsort((np.array(table["example_id"].to_pylist()), falls_N))[:count]
    about = [{"task": None, "loss_fall": float(falls_N[row]), "last_loss": float(losses_NC[row, -1])} for row in order]
    ids = table["example_id"].take(pa.array(order))
    return _with_originals(arm.storage, trajectories["parents"]["examples"], ids, about)


def _with_originals(
    storage: Storage, examples: str, ids: pa.ChunkedArray, about: Sequence[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Return the rows of these ids, in this order, each with what is said about it."""
    wanted = ids.combine_chunks()
    found: dict[str, Any] = {}
    for name in storage.list_names(f"prepare/{examples}/originals"):
        table = storage.read_table(f"prepare/{examples}/originals/{name}")
        table = table.filter(pc.is_in(table["example_id"], value_set=wanted))
        found |= dict(zip(table["example_id"].to_pylist(), values(table), strict=True))
    return [{**found[example_id], COLUMN: {"example_id": example_id, **facts}}
            for example_id, facts in zip(wanted.to_pylist(), about, strict=True)]
