"""What each column of one row became, in words: a turn, the source, nothing at all, and why."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from s2l_ray.recipe.data import DataConfig
from s2l_ray.rows.conversation import BadRow, Turn
from s2l_ray.rows.leftovers import leftovers
from s2l_ray.rows.missing import is_missing
from s2l_ray.rows.shape import SYSTEM, TOOLS, shape_of, with_known_roles
from s2l_ray.rows.turns import CALLS, SWITCHES, THOUGHTS, message_list, turns

NOT_USED = "not used: no model sees it; it stays in the row"
_EMPTY, _NEEDED = "empty: as if it were not there", "empty, and the row needs it"


def fates(row: Mapping[str, Any], shape: str, data: DataConfig, unseen: Sequence[str] = ()) -> list[tuple[str, str]]:
    """Return (column, what it became) of one row, keys of its messages as `messages[].key`.

    `unseen` is what of the conversation is not in the text, as its messages call it.
    """
    found, source = shape_of(row, shape, data.columns), data.source_column or "source"
    held = found.columns(row, data.columns)
    said = {name: _turns(row[name], name, data) for field, name in held.items() if field not in SYSTEM | TOOLS}
    last = next((name for name in reversed(said) if said[name]), "")  # the one that holds the last answer
    needed = {name for field, columns in found.required.items() if field not in held
              for name in ([data.columns[field]] if field in data.columns else columns)}
    listed = []
    for name, value in row.items():
        became = [found.what_becomes_of(field) for field, column in held.items() if column == name]
        if said.get(name):
            became += [", ".join(turn.role for turn in said[name])]
        became += ["the row's id"] if name == data.id_column else []
        became += ["the row's source"] if name == source and not is_missing(value) else []
        listed.append((str(name), ": ".join(became) or _unread(value, name in needed)))
        if said.get(name):
            listed += _keys(str(name), value, unseen)
        if name == last and (behind := _unanswered(said[name])):
            listed.append((f"{name}: {_named(behind)}", "left out: no assistant answers"))
    unread = leftovers(row, shape, data.columns, filter(None, (data.id_column, source)))
    return [*listed, *((name, NOT_USED) for name in unread if name not in row)]


def _unread(value: Any, is_needed: bool) -> str:
    """Return what became of a column that no field is read from."""
    if not is_missing(value):
        return NOT_USED
    return _NEEDED if is_needed else _EMPTY


def _turns(value: Any, column: str, data: DataConfig) -> list[Turn]:
    """Return the turns of a column of messages; none where it holds something else."""
    if isinstance(value, str) and value.lstrip()[:1] not in ("[", "{"):
        return []
    try:
        return turns(with_known_roles(value, data.roles), column)
    except BadRow:  # a text that only looks like messages, or the row's own reason, which is told
        return []


def _unanswered(said: Sequence[Turn]) -> list[int]:
    answered = max((i for i, turn in enumerate(said, start=1) if turn.role == "assistant"), default=len(said))
    return list(range(answered + 1, len(said) + 1))


def _keys(column: str, value: Any, unseen: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield what the keys of a column's messages became, of those that say more than role and content."""
    messages = [message for message in message_list(value, column) if isinstance(message, dict)]
    for key in dict.fromkeys(key for message in messages for key in message):
        holding = [number for number, message in enumerate(messages, start=1) if not is_missing(message.get(key))]
        if holding and (became := _key(key, holding, messages, unseen)):
            yield f"{column}[].{key}", became


def _key(key: str, holding: list[int], messages: list[dict[str, Any]], unseen: Sequence[str]) -> str:
    if key in SWITCHES:
        off = [number for number in holding if bool(messages[number - 1][key]) != SWITCHES[key]]
        return f"{_named(off)}: seen, not learned" if off else "learned, as without it"
    if key in CALLS:
        return f"{_named(holding)}: calls of tools"
    if key in THOUGHTS:
        return f"{_named(holding)}: thoughts, {'which the text leaves out' if unseen else 'given to the chat template'}"
    return ""


def _named(numbers: Sequence[int]) -> str:
    return f"message{'s' * (len(numbers) > 1)} {', '.join(map(str, numbers))}"
