"""lm-evaluation-harness within an evaluation: what its tasks are named by, what is refused, what it measured."""

import contextlib
import difflib
import glob
import hashlib
import importlib.metadata
import sys
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import yaml

from s2l_ray.errors import InputError
from s2l_ray.execution.attempts import Worker
from s2l_ray.execution.work_units import run_units
from s2l_ray.metrics.intervals import Estimate, mean_interval, share_interval
from s2l_ray.progress.notes import note
from s2l_ray.recipe.evaluation import HarnessConfig
from s2l_ray.recipe.model import ModelConfig, Precision
from s2l_ray.recipe.recipe import Recipe
from s2l_ray.storage.artifacts import Artifact, file_digest
from s2l_ray.tables.schemas import metadata_of

_PACKAGE = "lm_eval"
_KEY = "evaluation.harness"


class _TaskFile(yaml.SafeLoader):
    """Reads a task file without running what it names: `!function` is left out."""


_TaskFile.add_multi_constructor("!", lambda loader, suffix, node: None)


def harness_identity(config: HarnessConfig) -> dict[str, Any]:
    """Return what decides what the harness measures, its version and local files included; nothing without tasks.

    Raises
    ------
    InputError
        The harness is not installed, or there is no such folder.
    """
    if not config.tasks:
        return {}
    identity = {**config.identity(), "version": harness_version()}
    if config.include_path is not None:
        identity["files"] = _digest(_folder(config.include_path))
    return {"harness": identity}


def harness_version() -> str:
    """Return the version that is installed."""
    try:
        return importlib.metadata.version(_PACKAGE)
    except importlib.metadata.PackageNotFoundError as error:
        raise InputError(f'{_KEY} needs lm-evaluation-harness ({_PACKAGE}), which is not installed: '
                         'pip install "s2l-ray[harness]"') from error


def _folder(include_path: str) -> Path:
    folder = Path(include_path).expanduser()
    if not folder.is_dir():  # the harness itself takes a missing folder for one without tasks
        raise InputError(f"{_KEY}.include_path={include_path!r} is not a folder of this machine: give the folder that "
                         "the task files (YAML) are in")
    return folder


def _digest(folder: Path) -> str:
    """Return one SHA-256 over names and bytes of the folder's files and of local data that its task files name."""
    own = [path for path in sorted(folder.rglob("*")) if path.is_file() and not _is_aside(path.relative_to(folder))]
    lines = [f"{path.relative_to(folder)} {file_digest(path)}" for path in own]
    named = sorted({path for file in own if file.suffix in (".yaml", ".yml") for path in _data_files(file)} - {*own})
    lines += [file_digest(path) for path in named]  # not by name: a run moves to where its data lies elsewhere
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _is_aside(path: Path) -> bool:
    """Tell whether a file is hidden or made by Python, as the harness does when a task file names a function."""
    return any(part.startswith(".") or part == "__pycache__" for part in path.parts)


def _data_files(file: Path) -> Iterator[Path]:
    """Yield the local files that a task file names as its data: files, folders or globs."""
    try:
        content = yaml.load(file.read_text(encoding="utf-8"), _TaskFile)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"{_KEY}.include_path: {file} is not a readable task file: {error}") from error
    if not isinstance(content, dict):
        return
    for name in _texts([content.get("dataset_path"), content.get("dataset_kwargs")]):
        for found in map(Path, sorted(glob.glob(str(Path(name).expanduser())))):
            yield from (path for path in ([found] if found.is_file() else sorted(found.rglob("*"))) if path.is_file())


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str) and value:
        yield value
    elif isinstance(value, (dict, list)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _texts(item)


def task_manager(config: HarnessConfig) -> Any:
    """Return what knows the harness's tasks; of the folder alone where that has them all, which takes no time.

    Its own are 14,000 files, which take a quarter of a minute to list.
    """
    from lm_eval.tasks import TaskManager  # heavy: torch

    folder = None if config.include_path is None else str(_folder(config.include_path))
    if folder is not None:
        local = TaskManager(include_path=folder, include_defaults=False)
        if {*config.tasks} <= {*local.all_subtasks}:
            return local
    return TaskManager(include_path=folder)


@lru_cache(maxsize=1)  # asked for each evaluation of a run
def _known(path: str | None, names: tuple[str, ...]) -> tuple[str, ...]:
    with contextlib.redirect_stdout(sys.stderr):  # stdout is for results
        return tuple(task_manager(HarnessConfig(tasks=list(names), include_path=path)).all_tasks)


def check_harness(config: HarnessConfig, is_chat: bool) -> None:
    """Refuse tasks that the harness does not know, with the nearest that it does, before any work.

    A model that learns to answer in its chat template (`is_chat`) and is asked without it is said.
    """
    if not config.tasks:
        return
    known = _known(config.include_path, tuple(config.tasks))
    for name in config.tasks:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=3)
            hint = f"did you mean {' or '.join(near)}? " if near else ""
            where = "" if config.include_path is None else f" and no task of {config.include_path}"
            raise InputError(f"{_KEY}.tasks: {name!r} is no task of lm_eval {harness_version()}{where}; {hint}"
                             "`lm_eval ls tasks` lists its own")
    if is_chat and not config.apply_chat_template:
        note(f"{_KEY}: models learn in the chat template (data.prompt_style=chat) and are asked without it; "
             f"{_KEY}.apply_chat_template=true asks in it")


