"""evaluate: held-out loss, and answers by greedy generation judged the field's way, each with its interval."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from s2l_ray.execution.work_units import run_units
from s2l_ray.metrics.metric import Answer, Score
from s2l_ray.modeling.batching import ExampleTable, plan_batches
from s2l_ray.modeling.generation import greedy_answers
from s2l_ray.modeling.losses import LossScorer
from s2l_ray.modeling.memory import start_scoring
from s2l_ray.modeling.models import load_from, load_model, load_tokenizer, load_tokenizer_from, model_identity
from s2l_ray.progress.notes import note
from s2l_ray.recipe.data import DataConfig
from s2l_ray.recipe.evaluation import TaskConfig
from s2l_ray.recipe.model import ModelConfig
from s2l_ray.recipe.recipe import Recipe
from s2l_ray.recipe.registry import METRICS
from s2l_ray.rows.first_rows import find_shape
from s2l_ray.rows.held_out import held_out_rows, response_of
from s2l_ray.rows.hub import scan_pool
from s2l_ray.rows.originals import values
from s2l_ray.stages.gold import GoldRule, check_rows, find_rule
from s2l_ray.stages.planning import BASE, Output, Planning, Step, of_task
from s2l_ray.stages.table import stage_of
from s2l_ray.storage.artifacts import Artifact

_BATCH_TOKENS = 8192
_UNIT_ROWS = 256
_TEXTS = ("task", "example_id", "source", "prediction", "reference", "answer", "disagreement")


@dataclass(frozen=True)
class Task:
    """A task of the recipe and its prepared rows."""

    config: TaskConfig
    examples: Artifact
    data: DataConfig
    """How its rows are read."""

    @property
    def needs_gold(self) -> bool:
        """Tell whether any of its metrics compares with gold answers."""
        return any(METRICS.find(name).needs_gold for name in self.config.metrics)

    @cached_property
    def gold(self) -> GoldRule | None:
        """Return how gold answers are read, found by a look at all rows and reported then; None where none are needed.

        Raises
        ------
        InputError
            A row has none.
        """
        if not self.needs_gold:
            return None
        scans = scan_pool(self.examples.storage, self.data)
        rows = list(held_out_rows(scans, find_shape(scans, self.data), self.data))
        rule = find_rule([(row, response) for _, row, response in rows], self.config.gold, self.config.answer_column)
        check_rows(rule, rows, self.config.name)
        note(f"task {self.config.name}: {rule.description}")
        return rule


def outputs(planning: Planning) -> list[Output]:
    """Return an evaluation of each fine-tuned target, and of the base where asked for; without tasks, the targets."""
    if not planning.recipe.evaluation.tasks:
        return planning.all_outputs(stage_of("finetune"))
    base: list[Output] = [("evaluation", BASE)] if planning.recipe.evaluation.include_base else []
    return [*planning.all_outputs(stage_of("evaluate")), *base]


def plan(planning: Planning, table: str, of: str | None) -> Step:
    """Return the step of an evaluation, named by the model (a fine-tuned one, or as it is) and the tasks' rows."""
    recipe = planning.recipe
    model = recipe.target.model if of == BASE else planning.artifact("model", of)
    tasks = _tasks(planning)
    # The seed decides a fresh model's weights and the bootstrap's draws.
    identity: dict[str, Any] = {"tasks": [task.config.identity() for task in tasks], "seed": recipe.seed}
    parents = {f"examples:{task.config.name}": task.examples.fingerprint for task in tasks}
    if isinstance(model, Artifact):
        parents["model"] = model.fingerprint
    else:
        identity["model"] = model_identity(model)
    artifact = Artifact(planning.storage, "evaluate", identity, parents)
    return Step(stage_of("evaluate"), artifact, partial(run_evaluate, artifact, model, tasks, recipe, of), of,
                check=partial(_check_gold, tasks))


@lru_cache(maxsize=1)  # all evaluations of a plan share its tasks, and what was found of them
def _tasks(planning: Planning) -> list[Task]:
    recipe = planning.recipe
    return [Task(task, planning.artifact("examples", of_task(task.name)), task.data(recipe.data))
            for task in recipe.evaluation.tasks]


