"""The rows of a task, wherever a recipe names some: to measure on, or as examples of what is wanted."""

from typing import Annotated, ClassVar, Self

from pydantic import Field, model_validator

from s2l_ray.recipe.data import DataConfig, ShapeName
from s2l_ray.recipe.settings import WHERE, Count, Section


class RowsOfTask(Section):
    """Rows of a task, and how they are read."""

    default_split: ClassVar[str] = "train"
    """Taken of a data set of the hub."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._ -]*$")]
    """Name of the task in tables, metrics and files, of letters, digits, dot, dash, underscore and blank."""
    path: Annotated[str | None, WHERE] = None
    """Its rows: a file, a folder or a glob, in any format the data section reads."""
    hub_name: Annotated[str | None, WHERE] = None
    """Hugging Face data set instead of `path`, for example openai/gsm8k."""
    hub_config: Annotated[str | None, Field(pattern=r"^[^/\\]+$"), WHERE] = None
    """Configuration of `hub_name`, for example main; null takes its default."""
    hub_revision: Annotated[str | None, WHERE] = None
    """Commit, tag or branch of `hub_name`; null takes the newest."""
    split: Annotated[str | None, WHERE] = None
    """Split to take: of `hub_name`, where null takes test for held-out rows and train for others, or of a folder."""
    format: ShapeName = "auto"
    """Row format; auto finds it out from the columns."""
    columns: dict[str, str] = {}
    """Renames: the format's field -> your column."""
    limit: Count | None = None
    """Number of rows, drawn evenly with the seed; null takes all."""

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        if (self.path is None) == (self.hub_name is None):
            raise ValueError(f"give exactly one of {self._origins()}")
        return self

    def _origins(self) -> str:
        return "path (files), hub_name (a Hugging Face data set)"

    def data(self, pool: DataConfig) -> DataConfig:
        """Return how the rows become examples: like the pool's, but every row counts."""
        return DataConfig(
            path=self.path, hub_name=self.hub_name, hub_config=self.hub_config, hub_revision=self.hub_revision,
            split=self.split or (self.default_split if self.hub_name else None), format=self.format,
            columns=self.columns, limit=self.limit, drop_duplicates=False, roles=pool.roles,
            template_date=pool.template_date, template_name=pool.template_name,
            prompt_style=pool.prompt_style, max_length=pool.max_length, max_row_chars=pool.max_row_chars,
            max_bad_fraction=pool.max_bad_fraction,
        )
