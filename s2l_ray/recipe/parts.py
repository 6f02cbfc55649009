"""Parts of a recipe, for rows and tables that come without one."""

from collections.abc import Mapping, Sequence
from typing import Any

from s2l_ray.recipe.data import DataConfig
from s2l_ray.recipe.loading import check_part, parse_part
from s2l_ray.recipe.selection import SelectionConfig
from s2l_ray.recipe.settings import Section


class _SelectionOnly(Section):
    """What a bare table needs."""

    selection: SelectionConfig = SelectionConfig()
    """The selection."""


class _DataOnly(Section):
    """What bare rows need."""

    data: DataConfig
    """The candidate pool."""


def parse_selection(overrides: Sequence[str]) -> SelectionConfig:
    """Return a selection from `selection.key=value` settings alone, for tables that come without a recipe."""
    return parse_part(_SelectionOnly, {}, overrides).selection


def check_selection_settings(settings: Mapping[str, Any]) -> SelectionConfig:
    """Return a selection from its settings as Python has them."""
    return check_part(_SelectionOnly, {"selection": dict(settings)}).selection


def parse_data(path: str, overrides: Sequence[str]) -> DataConfig:
    """Return how rows at a path are read, by those of the overrides that are about `data`."""
    own = [text for text in overrides if text.startswith("data.")]
    return parse_part(_DataOnly, {"data": {"path": path}}, own).data
