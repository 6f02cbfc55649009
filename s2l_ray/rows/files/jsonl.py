"""JSON Lines: one object a line."""

from collections.abc import Iterator
from itertools import chain

import numpy as np

from s2l_ray.rows.file_format import FileFormat, Marks, changed
from s2l_ray.rows.listing import Compression
from s2l_ray.rows.parsing import RawRow, parse_line
from s2l_ray.rows.streams import BOM, is_blank, iter_lines, read_chunks
from s2l_ray.rows.units import Unit


class JsonLines(FileFormat):
    """Rows are the non-blank lines."""

    name = "jsonl"
    endings = (".jsonl", ".ndjson")

    def scan(self, uri: str, compression: Compression | None, chunks: Iterator[bytes], marks: Marks) -> str:
        """Count the lines. Holds one chunk, however long they are."""
        scan_lines(chunks, marks)
        return self.name

    def read(self, unit: Unit, wanted: np.ndarray) -> Iterator[RawRow]:
        """Yield a row for each line."""
        row, is_wanted = unit.seek_row - unit.first_row, wanted.tolist()
        chunks = read_chunks(unit.uri, unit.compression, start=unit.seek_offset)
        for line_number, line in enumerate(iter_lines(chunks), start=unit.seek_line):
            if is_blank(line):
                continue
            if row >= 0 and is_wanted[row]:
                yield parse_line(unit.name, line_number, line)
            row += 1
            if row == len(is_wanted):
                return
        raise changed(unit, f"it ends after {unit.first_row + row} rows")


def scan_lines(chunks: Iterator[bytes], marks: Marks) -> None:
    """Count the non-blank lines. Holds one chunk, however long the lines are."""
    first = next(chunks, b"")
    position = line_start = len(BOM) if first.startswith(BOM) else 0
    line_number, has_text = 1, False
    for chunk in chain([first[position:]], chunks):
        *ended, unfinished = chunk.split(b"\n")
        for part in ended:
            if has_text or not is_blank(part):
                _mark_line(marks, line_start, line_number)
            position += len(part) + 1
            line_start, line_number, has_text = position, line_number + 1, False
        position += len(unfinished)
        has_text = has_text or not is_blank(unfinished)
    if has_text:
        _mark_line(marks, line_start, line_number)


def _mark_line(marks: Marks, offset: int, line_number: int) -> None:
    if marks.due():
        marks.offsets.append(offset)
        marks.lines.append(line_number)
    marks.num_rows += 1


FORMAT = JsonLines()
