"""evaluate: held-out loss, and answers by greedy generation judged the field's way, each with its interval."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from s2l_ray.artifacts import Artifact
from s2l_ray.config import EvaluationConfig, ResourcesConfig, TaskConfig
from s2l_ray.execution.work import run_units
from s2l_ray.metrics.answers import extract_answer, response_is_correct
from s2l_ray.metrics.estimates import estimate
from s2l_ray.metrics.text_overlap import rouge_l
from s2l_ray.modeling.batching import ExampleTable, plan_batches
from s2l_ray.modeling.generation import greedy_answers
from s2l_ray.modeling.losses import LossScorer
from s2l_ray.modeling.memory import start_scoring
from s2l_ray.modeling.models import load_model, load_tokenizer, model_identity
from s2l_ray.rows.originals import values
from s2l_ray.training_config import ModelConfig

_BATCH_TOKENS = 8192
_UNIT_ROWS = 256

PREDICTIONS = pa.schema(
    [
        ("task", pa.string()),
        ("example_id", pa.string()),
        ("source", pa.string()),
        ("loss", pa.float32()),
        ("prediction", pa.string()),
        ("reference", pa.string()),
        ("answer", pa.string()),
        ("exact_match", pa.float32()),
        ("rouge_l", pa.float32()),
    ]
)


@dataclass(frozen=True)
class Task:
    """A task of the recipe and its prepared rows."""

    config: TaskConfig
    examples: Artifact


def evaluate_artifact(model: Artifact | ModelConfig, tasks: Sequence[Task], seed: int) -> Artifact:
    """Name an evaluation: the model (a fine-tuned one, or one as it is), and the tasks with their rows."""
    # The seed decides a fresh model's weights and the bootstrap's draws.
    identity: dict[str, Any] = {"tasks": [task.config.identity() for task in tasks], "seed": seed}
    parents = {f"examples:{task.config.name}": task.examples.fingerprint for task in tasks}
    if isinstance(model, Artifact):
        parents["model"] = model.fingerprint
    else:
        identity["model"] = model_identity(model)
    return Artifact(tasks[0].examples.storage, "evaluate", identity, parents)


def run_evaluate(
    artifact: Artifact, config: EvaluationConfig, model: Artifact | ModelConfig, tasks: Sequence[Task],
    seed: int, resources: ResourcesConfig, label: str,
) -> dict[str, Any]:
    """Write `predictions.parquet` (one row an example) and `metrics.json`; units of an earlier run stay."""
    started, storage = time.time(), artifact.storage
    units = [unit for task in tasks for unit in _units(task)]
    finished = set(storage.list_names(artifact.file("parts")))
    todo = [unit for unit in units if unit["part"] not in finished]
    arguments = {"artifact": artifact, "model": model, "tasks": {task.config.name: task for task in tasks},
                 "batch_size": config.batch_size, "seed": seed}
    run_units(f"evaluate {label}", _UnitEvaluator, arguments, todo, resources, gpu=True, unit_name="parts",
              describe=lambda unit: f"{unit['task']}, rows from {unit['start']} of {unit['shard']}")
    table = pa.concat_tables([storage.read_table(artifact.file(f"parts/{unit['part']}")) for unit in units])
    expected = sum(task.examples.manifest()["rows"]["examples"] for task in tasks)
    if table.num_rows != expected:
        raise RuntimeError(f"{table.num_rows} predictions for {expected} held-out examples: delete {artifact.folder}")
    storage.write_table(artifact.file("predictions.parquet"), table)
    metrics = {task.config.name: _metrics(table, task.config, seed) for task in tasks}
    storage.write_json(artifact.file("metrics.json"), metrics)
    storage.delete_folder(artifact.file("parts"))
    return artifact.publish({"rows": {"examples": expected}, "metrics": metrics}, started)


def _units(task: Task) -> list[dict[str, Any]]:
    """Cut a task's shards into pieces small enough to keep several workers busy."""
    storage, folder = task.examples.storage, task.examples.file("examples")
    units = []
    for shard in storage.list_names(folder):
        num_rows = storage.read_table(f"{folder}/{shard}", ["num_tokens"]).num_rows
        for start in range(0, num_rows, _UNIT_ROWS):
            part = f"{task.config.name}-{shard.removesuffix('.parquet')}-{start:06d}.parquet"
            units.append({"task": task.config.name, "shard": shard, "start": start, "part": part})
    return units


