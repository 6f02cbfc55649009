"""Measure a model on tasks of lm-evaluation-harness."""

import contextlib
import math
import os
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import lm_eval
import numpy as np
import pyarrow as pa
from lm_eval.models.huggingface import HFLM

from s2l_ray.errors import InputError
from s2l_ray.modeling.memory import start_scoring
from s2l_ray.modeling.models import DTYPES, load_from, load_model, load_tokenizer, load_tokenizer_from
from s2l_ray.recipe.evaluation import HarnessConfig
from s2l_ray.recipe.model import ModelConfig, Precision
from s2l_ray.stages.harness import task_manager
from s2l_ray.stages.tasks import HARNESS, HARNESS_VALUES
from s2l_ray.storage.artifacts import Artifact
from s2l_ray.tables.schemas import with_metadata

_NUMBERS = (int, float, np.number, np.bool_)


class HarnessEvaluator:
    """Measures one model, loaded by us as for our own tasks (adapters are merged), on tasks of the harness."""

    def __init__(self, artifact: Artifact, model: Artifact | ModelConfig, config: HarnessConfig, precision: Precision,
                 seed: int) -> None:
        self._artifact, self._config, self._seed = artifact, config, seed
        place: dict[str, Any] = {"device": start_scoring(), "dtype": DTYPES[precision]}
        if isinstance(model, Artifact):
            tokenizer, loaded = load_tokenizer_from(model), load_from(model, **place)
        else:
            tokenizer = load_tokenizer(model)
            loaded = load_model(model, vocab_size=len(tokenizer), seed=seed, **place)
        if config.apply_chat_template and not tokenizer.chat_template:
            raise InputError("evaluation.harness.apply_chat_template=true, but the target's tokenizer has no chat "
                             "template: set it to false")
        with _stdout_aside():
            self._model = HFLM(pretrained=loaded.eval(), tokenizer=tokenizer, batch_size=config.batch_size)
            self._tasks = task_manager(config)

    def run(self, unit: dict[str, Any]) -> Mapping[str, Any]:
        """Measure one task, or the tasks of a group, and write a part with a value for each example and metric."""
        config, seed = self._config, self._seed
        with _stdout_aside():
            groups = self._load(unit["task"])["groups"]
            found = lm_eval.simple_evaluate(
                model=self._model, tasks=[unit["task"]], task_manager=self._tasks, num_fewshot=config.num_fewshot,
                limit=config.limit, apply_chat_template=config.apply_chat_template, log_samples=True,
                bootstrap_iters=0, random_seed=seed, numpy_random_seed=seed, torch_random_seed=seed,
                fewshot_random_seed=seed)
        assert found is not None, "only further processes of one measurement get nothing"
        rows: list[dict[str, Any]] = []
        about = {}
        for name, samples in found["samples"].items():
            values, facts = _values(samples, found["results"][name], found["higher_is_better"][name])
            if not samples:
                raise InputError(f"evaluation.harness.tasks: {name} has no rows")
            about[HARNESS + name] = {"version": found["versions"].get(name), "num_fewshot": found["n-shot"].get(name),
                                     "examples": found["n-samples"][name]["effective"], **facts}
            rows += [{"task": HARNESS + name, **value} for value in values]
        whole = {}
        for name, group in groups.items():
            if name in found.get("groups", {}):  # the others are lists of tasks without a value of their own
                members = [task.task_name for task in group.get_all_tasks()]
                values, facts = _group_values(members, found["groups"][name], rows, about)
                whole[HARNESS + name] = {"version": found["versions"].get(name), "members": members, **facts}
                rows += [{"task": HARNESS + name, **value} for value in values]
        table = with_metadata(pa.Table.from_pylist(rows, schema=HARNESS_VALUES), {"tasks": about, "groups": whole})
        self._artifact.write_table(f"parts/{unit['part']}", table)
        return {"num_rows": sum(facts["examples"] for facts in about.values())}

    def _load(self, name: str) -> Any:
        """Load a task or group, refusing one whose file or data is not right: another attempt would end the same."""
        try:
            return self._tasks.load([name])
        except Exception as error:  # anything: task files run code, and data comes from anywhere
            raise InputError(f"evaluation.harness.tasks: {name} cannot be loaded: {type(error).__name__}: "
                             f"{str(error).strip()[:500]}") from error


