"""evaluate: held-out loss, and answers by greedy generation judged the field's way, each with its interval."""

import time
from collections.abc import Sequence
from functools import lru_cache, partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from s2l_ray.execution.attempts import Worker
from s2l_ray.execution.precision import answering_precision, settle_precision
from s2l_ray.execution.work_units import run_units
from s2l_ray.modeling.identity import model_identity
from s2l_ray.progress.notes import note
from s2l_ray.recipe.evaluation import TaskConfig
from s2l_ray.recipe.model import ModelConfig
from s2l_ray.recipe.recipe import Recipe
from s2l_ray.recipe.registry import METRICS
from s2l_ray.stages.harness import check_harness, harness_identity, run_harness
from s2l_ray.stages.planning import BASE, Output, Planning, Step, of_task
from s2l_ray.stages.table import stage_of
from s2l_ray.stages.tasks import UNIT_ROWS, Task, predictions_schema
from s2l_ray.stages.work import ANSWERING, Sizes, Work, loaded_bytes
from s2l_ray.storage.artifacts import Artifact

_OPTIONS = 4
"""Of a multiple-choice question, mostly."""


def outputs(planning: Planning) -> list[Output]:
    """Return an evaluation of each fine-tuned target, and of the base where asked for; without tasks, the targets."""
    if planning.recipe.evaluation.is_empty:
        return planning.all_outputs(stage_of("finetune"))
    base: list[Output] = [("evaluation", BASE)] if planning.recipe.evaluation.include_base else []
    return [*planning.all_outputs(stage_of("evaluate")), *base]


def plan(planning: Planning, table: str, of: str | None) -> Step:
    """Return the step of an evaluation, named by the model (a fine-tuned one, or as it is) and the tasks' rows."""
    recipe = planning.recipe
    model = recipe.target.model if of == BASE else planning.artifact("model", of)
    tasks = _tasks(planning)
    # The seed decides a fresh model's weights and the bootstrap's draws.
    identity = {"tasks": [task.config.identity() for task in tasks], "seed": recipe.seed,
                **recipe.evaluation.identity_of("precision"), **harness_identity(recipe.evaluation.harness),
                **METRICS.identity_of(*(name for task in tasks for name in task.config.metrics))}
    parents = {f"examples:{task.config.name}": task.examples.fingerprint for task in tasks}
    if isinstance(model, Artifact):
        parents["model"] = model.fingerprint
    else:
        identity["model"] = model_identity(model)
    artifact = Artifact(planning.storage, "evaluate", identity, parents)
    return Step(stage_of("evaluate"), artifact, partial(run_evaluate, artifact, model, tasks, recipe, of), of,
                check=partial(_check, tasks, recipe))


@lru_cache(maxsize=1)  # all evaluations of a plan share its tasks, and what was found of them
def _tasks(planning: Planning) -> list[Task]:
    recipe = planning.recipe
    return [Task(task, planning.artifact("examples", of_task(task.name)), task.data(recipe.data))
            for task in recipe.evaluation.tasks]


def work(step: Step, sizes: Sizes) -> Work:
    """Return what losses and answers take, every answer as long as it may be."""
    recipe, size = sizes.recipe, sizes.model("target.model")
    rows, tokens, operations = 0, 0.0, 0.0
    for task in recipe.evaluation.tasks:
        pool = sizes.pool(of_task(task.name))
        needs = {METRICS.find(name).needs for name in task.metrics}
        rows += pool.rows
        if "losses" in needs:
            tokens += pool.rows * pool.tokens
            operations += size.forward_operations(pool.rows * pool.tokens, pool.rows * pool.supervised, pool.tokens)
        if "options" in needs:
            ranked = _OPTIONS * pool.rows
            tokens += ranked * pool.tokens
            operations += size.forward_operations(ranked * pool.tokens, ranked * pool.supervised, pool.tokens)
        if "answers" in needs:
            prompts, answers = pool.rows * (pool.tokens - pool.supervised), pool.rows * task.max_new_tokens
            tokens += prompts + answers
            operations += size.forward_operations(prompts, pool.rows, pool.tokens)
            operations += ANSWERING * size.forward_operations(answers, answers, pool.tokens)
    precision = sizes.settle(answering_precision(recipe.evaluation.precision, recipe.resources))
    return Work(rows, tokens, None, operations, precision, loaded_bytes(size, precision), size.weights)


def _check(tasks: Sequence[Task], recipe: Recipe) -> None:
    """Refuse rows without a gold answer before any work; InputError as `gold.check_rows` and `check_harness`."""
    assert all(task.gold is not None for task in tasks if task.needs_gold)
    check_harness(recipe.evaluation.harness, is_chat=recipe.data.prompt_style == "chat")


def run_evaluate(
    artifact: Artifact, model: Artifact | ModelConfig, tasks: Sequence[Task], recipe: Recipe, label: str | None
) -> dict[str, Any]:
    """Write `predictions.parquet` (one row an example) and `metrics.json`; units of an earlier run stay.

    Where the harness has tasks, its values are in `harness.parquet`, and its metrics among the others.
    """
    started = time.time()
    units = [unit for task in tasks for unit in _units(task)]
    finished = set(artifact.list_names("parts"))
    todo = [unit for unit in units if unit["part"] not in finished]
    gold = {task.config.name: f"{task.gold.preset} of {task.gold.column}" for task in tasks if task.gold is not None}
    asked = answering_precision(recipe.evaluation.precision, recipe.resources)
    precision = settle_precision(artifact, asked, recipe.resources)
    arguments = {"artifact": artifact, "model": model, "tasks": {task.config.name: task for task in tasks},
                 "precision": precision, "batch_size": recipe.evaluation.batch_size, "seed": recipe.seed}
    run_units(f"evaluate {label}", _evaluator, arguments, todo, recipe.resources, gpu=True, unit_name="parts",
              describe=lambda unit: f"{unit['task']}, rows from {unit['start']} of {unit['shard']}")
    empty = predictions_schema([task.config for task in tasks]).empty_table()
    table = pa.concat_tables([artifact.read_table(f"parts/{unit['part']}") for unit in units] or [empty])
    expected = sum(task.examples.manifest()["rows"]["examples"] for task in tasks)
    if table.num_rows != expected:
        raise RuntimeError(f"{table.num_rows} predictions for {expected} held-out examples: delete {artifact.folder}")
    artifact.write_table("predictions.parquet", table)
    metrics = {task.config.name: _metrics(table, task.config, recipe.seed) for task in tasks}
    facts: dict[str, Any] = {"rows": {"examples": expected}, "metrics": metrics, "precision": precision,
                             **({"gold": gold} if gold else {})}
    if recipe.evaluation.harness.tasks:
        measured, facts["harness"] = run_harness(artifact, model, recipe, precision, label)
        metrics |= measured
        facts["rows"]["examples"] += sum(task["examples"] for task in facts["harness"]["tasks"].values())
    artifact.write_json("metrics.json", metrics)
    artifact.storage.delete_folder(artifact.file("parts"))
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
        for start in range(0, num_rows, UNIT_ROWS):
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


def _evaluator(**arguments: Any) -> Worker:
    from s2l_ray.stages.workers.evaluating import UnitEvaluator  # heavy: torch, which the driver does without

    return UnitEvaluator(**arguments)
