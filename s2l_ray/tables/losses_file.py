"""Losses that somebody else recorded, in the columns they have, to a trajectories table in ours.

The losses are either one column `losses`, a list of the same length in each row (it wins over any other column), or
wide: two or more columns of numbers whose names share a prefix, which may be empty, and end in a whole number
(`loss_0, loss_1`, `step_100, step_200`, `ppl_1, ppl_2`, `0, 1`). They are ordered by that number, oldest point first.
Two such sets, or two names with one number (`loss_1, loss_01`), are refused: nobody should have to guess.
"""

import itertools
import re
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from s2l_ray.errors import InputError
from s2l_ray.tables.chunked_table import ChunkedTable, Reader, chunked_from_parquet
from s2l_ray.tables.schemas import metadata_of, one_array, refuse_code, texts, trajectories_schema, with_metadata

Kind = Literal["nats", "perplexity"]

DROPPED = pa.schema([("example_id", pa.string()), ("reason", pa.string())])

_REASONS = {1: "missing value", 2: "NaN or infinite value", 3: "perplexity of 0 or less"}
_CARRIED = {"source": pa.string(), "num_supervised_tokens": pa.int32()}


def read_trajectories_file(
    file: Path, *, what: str = "--trajectories", kind: Kind = "nats", drop_non_finite: bool = False
) -> tuple[pa.Table, pa.Table]:
    """Return what `trajectories_of` does of a Parquet file, with all rows in memory; messages call it `what`."""
    raw = chunked_from_parquet(file, what)
    parts, dropped = trajectories_of(raw, f"{what} {file}", kind=kind, drop_non_finite=drop_non_finite)
    return parts.read(), dropped


def trajectories_of(
    raw: ChunkedTable, what: str, *, kind: Kind = "nats", drop_non_finite: bool = False
) -> tuple[ChunkedTable, pa.Table]:
    """Return the trajectories table that a user's table means, and the rows left out (example_id, reason).

    The table has `example_id`, `source` and `num_supervised_tokens` where theirs has them, and `losses` in nats
    (float32). Our own metadata (the trajectory points) stays; for wide columns it names them under `columns`. All
    losses are looked at once, here; after that a part is read when it is asked for.

    Parameters
    ----------
    what
        What messages call the table.
    kind
        What the numbers are; perplexities become nats by the natural logarithm.
    drop_non_finite
        Leave out rows with a missing, NaN or infinite value or a perplexity of 0 or less, instead of refusing them.

    Raises
    ------
    InputError
        The columns do not serve, or rows are not finite and `drop_non_finite` is not set, or all are.
    """
    if kind not in get_args(Kind):
        raise InputError(f"--kind {kind!r} is unknown; it is one of {', '.join(get_args(Kind))}")
    if "example_id" not in raw.schema.names:
        raise InputError(f"the table needs a column example_id, it has {', '.join(raw.schema.names)}")
    if raw.num_rows == 0:
        raise InputError("the table of trajectories is empty")
    names = ["losses"] if "losses" in raw.schema.names else wide_columns(raw.schema, kind)
    num_points, reasons, dropped = _look_through(raw, names, kind)
    metadata = metadata_of(raw.schema) if names == ["losses"] else {"columns": names}
    if names == ["losses"] and len(metadata.get("points", ())) not in (0, num_points):
        raise InputError(f"the metadata names {len(metadata['points'])} points, each row has {num_points} losses")
    if dropped.num_rows and not drop_non_finite:
        raise InputError(_refusal(dropped, raw.num_rows))
    if dropped.num_rows == raw.num_rows:
        raise InputError(f"{what}: none of its {raw.num_rows:,} rows has finite losses at every point")
    kept = raw.only([reasons_N == 0 for reasons_N in reasons])
    ours = ["example_id", *(name for name in _CARRIED if name in raw.schema.names), "losses"]
    empty = pa.schema([trajectories_schema(num_points).field(name) for name in ours]).empty_table()
    schema = with_metadata(empty, metadata).schema
    readers = tuple(partial(_ours, read, schema, names, kind) for read in kept.readers)
    return ChunkedTable(schema, kept.sizes, readers), dropped


