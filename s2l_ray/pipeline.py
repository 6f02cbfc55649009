"""The order of the stages: what a recipe needs, what of it is finished, and how the rest is run."""

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import ray

from s2l_ray.artifacts import Artifact, git_commit
from s2l_ray.config import DataConfig, Recipe, TaskConfig
from s2l_ray.execution.cluster import Cluster, ray_session
from s2l_ray.execution.preflight import local_inputs
from s2l_ray.execution.training import check_resumable
from s2l_ray.feasibility import check_model, check_pool, selections_of
from s2l_ray.modeling.throughput import resolve_precision
from s2l_ray.progress import clock, counts, note
from s2l_ray.selection_config import SelectionConfig
from s2l_ray.selectors import find_selector
from s2l_ray.stages.embed import embed_artifact, run_embed
from s2l_ray.stages.evaluate import Task, evaluate_artifact, run_evaluate
from s2l_ray.stages.finetune import finetune_artifact, run_finetune
from s2l_ray.stages.prepare import PreparePlan, plan_prepare, run_prepare
from s2l_ray.stages.probe import model_of_probe, plan_probe, run_probe
from s2l_ray.stages.proxy import proxy_artifact, run_proxy
from s2l_ray.stages.select import SelectInputs, run_select, select_artifact
from s2l_ray.stages.trajectories import run_trajectories, trajectories_artifact
from s2l_ray.storage import Storage
from s2l_ray.tables import PROBES

STAGES = ("prepare", "proxy", "trajectories", "probe", "embed", "select", "finetune", "evaluate")


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


def plan_line(recipe: Recipe, until: str = STAGES[-1]) -> Line:
    """Work out every step up to a stage, with its fingerprint, before anything runs.

    Raises
    ------
    InputError
        Anything that can be known now to be wrong: the storage, data files, models, tokenizers, selectors, a
        budget or number of clusters above the number of rows.
    """
    assert until in STAGES, until
    recipe = _with_precision(recipe)
    storage = Storage.open(recipe.storage)
    selectors = [find_selector(config.selector) for config in selections_of(recipe)]
    for model in (recipe.proxy.model, recipe.target.model, recipe.embedding.model, recipe.probe.judge):
        if model is not None:
            check_model(model)
    needed = frozenset({until}).union(*(selector.requires for selector in selectors))
    pool = plan_prepare(storage, recipe.data, recipe.proxy.model, recipe.seed)
    target_pool = plan_prepare(storage, recipe.data, recipe.target.model, recipe.seed)

    def check() -> None:
        check_pool(recipe, pool, target_pool, needs_proxy=bool(needed & _by_proxy(recipe)))

    check()
    embed_pool = plan_prepare(storage, recipe.data, recipe.embedding.model or recipe.proxy.model, recipe.seed)
    task_plans = [_plan_task(storage, recipe, config) for config in recipe.evaluation.tasks]
    tasks = [Task(c, plan.artifact) for c, plan in zip(recipe.evaluation.tasks, task_plans, strict=True)]
    proxy = proxy_artifact(pool.artifact, recipe.proxy, recipe.trajectory, recipe.seed)
    probes = [plan_probe(recipe, name, proxy, pool.artifact, pool.row_format) for name in PROBES if name in needed]
    inputs = SelectInputs(
        pool.artifact,
        target_pool.artifact,
        trajectories_artifact(proxy, pool.artifact, recipe.trajectory),
        embed_artifact(recipe.embedding, proxy, embed_pool.artifact),
        {probe.name: probe.artifact for probe in probes},
    )
    pools = {"prepare": pool, "prepare for target": target_pool}
    if needed & {"embed", "embeddings"}:
        pools["prepare for embedding"] = embed_pool
    if until == STAGES[-1]:
        pools |= {f"prepare task {c.name}": p for c, p in zip(recipe.evaluation.tasks, task_plans, strict=True)}
    steps = [
        *_prepare_steps(recipe, pools, check),
        *_table_steps(recipe, proxy, inputs, embed_pool.artifact, needed),
        *(Step(f"probe {probe.name}", probe.artifact, partial(run_probe, probe, recipe.resources)) for probe in probes),
        *_selection_steps(recipe, inputs, tasks),
    ]
    wanted = STAGES[: STAGES.index(until) + 1]
    return Line(recipe, storage, tuple(step for step in steps if step.artifact.stage in wanted))


def _with_precision(recipe: Recipe) -> Recipe:
    """Return the recipe with the precision that auto means here, since it decides what comes out."""

    def settled(section: Any) -> Any:
        precision = resolve_precision(section.precision, use_gpu=recipe.resources.use_gpu)
        return section.model_copy(update={"precision": precision})

    parts = ("proxy", "trajectory", "target")
    return recipe.model_copy(update={part: settled(getattr(recipe, part)) for part in parts})


def _by_proxy(recipe: Recipe) -> set[str]:
    """Return the stages and tables that the proxy's training has to come before."""
    embeddings = {"embed", "embeddings"} if recipe.embedding.model is None else set()
    probes = {name for name in PROBES if model_of_probe(recipe, name) is None}
    return {"proxy", "trajectories"} | embeddings | probes


def _plan_task(storage: Storage, recipe: Recipe, task: TaskConfig) -> PreparePlan:
    """Return how a task's held-out rows become examples: like the pool's, but every row counts."""
    data = DataConfig(
        path=task.path, format=task.format, columns=task.columns, limit=task.limit, drop_duplicates=False,
        prompt_style=recipe.data.prompt_style, max_length=recipe.data.max_length,
        max_row_chars=recipe.data.max_row_chars, max_bad_fraction=recipe.data.max_bad_fraction,
    )
    return plan_prepare(storage, data, recipe.target.model, recipe.seed)


