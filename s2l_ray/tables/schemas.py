"""The tables that stages meet at: their columns, and the checks that hold for each.

Suffixes of arrays throughout the project: N examples, C trajectory points, K clusters, D embedding, B batch,
T tokens, V vocabulary (`trajectories_NC`, `logits_BTV`).
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from s2l_ray.errors import InputError

EXAMPLES = pa.schema(
    [
        ("example_id", pa.string()),
        ("source", pa.string()),
        ("input_ids", pa.list_(pa.int32())),
        ("supervised", pa.list_(pa.bool_())),
        ("num_tokens", pa.int32()),
        ("num_supervised_tokens", pa.int32()),
    ]
)

PROBE = pa.schema([("example_id", pa.string()), ("num_supervised_tokens", pa.int32()), ("loss", pa.float32())])

SAMPLES = pa.schema([("example_id", pa.string()), ("num_samples", pa.int32()), ("num_right", pa.int32())])
"""num_right is null for an example whose answers cannot be checked."""

QUARANTINE = pa.schema([("file", pa.string()), ("row", pa.int64()), ("reason", pa.string()), ("detail", pa.string())])

NEAR_DUPLICATES = pa.schema([("file", pa.string()), ("row", pa.int64()), ("kept_file", pa.string()),
                             ("kept_row", pa.int64()), ("similarity", pa.float32())])
"""Each row that is nearly an earlier one, the row that stays for it, and their estimated Jaccard similarity."""

LEAK = pa.struct([("task", pa.string()), ("held_out_file", pa.string()), ("held_out_row", pa.int64()),
                  ("how", pa.string()), ("shared", pa.string())])
"""The held-out row that a row of the pool holds text of, in which way, and the words that both have."""

LEAKS = pa.schema([("file", pa.string()), ("row", pa.int64()), *LEAK])

SELECTION = pa.schema(
    [
        ("rank", pa.int64()),
        ("example_id", pa.string()),
        ("cluster", pa.int32()),
        ("quota", pa.int64()),  # examples that its cluster gives
        ("distance", pa.float32()),  # to its cluster's centroid
        ("score", pa.float32()),
    ]
)
"""What was chosen, and why; what a selector does not have (clusters, a score) is null."""

_METADATA_KEY = b"s2l"
_VIEWS = {pa.string_view(): pa.string(), pa.binary_view(): pa.binary()}


def shard_name(number: int) -> str:
    """Return a shard's file name; zero-padded so that names sort by number."""
    return f"shard-{number:06d}.parquet"


def trajectories_schema(num_points: int) -> pa.Schema:
    """Return the schema of a trajectories table with C = `num_points` losses a row (nats per supervised token)."""
    return pa.schema(
        [
            ("example_id", pa.string()),
            ("source", pa.string()),
            ("num_supervised_tokens", pa.int32()),
            ("losses", pa.list_(pa.float32(), num_points)),
        ]
    )


