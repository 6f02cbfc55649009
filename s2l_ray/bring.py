"""Losses that somebody else recorded, in the columns they have, to a trajectories table in ours.

The losses are either one column `losses`, a list of the same length in each row (it wins over any other column), or
wide: two or more columns of numbers whose names share a prefix, which may be empty, and end in a whole number
(`loss_0, loss_1`, `step_100, step_200`, `ppl_1, ppl_2`, `0, 1`). They are ordered by that number, oldest point first.
Two such sets, or two names with one number (`loss_1, loss_01`), are refused: nobody should have to guess.
"""

import itertools
import re
from collections import Counter
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from s2l_ray.errors import InputError
from s2l_ray.tables import metadata_of, with_metadata

Kind = Literal["nats", "perplexity"]

DROPPED = pa.schema([("example_id", pa.string()), ("reason", pa.string())])

_REASONS = {1: "missing value", 2: "NaN or infinite value", 3: "perplexity of 0 or less"}
_CARRIED = {"source": pa.string(), "num_supervised_tokens": pa.int32()}


def read_trajectories_file(
    file: Path, *, kind: Kind = "nats", drop_non_finite: bool = False
) -> tuple[pa.Table, pa.Table]:
    """Return the trajectories table that a user's Parquet file means, and the rows left out (example_id, reason).

    The table has `example_id`, `source` and `num_supervised_tokens` where the file has them, and `losses` in nats
    (float32). Our own metadata (the trajectory points) stays; for wide columns it names them under `columns`.

    Parameters
    ----------
    kind
        What the numbers are; perplexities become nats by the natural logarithm.
    drop_non_finite
        Leave out rows with a missing, NaN or infinite value or a perplexity of 0 or less, instead of refusing them.

    Raises
    ------
    InputError
        The file or its columns do not serve, or rows are not finite and `drop_non_finite` is not set, or all are.
    """
    if kind not in get_args(Kind):
        raise InputError(f"--kind {kind!r} is unknown; it is one of {', '.join(get_args(Kind))}")
    raw = read_parquet(file, "--trajectories")
    repeated = [name for name, count in Counter(raw.column_names).items() if count > 1]
    if repeated:
        raise InputError(f"--trajectories {file}: columns appear twice: {', '.join(repeated)}")
    ids = _ids(raw)
    metadata = metadata_of(raw.schema)
    if "losses" in raw.column_names:
        values_NC, is_missing_NC = _from_lists(raw)
        num_points = len(metadata.get("points", ()))
        if num_points not in (0, values_NC.shape[1]):
            raise InputError(f"the metadata names {num_points} points, each row has {values_NC.shape[1]} losses")
    else:
        names = wide_columns(raw.schema, kind)
        metadata = {"columns": names}
        columns = [raw[name].to_numpy() for name in names]
        values_NC = np.column_stack([np.asarray(column, dtype=_float(column.dtype)) for column in columns])
        is_missing_NC = np.column_stack([raw[name].is_null().to_numpy() for name in names])
    losses_NC, reasons_N = _to_nats(values_NC, is_missing_NC, kind)
    is_kept_N = reasons_N == 0
    if not is_kept_N.all() and not drop_non_finite:
        raise InputError(_refusal(ids, reasons_N))
    if not is_kept_N.any():
        raise InputError(f"--trajectories {file}: none of its {raw.num_rows:,} rows has finite losses at every point")
    kept = pa.array(is_kept_N)
    carried = {name: _cast(raw, name, _CARRIED[name]).filter(kept) for name in _CARRIED if name in raw.column_names}
    flat = pa.array(np.ascontiguousarray(losses_NC[is_kept_N]).reshape(-1))
    losses = pa.FixedSizeListArray.from_arrays(flat, losses_NC.shape[1])
    table = pa.table({"example_id": ids.filter(kept), **carried, "losses": losses})
    reasons = pa.array([_REASONS[code] for code in reasons_N[~is_kept_N].tolist()], pa.string())
    dropped = pa.table([ids.filter(pc.invert(kept)), reasons], schema=DROPPED)
    return with_metadata(table, metadata), dropped


def read_parquet(file: Path, what: str) -> pa.Table:
    """Return a user's Parquet file; InputError where it is missing or none."""
    if not file.is_file():
        raise InputError(f"{what} {file}: no such file")
    try:
        return pq.ParquetFile(file).read()
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"{what} {file}: not a readable Parquet file: {error}") from error


