"""What is noted beside the rows of a unit where `settle` is to compare them with others."""

from collections.abc import Sequence

import pyarrow as pa

from s2l_ray.recipe.data import DataConfig
from s2l_ray.rows.compared import texts_of
from s2l_ray.rows.conversation import Conversation
from s2l_ray.rows.near_duplicates import signatures

SIGNATURE = "signature"


def with_marks(table: pa.Table, conversations: Sequence[Conversation | None], data: DataConfig) -> pa.Table:
    """Return a unit's table with a column for each comparison that is asked for.

    Parameters
    ----------
    conversations
        Of each row; None where it is bad.
    """
    if data.near_duplicates is None:
        return table
    texts = [None if one is None else texts_of(one) for one in conversations]
    return table.append_column(SIGNATURE, signatures(texts, data.near_duplicates.compare))


def mark_columns(data: DataConfig) -> list[str]:
    """Return the columns that `with_marks` adds."""
    return [SIGNATURE] if data.near_duplicates else []