def run_harness(
    artifact: Artifact, model: Artifact | ModelConfig, recipe: Recipe, precision: Precision, label: str | None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Write `harness.parquet`; return {task: {metric: value with interval}} and what the manifest says of it.

    Each task is a unit of work, done in a process of its own; units of an earlier run stay.
    """
    config = recipe.evaluation.harness
    units = [{"task": name, "part": f"harness-{i:04d}.parquet"} for i, name in enumerate(config.tasks)]
    finished = set(artifact.list_names("parts"))
    arguments = {"artifact": artifact, "model": model, "config": config, "precision": precision, "seed": recipe.seed}
    run_units(f"evaluate {label} by the harness", _evaluator, arguments,
              [unit for unit in units if unit["part"] not in finished], recipe.resources, gpu=True, unit_name="tasks",
              describe=lambda unit: f"task {unit['task']}")
    tables = [artifact.read_table(f"parts/{unit['part']}") for unit in units]
    groups: dict[str, dict[str, Any]] = {}
    tasks: dict[str, dict[str, Any]] = {}
    rows = []
    for table in tables:  # a task may be asked for by its name and by a group's; it counts once
        told = metadata_of(table.schema)
        new = [name for name in (*told["groups"], *told["tasks"]) if name not in groups and name not in tasks]
        groups |= {name: told["groups"][name] for name in new if name in told["groups"]}
        tasks |= {name: told["tasks"][name] for name in new if name in told["tasks"]}
        rows.append(table.filter(pc.is_in(table["task"], pa.array(new, pa.string()))))
    about = groups | tasks  # what a group says as a whole comes first
    values = pa.concat_tables([table.replace_schema_metadata() for table in rows])
    artifact.write_table("harness.parquet", values)
    metrics = {name: _metrics(values, name, facts, recipe.seed) for name, facts in about.items()}
    left_out = sorted({f"{name} {metric}" for name, facts in about.items() for metric in facts["without_interval"]})
    if left_out:
        note(f"evaluate {label}: no interval for {', '.join(left_out[:5])}{' ...' if left_out[5:] else ''}: no mean "
             "over examples; the manifest has the values (harness.tasks)")
    return metrics, {"version": harness_version(), "tasks": tasks,
                     **({"groups": groups} if groups else {})}


def _metrics(values: pa.Table, task: str, facts: dict[str, Any], seed: int) -> dict[str, Any]:
    """Return each metric of a task as our own are told, with the harness's version and which direction is better."""
    rows = values.filter(pc.equal(values["task"], task))
    found = {}
    for name, better in facts["better"].items():
        values_N = rows.filter(pc.equal(rows["metric"], name))["value"].to_numpy()
        found[name] = {**_estimate(values_N, seed).to_dict(), "by_source": {}, "better": better,
                       "harness": harness_version()}
    return found


def _estimate(values_N: np.ndarray, seed: int) -> Estimate:
    """Return the mean with its interval, as exact match has it where examples are right or wrong."""
    if np.isin(values_N, (0.0, 1.0)).all():
        return share_interval(values_N)
    return mean_interval(values_N, np.random.default_rng(seed))


def _evaluator(**arguments: Any) -> Worker:
    from s2l_ray.stages.workers.harness import HarnessEvaluator  # heavy: torch and the harness

    return HarnessEvaluator(**arguments)
