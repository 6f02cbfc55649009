"""One line or one value -> a raw row, with every way it can be bad."""

import base64
import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from s2l_ray.rows.reasons import Reason
from s2l_ray.rows.streams import MAX_LINE_BYTES

MAX_NESTING = 200
"""Levels of arrays and objects in one row; Python's own limit would depend on the caller's depth."""

MAX_BAD_RAW_CHARS = 1_000

_DECODER = json.JSONDecoder()
_SPACE = re.compile(r"[ \t\n\r]*")
_ESCAPED_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_TOO_DEEP = f"nested deeper than {MAX_NESTING} levels"


@dataclass(frozen=True, slots=True)
class RawRow:
    """One row as it was found: `value` is its object, or `reason` and `detail` say why there is none."""

    file: str
    row: int
    """1-based: the line number in JSONL, the position in a JSON array or Parquet file."""
    raw: str
    """The line as it came, or the row as JSON text; of a bad row the first 1,000 characters."""
    value: dict[str, Any] | None
    reason: Reason | None = None
    detail: str | None = None


def bad_row(file: str, row: int, raw: str, reason: Reason, detail: str) -> RawRow:
    """Return a row without a value, its text shortened."""
    return RawRow(file, row, raw[:MAX_BAD_RAW_CHARS], None, reason, detail)


def parse_line(file: str, row: int, line: bytes) -> RawRow:
    """Return the row that one JSONL line holds. Never raises: a bad line is a row with a reason."""
    if len(line) > MAX_LINE_BYTES:
        detail = f"the line is longer than {MAX_LINE_BYTES:,} bytes"
        return bad_row(file, row, _head(line), Reason.NOT_JSON, detail)
    try:
        text = line.decode().removesuffix("\r")
        value = json.loads(text)
    except UnicodeDecodeError as error:
        detail = f"byte {error.start + 1} of the line: {error.reason}"
        return bad_row(file, row, _head(line), Reason.INVALID_UTF8, detail)
    except json.JSONDecodeError as error:
        return bad_row(file, row, text, Reason.NOT_JSON, f"column {error.pos + 1}: {error.msg}")
    except RecursionError:
        return bad_row(file, row, text, Reason.NOT_JSON, _TOO_DEEP)
    except ValueError as error:  # an integer of more digits than Python converts
        return bad_row(file, row, text, Reason.NOT_JSON, str(error))
    return _judge(file, row, text, value) or RawRow(file, row, text, value)


def parse_element(file: str, row: int, text: str, value: Any) -> RawRow:
    """Return the row for one element of a JSON array: `text` as it stands in the file, and its value."""
    return _judge(file, row, text, value) or RawRow(file, row, to_json(value), value)


def to_json(value: Any) -> str:
    """Return JSON text; dates become ISO 8601, bytes base64, NaN and infinities null, anything else its string."""
    try:
        return json.dumps(value, ensure_ascii=False, default=_as_text, allow_nan=False)
    except ValueError:  # JSON has no NaN; a reader of the line would refuse the whole file
        return json.dumps(_without_nan(value), ensure_ascii=False, default=_as_text)


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def iter_elements(text: str, position: int) -> Iterator[tuple[int, int, Any]]:
    """Yield (start, end, value) of the elements of a JSON array, whose first one follows `position`.

    Raises
    ------
    ValueError
        The text is not JSON (then a JSONDecodeError with its place), or an integer is too long.
    RecursionError
        An element is nested too deeply.
    """
    while True:
        start = skip_space(text, position)
        value, end = _DECODER.raw_decode(text, start)
        yield start, end, value
        position = skip_space(text, end) + 1
        if text[position - 1 : position] == "]":
            return
        if text[position - 1 : position] != ",":
            raise json.JSONDecodeError("Expecting ',' or ']'", text, position - 1)


def skip_space(text: str, position: int) -> int:
    """Return the first position from `position` on that holds no JSON white space."""
    match = _SPACE.match(text, position)
    return match.end() if match else position


def _head(line: bytes) -> str:
    return line[: 4 * MAX_BAD_RAW_CHARS].decode(errors="replace")


def _judge(file: str, row: int, text: str, value: Any) -> RawRow | None:
    """Return the bad row for a value that parsed but cannot be used, else None."""
    if _ESCAPED_SURROGATE.search(text) or text.count("[") + text.count("{") > MAX_NESTING:
        problem = _problem_within(value)
        if problem:
            return bad_row(file, row, text, *problem)
    if isinstance(value, dict):
        return None
    hint = "; a file that is one JSON array must be called .json" if isinstance(value, list) else ""
    detail = f"a row must be a JSON object, this is of type {type(value).__name__}{hint}"
    return bad_row(file, row, text, Reason.NOT_AN_OBJECT, detail)


def _problem_within(value: Any) -> tuple[Reason, str] | None:
    """Look for nesting beyond MAX_NESTING and for strings that no encoding can write again."""
    pending = [(value, 1)]
    while pending:
        item, depth = pending.pop()
        if isinstance(item, (dict, list)):
            if depth > MAX_NESTING:
                return Reason.NOT_JSON, _TOO_DEEP
            inner = [*item.keys(), *item.values()] if isinstance(item, dict) else item
            pending.extend((part, depth + 1) for part in inner)
        elif isinstance(item, str):
            try:
                item.encode()
            except UnicodeEncodeError as error:
                detail = f"the escape \\u{ord(item[error.start]):x} is half a surrogate pair"
                return Reason.INVALID_UTF8, detail
    return None


def _as_text(value: Any) -> str:
    if isinstance(value, (bytes, bytearray)):
        return base64.b64encode(value).decode()
    return value.isoformat() if hasattr(value, "isoformat") else str(value)
