"""The curve of a training: a row for each step, beside the model that came of it."""

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

CURVE_FILE = "curve.parquet"
CURVE = pa.schema(
    [
        ("step", pa.int64()),  # from 1
        ("loss", pa.float32()),  # mean over the step's supervised tokens, in nats
        ("learning_rate", pa.float32()),
        ("grad_norm", pa.float32()),  # before clipping; null where it was not logged
    ]
)


def curve_table(columns: Mapping[str, Sequence[Any]]) -> pa.Table:
    """Return the table of these columns; what is not known of a step is None."""
    return pa.table(dict(columns), schema=CURVE)
