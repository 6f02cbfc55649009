"""The part of the recipe that says which rows there are to select from, and how they become tokens."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from s2l_ray.recipe.registry import SHAPES, known_in
from s2l_ray.recipe.settings import WHERE, Count, Fraction, Section

ShapeName = Annotated[str, known_in(SHAPES, "auto")]
PromptStyle = Literal["alpaca", "chat", "plain"]


class DataConfig(Section):
    """The candidate pool: which rows, how they are read, and how they become tokens."""

    path: Annotated[str | None, WHERE] = None
    """Data to select from: a file, a folder or a glob, local or any storage URI; docs/data.md lists the formats."""
    hub_name: Annotated[str | None, WHERE] = None
    """Hugging Face data set to select from instead of `path`, for example TIGER-Lab/MathInstruct."""
    hub_split: Annotated[str, Field(pattern=r"^[^/\\]+$"), WHERE] = "train"
    """Split of `hub_name`."""
    hub_revision: Annotated[str | None, WHERE] = None
    """Commit, tag or branch of `hub_name`; null takes the newest."""
    format: ShapeName = "auto"
    """Row format; auto finds it out from the columns."""
    columns: dict[str, str] = {}
    """Renames: the format's field -> your column, for example {output: solution}."""
    id_column: str | None = None
    """Column that holds each row's stable id; null takes a hash of the row's text."""
    source_column: str | None = None
    """Column that names each row's source; null takes `source` where present, else the file's name."""
    limit: Count | None = None
    """Number of rows to read, drawn evenly over all rows with the seed; null reads all."""
    prompt_style: PromptStyle = "alpaca"
    """Text around a row: the Alpaca template, the tokenizer's chat template, or plain prompt then response."""
    max_length: Count = 512
    """Tokens kept of each example; the rest is cut off on the right."""
    max_row_chars: Count = 1_000_000
    """Characters of one row's text beyond which it is quarantined."""
    max_bad_fraction: Fraction = 0.01
    """Share of quarantined rows above which the run stops."""
    drop_duplicates: bool = True
    """Drop rows whose conversation occurred before."""
    shard_rows: Count = 1024
    """Examples in one shard: the unit of scoring, retry and resume."""

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        if (self.path is None) == (self.hub_name is None):
            raise ValueError("give exactly one of data.path (files) and data.hub_name (a Hugging Face data set)")
        return self
