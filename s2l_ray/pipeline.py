"""The order of the stages: what a recipe needs, what of it is finished, and how the rest is run."""

import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from s2l_ray.artifacts import Artifact, git_commit
from s2l_ray.config import DataConfig, ModelConfig, Recipe, TaskConfig
from s2l_ray.execution.cluster import ray_session
from s2l_ray.modeling.models import fresh_config, load_tokenizer, model_identity, tokenizer_identity
from s2l_ray.modeling.schedule import plan_training
from s2l_ray.numerics.kmeans import resolve_num_clusters
from s2l_ray.progress import clock, note
from s2l_ray.selection_config import SelectionConfig
from s2l_ray.selectors import find_selector
from s2l_ray.selectors.interface import resolve_budget
from s2l_ray.selectors.learning_percentage import epoch_1_point
from s2l_ray.stages.embed import embed_artifact, run_embed
from s2l_ray.stages.evaluate import Task, evaluate_artifact, run_evaluate
from s2l_ray.stages.finetune import finetune_artifact, run_finetune
from s2l_ray.stages.prepare import PreparePlan, plan_prepare, run_prepare
from s2l_ray.stages.proxy import proxy_artifact, run_proxy
from s2l_ray.stages.select import SelectInputs, run_select, select_artifact
from s2l_ray.stages.trajectories import run_trajectories, trajectories_artifact
from s2l_ray.storage import Storage

STAGES = ("prepare", "proxy", "trajectories", "embed", "select", "finetune", "evaluate")


@dataclass(frozen=True)
class Step:
    """One artifact of the line and the function that makes it."""

    label: str
    artifact: Artifact
    run: Callable[[], dict[str, Any]]


@dataclass(frozen=True)
class Line:
    """The steps of a recipe in the order they run; each step's inputs come before it."""

    recipe: Recipe
    storage: Storage
    steps: tuple[Step, ...]

    def step(self, label: str) -> Step:
        """Return the step of this label."""
        return next(step for step in self.steps if step.label == label)

    @property
    def folder(self) -> str:
        """Return the run's folder in the storage."""
        return f"runs/{self.recipe.name}"


def selections_of(recipe: Recipe) -> list[SelectionConfig]:
    """Return the selection asked for, then its controls."""
    names = [recipe.selection.selector, *recipe.selection.controls]
    return [recipe.selection.model_copy(update={"selector": name, "controls": []}) for name in names]


def plan_line(recipe: Recipe, until: str = STAGES[-1]) -> Line:
    """Work out every step up to a stage, with its fingerprint, before anything runs.

    Raises
    ------
    InputError
        Anything that can be known now to be wrong: the storage, data files, models, tokenizers, selectors, a
        budget or number of clusters above the number of rows.
    """
    assert until in STAGES, until
    storage = Storage.open(recipe.storage)
    selectors = [find_selector(config.selector) for config in selections_of(recipe)]
    for model in (recipe.proxy.model, recipe.target.model, recipe.embedding.model):
        if model is not None:
            _check_model(model)
    pool = plan_prepare(storage, recipe.data, recipe.proxy.model, recipe.seed)
    _check_pool(recipe, min(sum(s.num_rows for s in pool.scans), recipe.data.limit or 2**63))
    target_pool = plan_prepare(storage, recipe.data, recipe.target.model, recipe.seed)
    embed_pool = plan_prepare(storage, recipe.data, recipe.embedding.model or recipe.proxy.model, recipe.seed)
    task_plans = [_plan_task(storage, recipe, config) for config in recipe.evaluation.tasks]
    tasks = [Task(c, plan.artifact) for c, plan in zip(recipe.evaluation.tasks, task_plans, strict=True)]
    proxy = proxy_artifact(pool.artifact, recipe.proxy, recipe.trajectory, recipe.seed)
    inputs = SelectInputs(
        pool.artifact,
        target_pool.artifact,
        trajectories_artifact(proxy, pool.artifact, recipe.trajectory),
        embed_artifact(recipe.embedding, proxy, embed_pool.artifact),
    )
    needed = frozenset({until}).union(*(selector.requires for selector in selectors))
    pools = {"prepare for target": target_pool}
    if needed & {"embed", "embeddings"}:
        pools["prepare for embedding"] = embed_pool
    if until == STAGES[-1]:
        pools |= {f"prepare task {c.name}": p for c, p in zip(recipe.evaluation.tasks, task_plans, strict=True)}
    steps = [
        *_prepare_steps(recipe, pool, pools),
        *_table_steps(recipe, proxy, inputs, embed_pool.artifact, needed),
        *_arm_steps(recipe, inputs, tasks),
    ]
    wanted = STAGES[: STAGES.index(until) + 1]
    return Line(recipe, storage, tuple(step for step in steps if step.artifact.stage in wanted))


def _check_model(model: ModelConfig) -> None:
    tokenizer_identity(model)  # first: without a network it refuses at once, transformers tries for a minute
    model_identity(model)
    tokenizer = load_tokenizer(model)
    if model.config is not None:
        fresh_config(model, len(tokenizer))


def _check_pool(recipe: Recipe, num_examples: int) -> None:
    """Refuse what a pool of this size cannot serve."""
    config = recipe.selection
    if config.selector != "full":
        resolve_budget(config.budget, num_examples)
    uses_clusters = any("num_clusters" in find_selector(c.selector).parameters for c in selections_of(recipe))
    if uses_clusters:
        resolve_num_clusters(config.num_clusters, num_examples)
    plan = plan_training(recipe.proxy, num_examples, recipe.resources.num_workers, recipe.trajectory)
    if any("epoch_1_fraction" in find_selector(c.selector).parameters for c in selections_of(recipe)):
        epoch_1_point(np.array([point.fraction for point in plan.points]), config.epoch_1_fraction)