def _prepare_steps(
    recipe: Recipe, plans: Mapping[str, PreparePlan], check: Callable[[], None]
) -> list[Step]:
    """Return a step for each plan that is not the same as one before it (the same tokenizer, the same file)."""

    def step(label: str, plan: PreparePlan) -> Step:
        def run() -> dict[str, Any]:
            manifest = run_prepare(plan, recipe.resources)
            check()
            return manifest

        return Step(label, plan.artifact, run)

    by_fingerprint: dict[str, Step] = {}
    for label, plan in plans.items():
        by_fingerprint.setdefault(plan.artifact.fingerprint, step(label, plan))
    return list(by_fingerprint.values())


def _table_steps(
    recipe: Recipe, proxy: Artifact, inputs: SelectInputs, embed_pool: Artifact, needed: frozenset[str]
) -> list[Step]:
    """Return the steps that make the tables which the selectors require, and nothing more."""
    pool, resources, trajectory = inputs.examples, recipe.resources, recipe.trajectory
    steps = []
    if needed & _by_proxy(recipe):
        steps.append(Step("proxy", proxy, lambda: run_proxy(
            proxy, pool, recipe.proxy, trajectory, recipe.seed, resources)))
    if "trajectories" in needed:
        steps.append(Step("trajectories", inputs.trajectories, lambda: run_trajectories(
            inputs.trajectories, proxy, pool, trajectory, resources)))
    if needed & {"embed", "embeddings"}:
        steps.append(Step("embed", inputs.embeddings, lambda: run_embed(
            inputs.embeddings, recipe.embedding, proxy, embed_pool, resources)))
    return steps


def _selection_steps(recipe: Recipe, inputs: SelectInputs, tasks: list[Task]) -> list[Step]:
    """Return select, finetune and evaluate of each selection: all selections first, then all trainings."""
    each = [_steps_of(recipe, config, inputs, tasks) for config in selections_of(recipe)]
    steps = [step for same_stage in zip(*each, strict=True) for step in same_stage]
    if tasks and recipe.evaluation.include_base:
        base = evaluate_artifact(recipe.target.model, tasks, recipe.seed)
        steps.append(Step("evaluate base", base, lambda: run_evaluate(
            base, recipe.evaluation, recipe.target.model, tasks, recipe.seed, recipe.resources, "base")))
    return steps


def _steps_of(recipe: Recipe, config: SelectionConfig, inputs: SelectInputs, tasks: list[Task]) -> list[Step]:
    seed = recipe.seed if config.seed is None else config.seed
    target_seed = recipe.seed if recipe.target.seed is None else recipe.target.seed
    name, target_pool = config.selector, inputs.target_examples
    select = select_artifact(config, seed, inputs)
    finetune = finetune_artifact(recipe.target, target_seed, select, target_pool)
    steps = [
        Step(f"select {name}", select, lambda: run_select(select, config, seed, inputs)),
        Step(f"finetune {name}", finetune, lambda: run_finetune(
            finetune, recipe.target, target_seed, select, target_pool, recipe.resources, name)),
    ]
    if tasks:
        evaluate = evaluate_artifact(finetune, tasks, recipe.seed)
        steps.append(Step(f"evaluate {name}", evaluate, lambda: run_evaluate(
            evaluate, recipe.evaluation, finetune, tasks, recipe.seed, recipe.resources, name)))
    return steps


def run_line(line: Line, command: str) -> list[dict[str, Any]]:
    """Record the run, run what of it is not finished yet, and return each step's account."""
    record_run(line, command)
    return run_steps(line.steps, line.recipe, line.storage)


def run_steps(steps: Sequence[Step], recipe: Recipe, storage: Storage) -> list[dict[str, Any]]:
    """Run what is not finished yet, in order, and return each step's account: label, manifest, reused, seconds.

    Ray starts with the first step that has work to do, so finished steps answer at once.
    """
    accounts = []
    with contextlib.ExitStack() as stack:
        connected = False
        for step in steps:
            started, reused = time.time(), step.artifact.is_finished
            if not reused and not connected:
                if not ray.is_initialized():
                    note("starting Ray ...")
                cluster = stack.enter_context(ray_session(recipe.resources, storage, local_inputs(recipe)))
                check_first(steps, cluster)
                note(f"running on {cluster.describe()}")
                connected = True
            if reused:
                manifest = step.artifact.manifest()
            else:
                cluster.make_ready(step.label, step.artifact.stage)
                manifest = step.run()
            seconds = time.time() - started
            how = f"reused {step.artifact.folder}" if reused else f"done in {clock(seconds)}"
            note(f"{step.label}: {how}, {counts(manifest['rows'])}")
            accounts.append({"label": step.label, "manifest": manifest, "reused": reused, "seconds": seconds})
    return accounts


def check_first(steps: Sequence[Step], cluster: Cluster, *, ask: bool = True) -> None:
    """Refuse what can be known to fail before the first step runs: nodes, room for each stage, lost checkpoints.

    `ask` is whether an autoscaler may be asked for nodes.

    Raises
    ------
    InputError
        With what to change.
    """
    left = [step.artifact for step in steps if not step.artifact.is_finished]
    cluster.check([artifact.stage for artifact in left], ask=ask)
    for artifact in left:
        if artifact.stage == "finetune":
            check_resumable(artifact, cluster.resources)


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