def _values(
    samples: list[dict[str, Any]], results: Mapping[str, Any], higher_is_better: Mapping[str, bool | None]
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return a task's values by example and metric, and what is to be known of its metrics.

    A metric is named with the filter of its answers, where there is one. One that is no mean of a number for each
    example (a perplexity, BLEU) has its value alone: no pairs can be made of it.
    """
    rows: list[dict[str, Any]] = []
    better, whole = {}, {}
    pairs = dict.fromkeys((metric, sample["filter"]) for sample in samples for metric in sample["metrics"])
    for metric, answers in pairs:
        name = metric if answers == "none" else f"{metric},{answers}"
        own = sorted((one for one in samples if one["filter"] == answers), key=lambda one: one["doc_id"])
        told: Any = results.get(f"{metric},{answers}")
        values = [float(one[metric]) for one in own if isinstance(one[metric], _NUMBERS)]
        if len(values) < len(own) or not _is_mean(values, told):
            whole[name] = float(told) if _is_finite(told) else str(told)
            continue
        better[name] = "lower" if higher_is_better.get(metric) is False else "higher"
        seen: Counter[str] = Counter()
        for sample, value in zip(own, values, strict=True):
            digest, number = sample["doc_hash"], seen[sample["doc_hash"]]
            seen[digest] += 1  # equal rows are told apart, in their order
            rows.append({"metric": name, "example_id": f"{digest}-{number}" if number else digest,
                         "value": value})
    return rows, {"better": better, "without_interval": whole}


def _group_values(
    members: list[str], results: Mapping[str, Any], rows: list[dict[str, Any]], about: Mapping[str, Mapping[str, Any]]
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return a group's values by example and metric, whose mean is the group's own value, and what is to be known.

    A group weighs its examples alike or its tasks alike, which its value tells. Where tasks weigh alike, an example's
    value is multiplied by N / (number of tasks x examples of its task). A value of any other make stands alone.
    """
    names = [HARNESS + name for name in members]
    parts: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for row in rows:
        if row["task"] in names:
            parts.setdefault(row["metric"], {}).setdefault(row["task"], []).append(row)
    made: list[dict[str, Any]] = []
    better, whole = {}, {}
    for key, told in results.items():
        metric, comma, answers = key.partition(",")
        if not comma or metric.endswith("_stderr"):
            continue
        name = metric if answers == "none" else key
        directions = {about[task]["better"].get(name) for task in names}
        values = _weighed(parts.get(name, {}), told) if len(directions) == 1 and None not in directions else None
        if values is None:
            whole[name] = float(told) if _is_finite(told) else str(told)
            continue
        better[name] = directions.pop()
        own = [row for part in parts[name].values() for row in part]
        made += [{"metric": name, "example_id": f"{row['task']}:{row['example_id']}", "value": value}
                 for row, value in zip(own, values, strict=True)]
    return made, {"better": better, "without_interval": whole}


def _weighed(parts: Mapping[str, list[dict[str, Any]]], told: Any) -> list[float] | None:
    """Return the values of a group's examples, weighed so that their mean is the value told; None if neither way is."""
    total = sum(len(part) for part in parts.values())
    alike = dict.fromkeys(parts, 1.0)
    by_task = {task: total / (len(parts) * len(part)) for task, part in parts.items()}
    for weights in (alike, by_task):
        values = [weights[task] * row["value"] for task, part in parts.items() for row in part]
        if _is_mean(values, told):
            return values
    return None


def _is_mean(values: list[float], told: Any) -> bool:
    return _is_finite(told) and math.isclose(math.fsum(values) / len(values), told, rel_tol=1e-6, abs_tol=1e-9)


def _is_finite(told: Any) -> bool:
    return isinstance(told, _NUMBERS) and math.isfinite(told)


@contextlib.contextmanager
def _stdout_aside() -> Iterator[None]:
    """Have all that this process and its children print go to stderr: the harness and git write to stdout."""
    sys.stdout.flush()
    kept = os.dup(1)
    try:
        os.dup2(2, 1)
        yield
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)
