"""The part of the recipe that says what the fine-tuned models are measured on."""

from typing import Annotated

from pydantic import Field

from s2l_ray.recipe.data import ShapeName
from s2l_ray.recipe.registry import METRICS, known_in
from s2l_ray.recipe.settings import WHERE, Count, Section

MetricName = Annotated[str, known_in(METRICS)]


class TaskConfig(Section):
    """One held-out set and how answers to it are judged."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._ -]*$")]
    """Name of the task in tables, metrics and files, of letters, digits, dot, dash, underscore and blank."""
    path: Annotated[str, WHERE]
    """Held-out rows: a file, a folder or a glob, in any format the data section reads."""
    split: Annotated[str | None, WHERE] = None
    """Split to take of a folder whose files are named after several."""
    metrics: list[MetricName] = ["loss"]
    """What is measured; docs/results.md lists the metrics."""
    format: ShapeName = "auto"
    """Row format; auto finds it out from the columns."""
    columns: dict[str, str] = {}
    """Renames: the format's field -> your column."""
    answer_column: str = "answer"
    """Column with the gold answer; where a row has none, it is taken from its reference response."""
    limit: Count | None = None
    """Number of rows, drawn evenly with the seed; null takes all."""
    max_new_tokens: Count = 256
    """Tokens generated for one answer at most."""


class EvaluationConfig(Section):
    """What the fine-tuned models are measured on."""

    tasks: list[TaskConfig] = []
    """Held-out tasks; none skips the evaluation."""
    include_base: bool = False
    """Evaluate the target before fine-tuning too."""
    batch_size: Annotated[Count, WHERE] = 64
    """Prompts generated for together."""