def _metrics(table: pa.Table, task: TaskConfig, seed: int) -> dict[str, Any]:
    """Return each metric of a task over all its rows, and by source."""
    rows = table.filter(pc.equal(table["task"], task.name))
    sources = sorted(set(rows["source"].to_pylist()))
    by_source = {s: rows.filter(pc.equal(rows["source"], s)) for s in sources} if len(sources) > 1 else {}
    return {
        metric: {
            **estimate(metric, rows, np.random.default_rng(seed)).to_dict(),
            "by_source": {s: estimate(metric, r, np.random.default_rng(seed)).to_dict() for s, r in by_source.items()},
        }
        for metric in task.metrics
    }


class _UnitEvaluator:
    """Evaluates one model on pieces of the tasks' shards."""

    def __init__(self, artifact: Artifact, model: Artifact | ModelConfig, tasks: Mapping[str, Task],
                 batch_size: int, seed: int) -> None:
        self._artifact, self._tasks, self._batch_size = artifact, tasks, batch_size
        device = start_scoring()
        if isinstance(model, Artifact):
            with model.storage.local_folder(model.file("model")) as folder:
                config = ModelConfig(path=str(folder))
                self._tokenizer = load_tokenizer(config)
                self._model = load_model(config, vocab_size=0, seed=seed).to(device)  # type: ignore[arg-type]
        else:
            self._tokenizer = load_tokenizer(model)
            self._model = load_model(model, vocab_size=len(self._tokenizer), seed=seed).to(device)  # type: ignore[arg-type]
        self._scorer = LossScorer(self._model)

    def run(self, unit: dict[str, Any]) -> Mapping[str, Any]:
        task = self._tasks[unit["task"]]
        storage, examples = self._artifact.storage, task.examples
        span = (unit["start"], _UNIT_ROWS)
        table = storage.read_table(examples.file(f"examples/{unit['shard']}")).slice(*span)
        originals = storage.read_table(examples.file(f"originals/{unit['shard']}")).slice(*span)
        columns: dict[str, Any] = {
            "task": [task.config.name] * table.num_rows,
            "example_id": table["example_id"],
            "source": table["source"],
            "loss": self._losses(table) if "loss" in task.config.metrics else None,
        }
        if set(task.config.metrics) - {"loss"}:
            columns |= self._answers(table, originals, task.config)
        arrays = [_column(columns.get(field.name), field.type, table.num_rows) for field in PREDICTIONS]
        storage.write_table(self._artifact.file(f"parts/{unit['part']}"), pa.table(arrays, schema=PREDICTIONS))
        return {"num_rows": table.num_rows}

    def _losses(self, table: pa.Table) -> np.ndarray:
        rows = ExampleTable(table)
        spans = plan_batches(table["num_tokens"].to_numpy(), _BATCH_TOKENS)
        return np.concatenate([self._scorer.example_losses(rows.batch(span, pad_id=0)).cpu().numpy() for span in spans])

    def _answers(self, table: pa.Table, originals: pa.Table, task: TaskConfig) -> dict[str, Any]:
        """Generate an answer to the prompt before each row's last supervised stretch, and judge it."""
        rows = ExampleTable(table)
        prompts, references = zip(*(self._split(rows[i]) for i in range(len(rows))), strict=True)
        predictions: list[str] = []
        for start in range(0, len(prompts), self._batch_size):
            batch = prompts[start : start + self._batch_size]
            predictions += greedy_answers(self._model, self._tokenizer, batch, task.max_new_tokens)
        answers = [_gold(row, reference, task) for row, reference in zip(values(originals), references, strict=True)]
        judged: dict[str, Any] = {"prediction": predictions, "reference": references, "answer": answers}
        if "exact_match" in task.metrics:
            pairs = zip(predictions, answers, strict=True)
            judged["exact_match"] = [float(a is not None and response_is_correct(p, a)) for p, a in pairs]
        if "rouge_l" in task.metrics:
            judged["rouge_l"] = [rouge_l(p, r) for p, r in zip(predictions, references, strict=True)]
        return judged

    def _split(self, row: Mapping[str, np.ndarray]) -> tuple[np.ndarray, str]:
        """Return the prompt's ids and the reference response's text."""
        ids, supervised = row["input_ids"], row["supervised"]
        last = int(np.flatnonzero(supervised)[-1])
        before = np.flatnonzero(~supervised[: last + 1])
        start = int(before[-1]) + 1 if len(before) else 1
        return ids[:start], str(self._tokenizer.decode(ids[start : last + 1], skip_special_tokens=True))


def _gold(row: Mapping[str, Any], reference: str, task: TaskConfig) -> str | None:
    """Return the gold answer: the task's column, or the one found in the reference response."""
    given = row.get(task.answer_column)
    return extract_answer(reference) if given is None else str(given)


def _column(values_: Any, kind: pa.DataType, length: int) -> Any:
    if values_ is None:
        return pa.nulls(length, kind)
    return values_ if isinstance(values_, pa.ChunkedArray) else pa.array(values_, kind)