def _check_gold(tasks: Sequence[Task]) -> None:
    """Refuse rows without a gold answer before any work; InputError as `gold.check_rows`."""
    assert all(task.gold is not None for task in tasks if task.needs_gold)


def predictions_schema(tasks: Sequence[TaskConfig]) -> pa.Schema:
    """Return the columns of predictions.parquet: texts, and a column for each metric that has a value an example."""
    metrics = dict.fromkeys(name for task in tasks for name in task.metrics if METRICS.find(name).is_per_example)
    return pa.schema([*((name, pa.string()) for name in _TEXTS), *((name, pa.float32()) for name in metrics)])


def run_evaluate(
    artifact: Artifact, model: Artifact | ModelConfig, tasks: Sequence[Task], recipe: Recipe, label: str | None
) -> dict[str, Any]:
    """Write `predictions.parquet` (one row an example) and `metrics.json`; units of an earlier run stay."""
    started = time.time()
    units = [unit for task in tasks for unit in _units(task)]
    finished = set(artifact.list_names("parts"))
    todo = [unit for unit in units if unit["part"] not in finished]
    gold = {task.config.name: f"{task.gold.preset} of {task.gold.column}" for task in tasks if task.gold is not None}
    arguments = {"artifact": artifact, "model": model, "tasks": {task.config.name: task for task in tasks},
                 "batch_size": recipe.evaluation.batch_size, "seed": recipe.seed}
    run_units(f"evaluate {label}", _UnitEvaluator, arguments, todo, recipe.resources, gpu=True, unit_name="parts",
              describe=lambda unit: f"{unit['task']}, rows from {unit['start']} of {unit['shard']}")
    table = pa.concat_tables([artifact.read_table(f"parts/{unit['part']}") for unit in units])
    expected = sum(task.examples.manifest()["rows"]["examples"] for task in tasks)
    if table.num_rows != expected:
        raise RuntimeError(f"{table.num_rows} predictions for {expected} held-out examples: delete {artifact.folder}")
    artifact.write_table("predictions.parquet", table)
    metrics = {task.config.name: _metrics(table, task.config, recipe.seed) for task in tasks}
    artifact.write_json("metrics.json", metrics)
    artifact.storage.delete_folder(artifact.file("parts"))
    facts = {"rows": {"examples": expected}, "metrics": metrics,
             **({"gold": gold} if gold else {})}
    num_disagreeing = expected - table["disagreement"].null_count
    if num_disagreeing:
        facts["disagreements"] = num_disagreeing
        note(f"evaluate {label}: two judges of equal answers disagree on {num_disagreeing:,} of {expected:,} "
             f"(predictions.parquet, column disagreement); where one says equal, it counts as equal")
    return artifact.publish(facts, started)


def _units(task: Task) -> list[dict[str, Any]]:
    """Cut a task's shards into pieces small enough to keep several workers busy."""
    units = []
    for shard in task.examples.list_names("examples"):
        num_rows = task.examples.read_table(f"examples/{shard}", ["num_tokens"]).num_rows
        for start in range(0, num_rows, _UNIT_ROWS):
            part = f"{task.config.name}-{shard.removesuffix('.parquet')}-{start:06d}.parquet"
            units.append({"task": task.config.name, "shard": shard, "start": start, "part": part})
    return units


def _metrics(table: pa.Table, task: TaskConfig, seed: int) -> dict[str, Any]:
    """Return each metric of a task over all its rows, and by source."""
    rows = table.filter(pc.equal(table["task"], task.name))
    sources = sorted(set(rows["source"].to_pylist()))
    by_source = {s: rows.filter(pc.equal(rows["source"], s)) for s in sources} if len(sources) > 1 else {}

    def estimate(metric: str, over: pa.Table) -> dict[str, Any]:
        found: dict[str, Any] = METRICS.find(metric).estimate(over, np.random.default_rng(seed)).to_dict()
        return found

    return {
        metric: {**estimate(metric, rows), "by_source": {s: estimate(metric, r) for s, r in by_source.items()}}
        for metric in task.metrics
    }


