"""The sweep: what all trials share once, then the trials by Ray Tune; finished trials are not run again."""

import dataclasses
import os
import time
from collections.abc import Sequence
from typing import Any

import ray
from ray import tune
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, TrialScheduler

from s2l_ray.errors import InputError
from s2l_ray.execution.bundles import describe_total, total, training_bundles
from s2l_ray.execution.cluster import ray_session
from s2l_ray.execution.local.machine import Machine
from s2l_ray.pipeline.feasibility import unfinished
from s2l_ray.pipeline.plan import RunPlan, plan_run
from s2l_ray.pipeline.run import ready_place, run_steps
from s2l_ray.progress.notes import note
from s2l_ray.recipe.recipe import Recipe
from s2l_ray.recipe.registry import METRICS
from s2l_ray.recipe.resources import ResourcesConfig
from s2l_ray.stages.planning import Step
from s2l_ray.stages.tasks import HARNESS
from s2l_ray.storage.artifacts import git_commit
from s2l_ray.sweep.record import Sweep
from s2l_ray.sweep.space import Trial, plan_trials
from s2l_ray.sweep.tracking import Narrator, callbacks_of, check_tracking
from s2l_ray.sweep.trial import ERROR, SETTINGS, VALUE, run_trial

# A trial's own process does nothing but wait for the stages it starts. Tune reserves one CPU for it by default, which
# the training workers then lack for ever; a little memory is a request that never stands in their way.
_TRIAL = {"memory": 100.0 * 1024 * 1024}


def plan_sweep(recipe: Recipe, command: str) -> Sweep:
    """Work out every trial and its steps before anything runs, and say how many there are.

    Raises
    ------
    InputError
        The space, a trial's recipe, the metric or the tracker is wrong.
    """
    started = time.time()
    check_tracking(recipe)
    trials = plan_trials(recipe)
    plans = {trial.name: plan_run(trial.recipe) for trial in trials}
    reused = {name for name, plan in plans.items() if plan.is_finished}
    sweep = Sweep(recipe, trials, plans, *metric_of(recipe), shared=shared_steps(list(plans.values())), command=command,
                  commit=git_commit(), started=started, reused=reused)
    kept = f", {len(sweep.reused)} of them finished before" if sweep.reused else ""
    note(f"sweep: {len(trials)} trials, {sum(trial.is_control for trial in trials)} of them controls{kept}")
    return sweep


def run_sweep(sweep: Sweep) -> Sweep:
    """Run the trials that are left and return what came of all; `runs/<name>/sweep.json` follows all the while.

    Raises
    ------
    InputError
        Training workers have no room, or a node cannot do the work.
    """
    recipe = sweep.recipe
    sweep.write()
    left = [trial for trial in sweep.trials if trial.name not in sweep.reused]
    if left or unfinished(sweep.shared):
        with ready_place(sweep.all_steps(), recipe, sweep.storage, others=[trial.recipe for trial in left]) as place:
            run_steps(sweep.shared, recipe, sweep.storage, sweep.check)
            if left:
                _tune(sweep, {trial.name for trial in left}, place if isinstance(place, Machine) else None)
    sweep.wall_s = time.time() - sweep.started
    sweep.write()
    sweep.storage.write_table(f"{sweep.folder}/trials.parquet", sweep.table())
    return sweep


def shared_steps(plans: Sequence[RunPlan]) -> list[Step]:
    """Return what all selections share, and the untouched target's evaluation, each once."""
    steps = [step for plan in plans for step in plan.steps if step.arm is None]
    return list({step.artifact.fingerprint: step for step in steps}.values())


def metric_of(recipe: Recipe) -> tuple[str, str]:
    """Return what decides between trials, as TASK.METRIC, and max or min.

    Raises
    ------
    InputError
        No task measures it, or it has no value for each example, so that no interval can be given.
    """
    measured = [(task.name, METRICS.find(metric)) for task in recipe.evaluation.tasks for metric in task.metrics]
    usable = {f"{task}.{metric.name}": metric for task, metric in measured if metric.is_per_example}
    chosen = recipe.sweep.metric or next(iter(usable), "")
    by_harness = bool(recipe.evaluation.harness.tasks)
    if by_harness and chosen.startswith(HARNESS) and recipe.sweep.mode is not None:
        return chosen, recipe.sweep.mode  # what it measures is known when it has done so
    if chosen not in usable:
        other = f", or {HARNESS}TASK.METRIC of evaluation.harness, with sweep.mode (max or min)" if by_harness else ""
        raise InputError(f"sweep.metric={chosen!r} must be one of {list(usable)}: evaluation.tasks measure these by "
                         f"example{other}")
    return chosen, recipe.sweep.mode or usable[chosen].mode