def _look_through(raw: ChunkedTable, names: list[str], kind: Kind) -> tuple[int, list[np.ndarray], pa.Table]:
    """Return C, each part's reasons against its rows (0 for none), and the rows that have one."""

    def look(_: slice, part: pa.Table) -> tuple[int, np.ndarray]:
        losses_NC, reasons_N = _losses(part, names, kind)
        return losses_NC.shape[1], reasons_N

    lengths, reasons = zip(*raw.each(names, look), strict=True)
    if len(set(lengths)) > 1:
        raise InputError(f"`losses` lists must have one length of at least 1, got lengths {sorted(set(lengths))[:5]}")
    is_bad = [reasons_N > 0 for reasons_N in reasons]
    ids = _ids(raw.only(is_bad).read(["example_id"]))
    texts = [_REASONS[code] for reasons_N in reasons for code in reasons_N[reasons_N > 0].tolist()]
    return lengths[0], list(reasons), pa.table([ids, pa.array(texts, pa.string())], schema=DROPPED)


def _ours(read: Reader, schema: pa.Schema, names: list[str], kind: Kind, columns: Sequence[str]) -> pa.Table:
    """Read a part's columns, of those in our schema."""
    part = read([*(name for name in columns if name != "losses"), *(names if "losses" in columns else [])])
    made: dict[str, pa.Array] = {}
    for name in columns:
        if name == "losses":
            flat = pa.array(np.ascontiguousarray(_losses(part, names, kind)[0]).reshape(-1))
            made[name] = pa.FixedSizeListArray.from_arrays(flat, schema.field(name).type.list_size)
        else:
            made[name] = _ids(part) if name == "example_id" else _cast(part, name, _CARRIED[name])
    return pa.table(made)


def _losses(part: pa.Table, names: list[str], kind: Kind) -> tuple[np.ndarray, np.ndarray]:
    """Return the losses in nats, (N, C) float32, and the number of the reason against each row, 0 for none."""
    if names == ["losses"]:
        return _to_nats(*_from_lists(part), kind)
    columns = [part[name].to_numpy() for name in names]
    values_NC: np.ndarray = np.column_stack([np.asarray(column, dtype=_float(column.dtype)) for column in columns])
    is_missing_N = np.asarray(np.any([part[name].is_null().to_numpy() for name in names], axis=0))
    return _to_nats(values_NC, is_missing_N, kind)


def read_parquet(file: Path, what: str) -> pa.Table:
    """Return a user's Parquet file; InputError where it is missing or none."""
    if not file.is_file():
        raise InputError(f"{what} {file}: no such file")
    try:
        table = pq.ParquetFile(file).read()
        _ = table.column_names  # which may be no texts in a damaged footer
    except (pa.ArrowException, OSError, UnicodeError) as error:
        raise InputError(f"{what} {file}: not a readable Parquet file: {error}") from error
    refuse_code(table.schema, f"{what} {file}")
    return table


def wide_columns(schema: pa.Schema, kind: Kind) -> list[str]:
    """Return the names of the one set of wide loss columns, oldest point first.

    Raises
    ------
    InputError
        There is none, or more than one, or the set is not all numbers, or its name contradicts `kind`.
    """
    sets: dict[str, list[tuple[int, str]]] = {}
    for name in schema.names:
        found = re.fullmatch(r"(.*?)([0-9]{1,18})", name, re.DOTALL)
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
        raise InputError(f"columns {prefix}* look like perplexities: say --kind perplexity, or rename them "
                         "(in Python kind='perplexity')")
    return [name for _, name in columns]


