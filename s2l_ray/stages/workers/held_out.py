"""What leaks are looked for by, on its way from the driver to the workers: larger than is sent with a unit."""

from collections.abc import Callable

from s2l_ray.rows.leaks import HeldOut
from s2l_ray.storage.artifacts import Artifact

_ROWS, _GRAMS = "parts/held_out-rows.parquet", "parts/held_out-grams.parquet"


def keep_held_out(artifact: Artifact, index: Callable[[], HeldOut]) -> None:
    """Put it beside the parts, where each worker reads it once; what an earlier run put there stays."""
    if not artifact.exists(_GRAMS):  # the last of the two
        held_out = index()
        artifact.write_table(_ROWS, held_out.rows)
        artifact.write_table(_GRAMS, held_out.grams)


def read_held_out(artifact: Artifact) -> HeldOut | None:
    """Return what `keep_held_out` wrote; None where leaks are not looked for."""
    if not artifact.exists(_GRAMS):
        return None
    return HeldOut(artifact.read_table(_ROWS), artifact.read_table(_GRAMS))