def wide_columns(schema: pa.Schema, kind: Kind) -> list[str]:
    """Return the names of the one set of wide loss columns, oldest point first.

    Raises
    ------
    InputError
        There is none, or more than one, or the set is not all numbers, or its name contradicts `kind`.
    """
    sets: dict[str, list[tuple[int, str]]] = {}
    for name in schema.names:
        found = re.fullmatch(r"(.*?)([0-9]+)", name, re.DOTALL)
        if found:
            sets.setdefault(found[1], []).append((int(found[2]), name))
    wide = {
        prefix: sorted(columns) for prefix, columns in sets.items()
        if sum(_is_number(schema.field(name).type) for _, name in columns) >= 2
    }
    if not wide:
        raise InputError(
            "the table needs a column `losses` (lists of numbers), or at least 2 columns of numbers with one name and "
            f"a number after it (loss_0, loss_1, ...); it has {', '.join(schema.names)}"
        )
    if len(wide) > 1:
        listed = "; ".join(", ".join(name for _, name in columns[:4]) for columns in wide.values())
        raise InputError(f"more than one set of columns could be the losses ({listed}): keep one, or name one `losses`")
    (prefix, columns), = wide.items()
    texts = [f"{name} ({schema.field(name).type})" for _, name in columns if not _is_number(schema.field(name).type)]
    if texts:
        raise InputError(f"the loss columns {prefix}* must all be numbers, these are not: {', '.join(texts[:5])}")
    same = [f"{a[1]} and {b[1]}" for a, b in itertools.pairwise(columns) if a[0] == b[0]]
    if same:
        raise InputError(f"columns name the same point twice: {', '.join(same)}")
    if kind == "nats" and re.match(r"(ppl|perplexity)", prefix, re.IGNORECASE):
        raise InputError(f"columns {prefix}* look like perplexities: say --kind perplexity, or rename them")
    return [name for _, name in columns]


def _ids(raw: pa.Table) -> pa.Array:
    if "example_id" not in raw.column_names:
        raise InputError(f"the table needs a column example_id, it has {', '.join(raw.column_names)}")
    if raw.num_rows == 0:
        raise InputError("the table of trajectories is empty")
    ids = _cast(raw, "example_id", pa.string())
    if ids.null_count:
        raise InputError(f"{ids.null_count} rows have no example_id")
    return ids


def _cast(raw: pa.Table, name: str, kind: pa.DataType) -> pa.Array:
    try:
        return raw[name].combine_chunks().cast(kind)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise InputError(f"column {name} ({raw[name].type}) does not convert to {kind}: {error}") from error


def _from_lists(raw: pa.Table) -> tuple[np.ndarray, np.ndarray]:
    """Return the values of the `losses` lists and which are missing, both (N, C); a missing list misses all."""
    column = raw["losses"].combine_chunks()
    is_list = pa.types.is_fixed_size_list(column.type) or pa.types.is_list(column.type) \
        or pa.types.is_large_list(column.type)
    if not is_list or not _is_number(column.type.value_type):
        raise InputError(f"column `losses` must hold lists of numbers, got {column.type}")
    has_list_N = column.is_valid().to_numpy(zero_copy_only=False)
    flat = column.flatten() if has_list_N.all() else column.filter(column.is_valid()).flatten()
    lengths = np.unique(pc.list_value_length(column).drop_null().to_numpy(zero_copy_only=False))
    if len(lengths) != 1 or lengths[0] == 0:
        raise InputError(f"`losses` lists must have one length of at least 1, got lengths {lengths[:5].tolist()}")
    numbers = flat.to_numpy(zero_copy_only=False)
    shape = (len(column), int(lengths[0]))
    values_NC: np.ndarray = np.full(shape, np.nan, dtype=_float(numbers.dtype))
    is_missing_NC = np.ones(shape, dtype=bool)
    values_NC[has_list_N] = numbers.reshape(-1, shape[1])
    is_missing_NC[has_list_N] = flat.is_null().to_numpy(zero_copy_only=False).reshape(-1, shape[1])
    return values_NC, is_missing_NC


def _to_nats(values_NC: np.ndarray, is_missing_NC: np.ndarray, kind: Kind) -> tuple[np.ndarray, np.ndarray]:
    """Return the losses as float32 and, for each row, 0 or the number of the reason why it is not usable."""
    with np.errstate(all="ignore"):  # what is not finite is found below and named
        is_low_N = ((values_NC <= 0) & (kind == "perplexity")).any(axis=1)
        losses_NC = (np.log(values_NC) if kind == "perplexity" else values_NC).astype(np.float32)
    is_finite_N = np.isfinite(losses_NC).all(axis=1)
    return losses_NC, np.select([is_missing_NC.any(axis=1), is_low_N, ~is_finite_N], [1, 3, 2], default=0)


def _refusal(ids: pa.Array, reasons_N: np.ndarray) -> str:
    bad = np.flatnonzero(reasons_N)
    counts = ", ".join(f"{int((reasons_N == code).sum()):,} with a {why}" for code, why in _REASONS.items()
                       if (reasons_N == code).any())
    few = ", ".join(map(repr, ids.take(pa.array(bad[:5])).to_pylist()))
    return f"{len(bad):,} of {len(ids):,} rows cannot be used ({counts}), e.g. {few}: mend them, or --drop-non-finite"


def _float(kind: np.dtype) -> type:
    """Return the precision to compute in: losses come as float32 mostly, and N x C of them may be large."""
    return np.float32 if kind == np.float32 else np.float64


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_floating(kind) or pa.types.is_integer(kind))
