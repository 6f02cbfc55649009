"""An evaluation's tasks: their rows, their gold answers, their table of predictions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from s2l_ray.errors import InputError
from s2l_ray.progress.notes import note
from s2l_ray.recipe.data import DataConfig
from s2l_ray.recipe.evaluation import TaskConfig
from s2l_ray.recipe.registry import METRICS
from s2l_ray.rows.choices import CHOICE_COLUMNS
from s2l_ray.rows.first_rows import find_shape
from s2l_ray.rows.held_out import held_out_rows, response_of
from s2l_ray.rows.hub import scan_pool
from s2l_ray.stages.gold import Gold, GoldRule, check_rows, find_rule
from s2l_ray.storage.artifacts import Artifact
from s2l_ray.storage.files import Storage

UNIT_ROWS = 256
"""Rows that are evaluated at once."""
HARNESS = "lm_eval/"
"""Before the names of tasks that lm-evaluation-harness measures; names of the recipe's own tasks hold no slash."""
HARNESS_VALUES = pa.schema([("task", pa.string()), ("metric", pa.string()), ("example_id", pa.string()),
                            ("value", pa.float64())])
"""harness.parquet: a row for each example and metric; metrics differ by task, so they are no columns."""
_LOSSES = pa.list_(pa.float64())
_TEXTS = ("task", "example_id", "source", "prediction", "reference", "answer", "disagreement")
_RANKED = "option_losses"
assert METRICS.taken == {*_TEXTS, _RANKED}, "a metric of that name would be a second column of it"


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
            A row has none, or no options where a metric ranks them.
        """
        if not self.needs_gold:
            return None
        scans = scan_pool(self.examples.storage, self.data)
        rows = list(held_out_rows(scans, find_shape(scans, self.data), self.data))
        rule = find_rule([(row, response) for _, row, response in rows], self.config.gold, self.config.answer_column)
        check_rows(rule, rows, self.config.name)
        ranking = [name for name in self.config.metrics if METRICS.find(name).needs == "options"]
        if ranking and rule.preset != "choice":
            raise InputError(f"task {self.config.name}: {', '.join(ranking)} ranks the choices of each row, and these "
                             f"rows have none ({rule.description}): take exact_match, or rows with one of the columns "
                             f"{', '.join(CHOICE_COLUMNS)} beside the answer")
        note(f"task {self.config.name}: {rule.description}")
        return rule

    def gold_of(self, row: Mapping[str, Any]) -> Gold:
        """Return the gold answer of a row, for a task that has them."""
        assert self.gold is not None, self.config.name
        return self.gold.read(row, response_of(row, self.examples.manifest()["format"], self.data))


def predictions_schema(tasks: Sequence[TaskConfig]) -> pa.Schema:
    """Return the columns of predictions.parquet: texts, and a column for each metric that has a value an example.

    Where options are ranked, `option_losses` has the summed loss of each, in nats.
    """
    metrics = dict.fromkeys(name for task in tasks for name in task.metrics if METRICS.find(name).is_per_example)
    ranked = [(_RANKED, _LOSSES)] * any(METRICS.find(name).needs == "options" for name in metrics)
    return pa.schema([*((name, pa.string()) for name in _TEXTS), *ranked, *((name, pa.float32()) for name in metrics)])


def read_values(storage: Storage, folder: str, task: str, metric: str) -> pa.Table:
    """Return example_id and, named as the metric, its value for each example of a task that an evaluation measured."""
    if task.startswith(HARNESS):
        table = storage.read_table(f"{folder}/harness.parquet")
        rows = table.filter(pc.and_(pc.equal(table["task"], task), pc.equal(table["metric"], metric)))
        return pa.table({"example_id": rows["example_id"], metric: rows["value"]})
    table = storage.read_table(f"{folder}/predictions.parquet", ["task", "example_id", metric])
    return table.filter(pc.equal(table["task"], task)).select(["example_id", metric])
