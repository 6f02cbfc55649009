"""The part of the recipe that says which rows there are to select from, and how they become tokens."""

import datetime
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from s2l_ray.recipe.known import known_in
from s2l_ray.recipe.registry import SHAPES
from s2l_ray.recipe.settings import WHERE, Count, Fraction, Section

ShapeName = Annotated[str, known_in(SHAPES, "auto")]
PromptStyle = Literal["alpaca", "chat", "plain"]
Role = Literal["system", "user", "assistant", "tool"]
IsoDate = Annotated[str, AfterValidator(lambda text: datetime.date.fromisoformat(text).isoformat())]
Compared = Literal["both", "prompt", "answer"]
TEMPLATE_DATE = "2025-01-01"


class NearDuplicatesConfig(Section):
    """Which rows are nearly the same as an earlier one (extra `dedup`)."""

    method: Literal["minhash"] = "minhash"
    """How rows are compared; minhash estimates how many runs of three words two texts share."""
    threshold: Annotated[float, Field(gt=0, lt=1)]
    """Jaccard similarity from which on a row is a near-duplicate, for example 0.8."""
    compare: Compared = "both"
    """What has to be similar: prompt and answer, each by itself, or one of them."""


class DataConfig(Section):
    """The candidate pool: which rows, how they are read, and how they become tokens."""

    path: Annotated[str | None, WHERE] = None
    """Data to select from: a file, a folder or a glob, local or any storage URI; docs/data.md lists the formats."""
    hub_name: Annotated[str | None, WHERE] = None
    """Hugging Face data set to select from instead of `path`, for example TIGER-Lab/MathInstruct."""
    hub_config: Annotated[str | None, Field(pattern=r"^[^/\\]+$"), WHERE] = None
    """Configuration of `hub_name`, for example main of openai/gsm8k; null takes its default."""
    hub_revision: Annotated[str | None, WHERE] = None
    """Commit, tag or branch of `hub_name`; null takes the newest."""
    hub_rows: Annotated[Count | None, WHERE] = None
    """First rows of `hub_name` to stream, instead of downloading all of it; null downloads it."""
    split: Annotated[str | None, Field(pattern=r"^[^/\\]+$"), WHERE] = None
    """Split to take: of `hub_name`, where null takes train, or of a folder whose files are named after several."""
    more: Annotated[list[str], WHERE] = []
    """Further files or folders of rows, which come behind the others: `s2l select --extend` puts new rows here."""
    format: ShapeName = "auto"
    """Row format; auto finds it out from the columns."""
    columns: dict[str, str] = {}
    """Renames: the format's field -> your column, for example {output: solution}."""
    roles: dict[str, Role] = {}
    """Names of roles in your messages -> system, user, assistant or tool, where they are not known already."""
    id_column: str | None = None
    """Column that holds each row's stable id; null takes a hash of the row's text."""
    source_column: str | None = None
    """Column that names each row's source; null takes `source` where present, else the file's name."""
    limit: Count | None = None
    """Number of rows to read, drawn evenly over all rows with the seed; null reads all."""
    prompt_style: PromptStyle = "alpaca"
    """Text around a row: the Alpaca template, the tokenizer's chat template, or plain prompt then response."""
    template_name: str | None = None
    """Which chat template, where the tokenizer has several and none is the default."""
    turns: Literal["all", "last", "each"] = "all"
    """Answers of a dialogue that are learned: all, the last alone, or each in an example of its own (docs/data.md)."""
    template_date: IsoDate = TEMPLATE_DATE
    """Today's date for chat templates that write one: fixed, or the tokens would change from day to day."""
    max_length: Count = 512
    """Tokens kept of each example; the rest is cut off on the right."""
    max_row_chars: Count = 1_000_000
    """Characters of one row's text beyond which it is quarantined."""
    max_bad_fraction: Fraction = 0.01
    """Share of quarantined rows above which the run stops."""
    drop_duplicates: bool = True
    """Drop rows whose conversation occurred before."""
    near_duplicates: NearDuplicatesConfig | None = None
    """Drop rows that are nearly an earlier one, for example {threshold: 0.8}; null keeps them."""
    decontaminate: bool = True
    """Leave out rows that hold text of an evaluation task's questions; docs/data.md says what counts."""
    shard_rows: Count = 1024
    """Examples in one shard: the unit of scoring, retry and resume."""

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        if (self.path is None) == (self.hub_name is None):
            raise ValueError("give exactly one of data.path (files) and data.hub_name (a Hugging Face data set)")
        return self
