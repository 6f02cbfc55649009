"""JSON: one array of objects, or, under the same ending, one object a line."""

import json
from collections.abc import Iterator
from itertools import chain

import numpy as np

from s2l_ray.errors import InputError
from s2l_ray.rows.file_format import FileFormat, Marks, changed
from s2l_ray.rows.files import jsonl
from s2l_ray.rows.listing import Compression
from s2l_ray.rows.parsing import RawRow, iter_elements, parse_element, parse_line, skip_space
from s2l_ray.rows.streams import BOM, is_blank, iter_lines, read_chunks
from s2l_ray.rows.units import Unit


class Json(FileFormat):
    """Rows are the elements of the array, which is held in memory while it is scanned."""

    name = "json"
    endings = (".json",)

    def scan(self, uri: str, compression: Compression | None, chunks: Iterator[bytes], marks: Marks) -> str:
        """Count the rows and find out which of the two layouts it is."""
        head: list[bytes] = []
        for chunk in chunks:
            head.append(chunk)
            if not is_blank(chunk.removeprefix(BOM)):
                break
        if b"".join(head).removeprefix(BOM).lstrip().startswith(b"["):
            _scan_array(uri, b"".join(chain(head, chunks)), marks)
            return self.name
        jsonl.scan_lines(chain(head, chunks), marks)
        if marks.num_rows:
            first_line = next(iter_lines(read_chunks(uri, compression, start=marks.offsets[0])))
            first_row = parse_line(uri, marks.lines[0], first_line)
            # One object alone is more likely a container such as {"data": [...]} than a data set of one row.
            if first_row.reason or marks.num_rows == 1:
                raise InputError(
                    f"{uri}: a .json file must hold one array of objects, or one object a line; this one starts "
                    f"with {first_row.raw[:40]!r}. Wrap the objects in an array [...], or write one a line "
                    "and call the file .jsonl."
                )
        return jsonl.FORMAT.name

    def read(self, unit: Unit, wanted: np.ndarray) -> Iterator[RawRow]:
        """Yield a row for each element."""
        row, is_wanted = unit.seek_row - unit.first_row, wanted.tolist()
        content = b"".join(read_chunks(unit.uri, unit.compression, start=unit.seek_offset, end=unit.end_offset))
        try:
            text = content.decode()
            for start, end, value in iter_elements(text, 0):
                if row >= 0 and is_wanted[row]:
                    yield parse_element(unit.name, unit.first_row + row + 1, text[start:end], value)
                row += 1
                if row == len(is_wanted):
                    return
        except (ValueError, RecursionError) as error:
            raise changed(unit, str(error)) from error
        raise changed(unit, f"it ends after {unit.first_row + row} rows")


def _scan_array(uri: str, content: bytes, marks: Marks) -> None:
    """Count the elements of a JSON array and mark them by byte offset."""
    offset = len(BOM) if content.startswith(BOM) else 0
    previous = 0
    try:
        text = content[offset:].decode()
        last = text.index("[") + 1
        is_empty = text.startswith("]", skip_space(text, last))
        for start, end, _ in () if is_empty else iter_elements(text, last):
            last = end
            if marks.due():
                offset += len(text[previous:start].encode())
                previous = start
                marks.offsets.append(offset)
            marks.num_rows += 1
        rest = skip_space(text, skip_space(text, last) + 1)
        if rest != len(text):
            raise json.JSONDecodeError("Extra data after the array", text, rest)
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise InputError(f"{uri}: line {line}: not UTF-8: {error.reason}. Save the file as UTF-8.") from error
    except json.JSONDecodeError as error:
        raise InputError(
            f"{uri}: not a readable JSON array: line {error.lineno}, column {error.colno}: {error.msg}"
        ) from error
    except (RecursionError, ValueError) as error:
        element = f"element {marks.num_rows + 1}"
        raise InputError(f"{uri}: not a readable JSON array: {element}: {error}") from error


FORMAT = Json()