def _tune(sweep: Sweep, left: set[str], machine: Machine | None) -> None:
    """Run the trials that are left; on a machine alone, what they train and score runs beside Ray, as in any run."""
    server = None
    if machine is not None:
        server = machine.server
        note("starting Ray for the trials ...")
    with ray_session(sweep.recipe.resources, sweep.storage, server=server):
        _run_trials(sweep, left, is_alone=machine is not None, server=server)


def _run_trials(sweep: Sweep, left: set[str], **how: Any) -> None:
    """Run the trials that are left by Ray Tune; `how` is what `run_trial` takes about where its work is done."""
    recipe, storage = sweep.recipe, sweep.storage
    room = trials_at_a_time(recipe.resources, recipe.sweep.max_concurrent_trials)
    trials = sweep.trials if room == 1 else [_with_own_share(trial) for trial in sweep.trials]
    points = _points(trials, left, in_turn=recipe.sweep.scheduler == "asha")
    narrator = Narrator(sweep.metric, sweep.mode, len(sweep.trials), sweep.reused, _why(room, recipe.resources),
                        sweep.write)
    # Ctrl-C reaches us as in any run; Tune would finish its round first. What is logged is said in tracking.
    os.environ.update(TUNE_DISABLE_SIGINT_HANDLER="1", TUNE_DISABLE_AUTO_CALLBACK_LOGGERS="1", RAY_AIR_NEW_OUTPUT="0")
    settings = [{"trial": name, **of_point[0].overrides} for name, of_point in points.items()]
    function = tune.with_parameters(run_trial, points=points, metric=sweep.metric, mode=sweep.mode, **how)
    results = tune.Tuner(
        tune.with_resources(function, _TRIAL),
        param_space={SETTINGS: tune.grid_search(settings)},
        tune_config=tune.TuneConfig(
            scheduler=_scheduler(recipe, sweep.mode), max_concurrent_trials=room, metric=VALUE, mode=sweep.mode,
            trial_dirname_creator=lambda trial: f"{trial.config[SETTINGS]['trial']}-{trial.trial_id}",
        ),
        run_config=tune.RunConfig(
            name="tune", storage_path=storage.path(sweep.folder), storage_filesystem=storage.filesystem, verbose=0,
            callbacks=callbacks_of(recipe, narrator),
            failure_config=tune.FailureConfig(max_failures=recipe.resources.max_failures),
        ),
    ).fit()
    for number in range(len(results)):
        result = results[number]
        name = (result.config or {})[SETTINGS]["trial"]
        error = (result.metrics or {}).get(ERROR) or (str(result.error) if result.error else None)
        if error:
            sweep.fail([trial.name for trial in points[name]], error)


def _points(trials: list[Trial], left: set[str], *, in_turn: bool) -> dict[str, list[Trial]]:
    """Return what Tune runs at once: each trial alone, or a point's seeds one after another, finished ones too."""
    points: dict[str, list[Trial]] = {}
    for trial in trials:
        points.setdefault(trial.point if in_turn else trial.name, []).append(trial)
    return {name: of_point for name, of_point in points.items() if left & {trial.name for trial in of_point}}


def _scheduler(recipe: Recipe, mode: str) -> TrialScheduler:
    """Return what stops trials early: nothing, or successive halving over the seeds of a point.

    Losses on a subset say nothing about another subset's, so a fine-tuning is never judged halfway; a point is, after
    each of its seeds, by the metric that counts.
    """
    if recipe.sweep.scheduler == "none":
        return FIFOScheduler()
    seeds = len(recipe.sweep.seeds)
    return ASHAScheduler(time_attr="seeds", max_t=seeds, grace_period=1, reduction_factor=2)


def trials_at_a_time(resources: ResourcesConfig, asked: int | None) -> int:
    """Return how many trials' training workers the cluster has room for, and at most what is asked for.

    A cluster that grows starts with what it has; one trial at least, so that it is asked to grow.
    """
    have = ray.cluster_resources()
    needs = total(training_bundles(resources))
    fit = min(int(have.get(name, 0) // amount) for name, amount in needs.items())
    return max(1, min(fit, asked or fit))


def own_share(resources: ResourcesConfig) -> ResourcesConfig:
    """Return a trial's resources among others: it trains with the fewest workers, and evaluates in their room.

    Otherwise one trial would take what is left of all nodes, and others' training wait for it, in vain if it takes
    longer than `wait_timeout_s`.
    """
    most = resources.min_workers * (1 if resources.use_gpu else resources.cpus_per_worker)
    return resources.model_copy(update={"num_workers": resources.min_workers,
                                        "num_scoring_workers": min(resources.num_scoring_workers or most, most)})


def _with_own_share(trial: Trial) -> Trial:
    resources = own_share(trial.recipe.resources)
    return dataclasses.replace(trial, recipe=trial.recipe.model_copy(update={"resources": resources}))


def _why(room: int, resources: ResourcesConfig) -> str:
    return f"{room} at a time: each takes {describe_total(training_bundles(resources))}"