def _plan_task(storage: Storage, recipe: Recipe, task: TaskConfig) -> PreparePlan:
    """Return how a task's held-out rows become examples: like the pool's, but every row counts."""
    data = DataConfig(
        path=task.path, format=task.format, columns=task.columns, limit=task.limit, drop_duplicates=False,
        prompt_style=recipe.data.prompt_style, max_length=recipe.data.max_length,
        max_row_chars=recipe.data.max_row_chars, max_bad_fraction=recipe.data.max_bad_fraction,
    )
    return plan_prepare(storage, data, recipe.target.model, recipe.seed)


def _prepare_steps(recipe: Recipe, pool: PreparePlan, others: Mapping[str, PreparePlan]) -> list[Step]:
    """Return a step for the pool, and for each other plan that is not the same (another tokenizer, another file)."""

    def pool_step() -> dict[str, Any]:
        manifest = run_prepare(pool, recipe.resources)
        _check_pool(recipe, manifest["rows"]["examples"])
        return manifest

    def step(label: str, plan: PreparePlan) -> Step:
        return Step(label, plan.artifact, lambda: run_prepare(plan, recipe.resources))

    steps = [Step("prepare", pool.artifact, pool_step)]
    for label, plan in others.items():
        if plan.artifact.fingerprint not in {done.artifact.fingerprint for done in steps}:
            steps.append(step(label, plan))
    return steps


def _table_steps(
    recipe: Recipe, proxy: Artifact, inputs: SelectInputs, embed_pool: Artifact, needed: frozenset[str]
) -> list[Step]:
    """Return the steps that make the tables which the selectors require, and nothing more."""
    pool, resources, trajectory = inputs.examples, recipe.resources, recipe.trajectory
    by_proxy = {"proxy", "trajectories"} | ({"embed", "embeddings"} if recipe.embedding.model is None else set())
    steps = []
    if needed & by_proxy:
        steps.append(Step("proxy", proxy, lambda: run_proxy(
            proxy, pool, recipe.proxy, trajectory, recipe.seed, resources)))
    if "trajectories" in needed:
        steps.append(Step("trajectories", inputs.trajectories, lambda: run_trajectories(
            inputs.trajectories, proxy, pool, trajectory, resources)))
    if needed & {"embed", "embeddings"}:
        steps.append(Step("embed", inputs.embeddings, lambda: run_embed(
            inputs.embeddings, recipe.embedding, proxy, embed_pool, resources)))
    return steps


def _arm_steps(recipe: Recipe, inputs: SelectInputs, tasks: list[Task]) -> list[Step]:
    """Return select, finetune and evaluate of each selection: all selections first, then all trainings."""
    arms = [_arm(recipe, config, inputs, tasks) for config in selections_of(recipe)]
    steps = [step for steps in zip(*arms, strict=True) for step in steps]
    if tasks and recipe.evaluation.include_base:
        base = evaluate_artifact(recipe.evaluation, recipe.target.model, tasks)
        steps.append(Step("evaluate base", base, lambda: run_evaluate(
            base, recipe.evaluation, recipe.target.model, tasks, recipe.seed, recipe.resources, "base")))
    return steps


def _arm(recipe: Recipe, config: SelectionConfig, inputs: SelectInputs, tasks: list[Task]) -> list[Step]:
    seed = recipe.seed if config.seed is None else config.seed
    name, target_pool = config.selector, inputs.target_examples
    select = select_artifact(config, seed, inputs)
    finetune = finetune_artifact(recipe.target, recipe.seed, select, target_pool)
    steps = [
        Step(f"select {name}", select, lambda: run_select(select, config, seed, inputs)),
        Step(f"finetune {name}", finetune, lambda: run_finetune(
            finetune, recipe.target, recipe.seed, select, target_pool, recipe.resources, name)),
    ]
    if tasks:
        evaluate = evaluate_artifact(recipe.evaluation, finetune, tasks)
        steps.append(Step(f"evaluate {name}", evaluate, lambda: run_evaluate(
            evaluate, recipe.evaluation, finetune, tasks, recipe.seed, recipe.resources, name)))
    return steps


def run_line(line: Line, command: str) -> list[dict[str, Any]]:
    """Run what is not finished yet, in order, and return each step's account: label, manifest, reused, seconds.

    Ray starts with the first step that has work to do, so a finished line answers at once.
    """
    record_run(line, command)
    accounts = []
    with contextlib.ExitStack() as stack:
        connected = False
        for step in line.steps:
            started, reused = time.time(), step.artifact.is_finished
            if not reused and not connected:
                note("starting Ray ...")
                stack.enter_context(ray_session(line.recipe.resources, line.storage))
                connected = True
            manifest = step.artifact.manifest() if reused else step.run()
            seconds = time.time() - started
            how = f"reused {step.artifact.folder}" if reused else f"done in {clock(seconds)}"
            note(f"{step.label}: {how}, {_rows(manifest)}")
            accounts.append({"label": step.label, "manifest": manifest, "reused": reused, "seconds": seconds})
    return accounts


def _rows(manifest: dict[str, Any]) -> str:
    return ", ".join(f"{count:,} {what}" for what, count in manifest["rows"].items())


def record_run(line: Line, command: str) -> None:
    """Write what the run consists of, so that `s2l status` can tell its state from anywhere."""
    line.storage.write_json(
        f"{line.folder}/run.json",
        {
            "name": line.recipe.name,
            "recipe": line.recipe.model_dump(),
            "command": command,
            "git_commit": git_commit(),
            "started": time.time(),
            "steps": [
                {"label": s.label, "stage": s.artifact.stage, "fingerprint": s.artifact.fingerprint} for s in line.steps
            ],
        },
    )
