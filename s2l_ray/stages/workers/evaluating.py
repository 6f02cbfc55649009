"""Evaluate a model on a piece of a task's rows."""

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from s2l_ray.metrics.metric import Answer, Score
from s2l_ray.modeling.batching import ExampleTable
from s2l_ray.modeling.generation import fitted_answers, prompt_length
from s2l_ray.modeling.losses import LossScorer, table_losses
from s2l_ray.modeling.memory import start_scoring
from s2l_ray.modeling.models import DTYPES, load_from, load_model, load_tokenizer, load_tokenizer_from
from s2l_ray.recipe.model import ModelConfig, Precision
from s2l_ray.recipe.registry import METRICS
from s2l_ray.rows.choices import LETTERS
from s2l_ray.rows.originals import values
from s2l_ray.stages.tasks import UNIT_ROWS, Task, predictions_schema
from s2l_ray.stages.workers.ranking import rank_options
from s2l_ray.storage.artifacts import Artifact

_BATCH_TOKENS = 8192


class UnitEvaluator:
    """Evaluates one model on pieces of the tasks' shards."""

    def __init__(self, artifact: Artifact, model: Artifact | ModelConfig, tasks: Mapping[str, Task],
                 precision: Precision, batch_size: int | Literal["auto"], seed: int) -> None:
        self._artifact, self._tasks, self._batch_size = artifact, tasks, batch_size
        self._schema = predictions_schema([task.config for task in tasks.values()])
        place: dict[str, Any] = {"device": start_scoring(), "dtype": DTYPES[precision]}
        if isinstance(model, Artifact):
            self._tokenizer, self._model = load_tokenizer_from(model), load_from(model, **place)
        else:
            self._tokenizer = load_tokenizer(model)
            self._model = load_model(model, vocab_size=len(self._tokenizer), seed=seed, **place)
        self._scorer = LossScorer(self._model, precision)

    def run(self, unit: dict[str, Any]) -> Mapping[str, Any]:
        task = self._tasks[unit["task"]]
        span = (unit["start"], UNIT_ROWS)
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
                columns[metric.name] = table_losses([self._scorer], table, _BATCH_TOKENS)[:, 0]
        rankings = [metric for metric in metrics if metric.needs == "options"]
        if rankings:
            options = rank_options(self._scorer, self._tokenizer, values(originals), task, _BATCH_TOKENS)
            columns["option_losses"] = [list(each.losses) for each in options]
            columns["answer"] = [LETTERS[each.right] for each in options]
            columns |= {metric.name: [metric.rank(each) for each in options] for metric in rankings}
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

    def _answers(self, table: pa.Table, originals: pa.Table, task: Task) -> list[Answer]:
        """Generate an answer to the prompt before each row's last supervised stretch."""
        rows = ExampleTable(table)
        prompts, references = zip(*(self._split(rows[i]) for i in range(len(rows))), strict=True)
        most = task.config.max_new_tokens
        predictions = fitted_answers(self._model, self._tokenizer, prompts, most, self._batch_size)
        return [self._answer(prediction, reference, row, task)
                for prediction, reference, row in zip(predictions, references, values(originals), strict=True)]

    def _answer(self, prediction: str, reference: str, row: Mapping[str, Any], task: Task) -> Answer:
        if task.gold is None:
            return Answer(prediction, reference, None)
        gold = task.gold_of(row)
        return Answer(prediction, reference, gold.accepted[0], gold.accepted, gold.choices)

    def _split(self, row: Mapping[str, np.ndarray]) -> tuple[np.ndarray, str]:
        """Return the prompt's ids and the reference response's text."""
        ids, supervised = row["input_ids"], row["supervised"]
        start, last = prompt_length(supervised), int(np.flatnonzero(supervised)[-1])
        return ids[:start], str(self._tokenizer.decode(ids[start : last + 1], skip_special_tokens=True))


def _column(values_: Any, kind: pa.DataType, length: int) -> Any:
    if values_ is None:
        return pa.nulls(length, kind)
    return values_ if isinstance(values_, pa.ChunkedArray) else pa.array(values_, kind)
