"""The option --checkpoints: a training of your own in place of a proxy."""

from typing import Annotated

import typer

Checkpoints = Annotated[
    str | None, typer.Option(help="Your own training's checkpoints (DIR/checkpoint-<step>/), in place of a proxy.")
]


def with_checkpoints(source: str, folder: str | None, overrides: list[str] | None) -> list[str]:
    """Return the settings with those that make a training's checkpoints the points, where these are given."""
    if folder is None:
        return list(overrides or [])
    from s2l_ray.starter.checkpoints import checkpoint_settings  # heavy: transformers
    from s2l_ray.starter.kind import is_data  # heavy: pyarrow

    return [*checkpoint_settings(folder, for_rows=is_data(source)), *(overrides or [])]
