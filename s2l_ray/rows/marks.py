"""What is noted beside the rows of a unit where `settle` is to compare them with others."""

from collections.abc import Sequence

import pyarrow as pa

from s2l_ray.recipe.data import DataConfig
from s2l_ray.rows.compared import texts_of
from s2l_ray.rows.conversation import Conversation
from s2l_ray.rows.leaks import HeldOut
from s2l_ray.rows.near_duplicates import signatures

SIGNATURE, LEAK = "signature", "leak"


def with_marks(
    table: pa.Table, conversations: Sequence[Conversation | None], data: DataConfig, held_out: HeldOut | None
) -> pa.Table:
    """Return a unit's table, which has a column `key`, with a column for each comparison that is asked for.

    Parameters
    ----------
    conversations
        Of each row; None where it is bad.
    held_out
        What leaks are looked for by, where they are.
    """
    if data.near_duplicates is None and held_out is None:
        return table
    texts = [None if one is None else texts_of(one) for one in conversations]
    if data.near_duplicates is not None:
        table = table.append_column(SIGNATURE, signatures(texts, data.near_duplicates.compare))
    if held_out is not None:
        table = table.append_column(LEAK, held_out.find(texts, table["key"].to_pylist()))
    return table


def mark_columns(data: DataConfig, *, has_held_out: bool) -> list[str]:
    """Return the columns that `with_marks` adds."""
    return [*([SIGNATURE] if data.near_duplicates else []), *([LEAK] if has_held_out else [])]