def trajectories_table(examples: pa.Table, losses: pa.Array, points: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Return a trajectories table of examples: `losses` are lists of one for each of the points (step, fraction)."""
    columns = [*(examples[name] for name in ("example_id", "source", "num_supervised_tokens")), losses]
    return with_metadata(pa.table(columns, schema=trajectories_schema(len(points))), {"points": list(points)})


def embeddings_schema(width: int) -> pa.Schema:
    """Return the schema of an embeddings table with D = `width` numbers a row, at unit length."""
    return pa.schema([("example_id", pa.string()), ("embedding", pa.list_(pa.float32(), width))])


def with_metadata(table: pa.Table, metadata: Mapping[str, Any]) -> pa.Table:
    """Return the table with `metadata` (JSON-able) kept in its schema."""
    return table.replace_schema_metadata({_METADATA_KEY: json.dumps(metadata, sort_keys=True).encode()})


def metadata_of(schema: pa.Schema) -> dict[str, Any]:
    """Return what `with_metadata` kept, or an empty dict for a table from elsewhere.

    Raises
    ------
    InputError
        Somebody else wrote something else under our name, or points without a fraction.
    """
    raw = (schema.metadata or {}).get(_METADATA_KEY)
    if not raw:
        return {}
    try:
        kept = json.loads(raw)
        points = kept.get("points", [])
        if [float(point["fraction"]) for point in points] and not isinstance(points, list):
            raise TypeError("points")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        key = _METADATA_KEY.decode()
        raise InputError(
            f"the table's metadata {key!r} is not what s2l writes ({type(error).__name__}: {error}): remove that key, "
            f"in pyarrow by table.replace_schema_metadata()"
        ) from error
    return kept


def losses_matrix(table: pa.Table) -> np.ndarray:
    """Return the losses of a trajectories table as float32 of shape (N, C), oldest point first.

    Raises
    ------
    InputError
        There is no `losses` column of equally long lists of numbers, or a loss is missing, NaN or infinite.
    """
    return vectors_matrix(table, "losses")


def vectors_matrix(table: pa.Table, name: str) -> np.ndarray:
    """Return a column of equally long lists of finite numbers as float32 of shape (N, D)."""
    if name not in table.column_names:
        raise InputError(f"the table needs a column `{name}`, got {table.column_names}")
    column = one_array(table[name])
    if not (pa.types.is_fixed_size_list(column.type) or pa.types.is_list(column.type) or
            pa.types.is_large_list(column.type)) or not _is_number(column.type.value_type):
        raise InputError(f"column `{name}` must hold lists of numbers, got {column.type}")
    if column.null_count or column.flatten().null_count:
        raise InputError(f"column `{name}` has missing values; every example needs every one")
    num_rows = len(column)
    values = column.flatten().to_numpy(zero_copy_only=False).astype(np.float32, copy=False)
    if num_rows == 0 or len(values) == 0:
        raise InputError(f"the table of `{name}` is empty")
    if not pa.types.is_fixed_size_list(column.type):
        lengths = np.unique(column.value_lengths().to_numpy(zero_copy_only=False))
        if len(lengths) != 1:
            raise InputError(f"`{name}` lists must have one length, got lengths {lengths[:5].tolist()}")
    losses_NC = values.reshape(num_rows, -1)
    if not np.isfinite(losses_NC).all():
        bad = np.flatnonzero(~np.isfinite(losses_NC).all(axis=1))
        first = bad[:5].tolist()
        ids = table["example_id"].take(first).to_pylist() if "example_id" in table.column_names else first
        raise InputError(f"{len(bad)} rows have a NaN or infinite value in `{name}`, e.g. {ids}; remove them first")
    return losses_NC


def one_array(column: pa.ChunkedArray) -> pa.Array:
    """Return a column as one array; a copy only where it is in pieces (combine_chunks always copies)."""
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def without_views(schema: pa.Schema) -> pa.Schema:
    """Return the schema with texts and bytes where it has views of them, which Arrow cannot take rows of yet."""
    return pa.schema([field.with_type(_without_views(field.type)) for field in schema], schema.metadata)


def _without_views(kind: pa.DataType) -> pa.DataType:
    if kind in _VIEWS:
        return _VIEWS[kind]
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(_without_views(field.type)) for field in kind])
    if pa.types.is_list(kind):
        return pa.list_(kind.value_field.with_type(_without_views(kind.value_type)))
    return kind


def refuse_code(schema: pa.Schema, what: str) -> None:
    """Refuse a user's table whose values some library's code makes: Ray's own extension type of objects unpickles.

    Raises
    ------
    InputError
        A column is, or holds, an extension type that is not one of Arrow's own.
    """
    for field in schema:
        name = _foreign_extension(field.type)
        if name is not None:
            raise InputError(f"{what}: column {field.name!r} has values of the extension type {name!r}, which code "
                             "would have to make: save them as texts, numbers, lists or structs")


def _foreign_extension(kind: pa.DataType) -> str | None:
    if isinstance(kind, pa.BaseExtensionType):
        name = str(kind.extension_name)
        return _foreign_extension(kind.storage_type) if name.startswith("arrow.") else name
    inner = [kind.value_type] if pa.types.is_dictionary(kind) else [kind.field(i).type for i in range(kind.num_fields)]
    return next((name for name in map(_foreign_extension, inner) if name is not None), None)


def texts(column: pa.ChunkedArray, name: str) -> pa.ChunkedArray:
    """Return a column as texts, which large_string stays.

    Raises
    ------
    InputError
        Its type has no text form, or a text is not UTF-8 (some writers do not check).
    """
    kind = column.type if pa.types.is_large_string(column.type) else pa.string()
    try:
        found = column.cast(kind)
        found.validate(full=True)
    except pa.ArrowException as error:
        raise InputError(f"column {name} ({column.type}) does not convert to {kind}: {error}") from error
    return found


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_floating(kind) or pa.types.is_integer(kind))


def check_selection(table: pa.Table, budget: int) -> None:
    """Assert what every selection table promises: `budget` rows, ranks 0..budget-1, no example twice."""
    assert table.schema.equals(SELECTION), table.schema
    assert table.num_rows == budget, f"{table.num_rows} rows selected, budget {budget}"
    assert np.array_equal(table["rank"].to_numpy(), np.arange(budget)), "ranks must be 0..budget-1"
    assert len(table["example_id"].unique()) == budget, "an example is selected twice"