def _ids(raw: pa.Table) -> pa.Array:
    ids = _cast(raw, "example_id", pa.string())
    if ids.null_count:
        raise InputError(f"{ids.null_count} rows have no example_id")
    return ids


def _cast(raw: pa.Table, name: str, kind: pa.DataType) -> pa.Array:
    if kind == pa.string():
        return one_array(texts(raw[name], name)).cast(kind)
    try:
        return one_array(raw[name]).cast(kind)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise InputError(f"column {name} ({raw[name].type}) does not convert to {kind}: {error}") from error


def _from_lists(raw: pa.Table) -> tuple[np.ndarray, np.ndarray]:
    """Return the values of the `losses` lists, (N, C), and which rows miss one, (N,); a missing list misses all."""
    column = one_array(raw["losses"])
    is_list = pa.types.is_fixed_size_list(column.type) or pa.types.is_list(column.type) \
        or pa.types.is_large_list(column.type)
    if not is_list or not _is_number(column.type.value_type):
        raise InputError(f"column `losses` must hold lists of numbers, got {column.type}")
    has_list_N = column.is_valid().to_numpy(zero_copy_only=False)
    flat = column.flatten() if has_list_N.all() else column.filter(column.is_valid()).flatten()
    bounds = pc.min_max(pc.list_value_length(column)).as_py()
    if bounds["min"] != bounds["max"] or not bounds["max"]:
        lengths = np.unique(pc.list_value_length(column).drop_null().to_numpy(zero_copy_only=False))
        raise InputError(f"`losses` lists must have one length of at least 1, got lengths {lengths[:5].tolist()}")
    numbers, shape = flat.to_numpy(zero_copy_only=False), (len(column), int(bounds["max"]))
    if column.null_count == 0 and flat.null_count == 0:
        return numbers.reshape(shape), np.zeros(shape[0], dtype=bool)
    values_NC: np.ndarray = np.full(shape, np.nan, dtype=_float(numbers.dtype))
    is_missing_NC = np.ones(shape, dtype=bool)
    values_NC[has_list_N] = numbers.reshape(-1, shape[1])
    is_missing_NC[has_list_N] = flat.is_null().to_numpy(zero_copy_only=False).reshape(-1, shape[1])
    return values_NC, np.asarray(is_missing_NC.any(axis=1))


def _to_nats(values_NC: np.ndarray, is_missing_N: np.ndarray, kind: Kind) -> tuple[np.ndarray, np.ndarray]:
    """Return the losses as float32 and, for each row, 0 or the number of the reason why it is not usable."""
    with np.errstate(all="ignore"):  # what is not finite is found below and named
        losses_NC = (np.log(values_NC) if kind == "perplexity" else values_NC).astype(np.float32, copy=False)
    if np.isfinite(losses_NC).all() and not is_missing_N.any():
        return losses_NC, np.zeros(len(losses_NC), dtype=np.int8)
    is_low_N = ((values_NC <= 0) & (kind == "perplexity")).any(axis=1)
    is_finite_N = np.isfinite(losses_NC).all(axis=1)
    return losses_NC, np.select([is_missing_N, is_low_N, ~is_finite_N], [1, 3, 2], default=0).astype(np.int8)


def _refusal(dropped: pa.Table, num_rows: int) -> str:
    found, bad = Counter(dropped["reason"].to_pylist()), f"{len(dropped):,} of {num_rows:,} rows"
    counts = ", ".join(f"{found[why]:,} with a {why}" for why in _REASONS.values() if found[why])
    few = ", ".join(map(repr, dropped["example_id"][:5].to_pylist()))
    remedy = "fix them, or --drop-non-finite (in Python drop_non_finite=True)"
    return f"{bad} cannot be used ({counts}), e.g. {few}: {remedy}"


def _float(kind: np.dtype) -> type:
    """Return the precision to compute in: losses come as float32 mostly, and N x C of them may be large."""
    return np.float32 if kind == np.float32 else np.float64


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_floating(kind) or pa.types.is_integer(kind))