class _UnitEvaluator:
    """Evaluates one model on pieces of the tasks' shards."""

    def __init__(self, artifact: Artifact, model: Artifact | ModelConfig, tasks: Mapping[str, Task],
                 batch_size: int, seed: int) -> None:
        self._artifact, self._tasks, self._batch_size = artifact, tasks, batch_size
        self._schema = predictions_schema([task.config for task in tasks.values()])
        device = start_scoring()
        if isinstance(model, Artifact):
            self._tokenizer, loaded = load_tokenizer_from(model), load_from(model)
        else:
            self._tokenizer = load_tokenizer(model)
            loaded = load_model(model, vocab_size=len(self._tokenizer), seed=seed)
        self._model = loaded.to(device)  # type: ignore[arg-type]
        self._scorer = LossScorer(self._model)

    def run(self, unit: dict[str, Any]) -> Mapping[str, Any]:
        task = self._tasks[unit["task"]]
        span = (unit["start"], _UNIT_ROWS)
        table = task.examples.read_table(f"examples/{unit['shard']}").slice(*span)
        originals = task.examples.read_table(f"originals/{unit['shard']}").slice(*span)
        columns: dict[str, Any] = {
            "task": [task.config.name] * table.num_rows,
            "example_id": table["example_id"],
            "source": table["source"],
        }
        metrics = [METRICS.find(name) for name in task.config.metrics]
        for metric in metrics:
            if metric.needs == "losses":
                columns[metric.name] = self._losses(table)
        if any(metric.needs == "answers" for metric in metrics):
            answers = self._answers(table, originals, task)
            columns |= {"prediction": [answer.prediction for answer in answers],
                        "reference": [answer.reference for answer in answers],
                        "answer": [" | ".join(answer.accepted) or None for answer in answers]}
            scores: dict[str, list[Score]] = {
                metric.name: [metric.judge(answer) for answer in answers]
                for metric in metrics if metric.needs == "answers" and metric.is_per_example}
            columns |= {name: [score.value for score in found] for name, found in scores.items()}
            remarks = zip(*([score.remark for score in found] for found in scores.values()), strict=True)
            columns["disagreement"] = ["; ".join(filter(None, each)) or None for each in remarks] or None
        arrays = [_column(columns.get(field.name), field.type, table.num_rows) for field in self._schema]
        self._artifact.write_table(f"parts/{unit['part']}", pa.table(arrays, schema=self._schema))
        return {"num_rows": table.num_rows}

    def _losses(self, table: pa.Table) -> np.ndarray:
        rows = ExampleTable(table)
        spans = plan_batches(table["num_tokens"].to_numpy(), _BATCH_TOKENS)
        return np.concatenate([self._scorer.example_losses(rows.batch(span, pad_id=0)).cpu().numpy() for span in spans])

    def _answers(self, table: pa.Table, originals: pa.Table, task: Task) -> list[Answer]:
        """Generate an answer to the prompt before each row's last supervised stretch."""
        rows = ExampleTable(table)
        prompts, references = zip(*(self._split(rows[i]) for i in range(len(rows))), strict=True)
        predictions: list[str] = []
        for start in range(0, len(prompts), self._batch_size):
            batch = prompts[start : start + self._batch_size]
            predictions += greedy_answers(self._model, self._tokenizer, batch, task.config.max_new_tokens)
        return [self._answer(prediction, reference, row, task)
                for prediction, reference, row in zip(predictions, references, values(originals), strict=True)]

    def _answer(self, prediction: str, reference: str, row: Mapping[str, Any], task: Task) -> Answer:
        if task.gold is None:
            return Answer(prediction, reference, None)
        gold = task.gold.read(row, response_of(row, task.examples.manifest()["format"], task.data))
        return Answer(prediction, reference, gold.accepted[0], gold.accepted, gold.choices)

    def _split(self, row: Mapping[str, np.ndarray]) -> tuple[np.ndarray, str]:
        """Return the prompt's ids and the reference response's text."""
        ids, supervised = row["input_ids"], row["supervised"]
        last = int(np.flatnonzero(supervised)[-1])
        before = np.flatnonzero(~supervised[: last + 1])
        start = int(before[-1]) + 1 if len(before) else 1
        return ids[:start], str(self._tokenizer.decode(ids[start : last + 1], skip_special_tokens=True))


def _column(values_: Any, kind: pa.DataType, length: int) -> Any:
    if values_ is None:
        return pa.nulls(length, kind)
    return values_ if isinstance(values_, pa.ChunkedArray) else pa.array(values_, kind)
