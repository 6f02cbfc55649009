"""What of a row no model sees, by name: it stays in the rows, and people are told."""

from collections.abc import Iterable, Mapping
from typing import Any

from s2l_ray.rows.missing import is_missing
from s2l_ray.rows.shape import TOOLS, shape_of
from s2l_ray.rows.turns import MESSAGE_KEYS, message_list


def leftovers(row: Mapping[str, Any], shape: str, columns: Mapping[str, str], also_read: Iterable[str]) -> list[str]:
    """Return the columns of a row, and the keys of its messages as `messages[].key`, that hold something unread.

    Parameters
    ----------
    also_read
        Columns that are read for another purpose: the id's, the source's.
    """
    found = shape_of(row, shape, columns)
    held = found.columns(row, columns)
    known = {*held.values(), *also_read}
    unread = [name for name, value in row.items() if name not in known and not is_missing(value)]
    for name in sorted({name for field, name in held.items() if field not in TOOLS}):
        messages = message_list(row[name], name) if isinstance(row[name], (list, dict)) else None
        keys = {key for message in messages or () if isinstance(message, dict) for key, value in message.items()
                if key not in MESSAGE_KEYS and not is_missing(value)}
        unread += [f"{name}[].{key}" for key in sorted(keys)]
    return unread + found.unread({field: row[name] for field, name in held.items()})
