"""What was found and rows as the model sees them, for a terminal or a pipe."""

from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from s2l_ray.progress.notes import harmless
from s2l_ray.starter.inspect import Run, SeenRow

_MARKS = (("«", "»"), ("⟦", "⟧"), ("【", "】"), ("⸢", "⸣"), ("{{{", "}}}"))
_STYLES = {"seen": "", "learned": "bold green", "cut": "dim"}
SHOWN_CHARS = 2_000
"""Of what is cut, or of a row that has no text."""


def findings_table(found: Sequence[tuple[str, str]], title: str) -> Table:
    """Return what a survey found as a table."""
    return _table(title, ("", ""), found)


def show_rows(console: Console, rows: Sequence[SeenRow], numbering: str, max_length: int) -> None:
    """Print rows, what is learned in colour, or between marks where the console has none."""
    colour = console.is_terminal and console.color_system is not None
    marks = ("", "") if colour else marks_of(rows)
    how = "is bold and green" if colour else f"stands between {marks[0]} and {marks[1]}"
    _say(console, f"What is learned {how}; the rest is only seen. In the rows below, {numbering}.")
    for row in rows:
        _say(console, "")
        _say(console, title_of(row), "bold")
        for verdict in verdicts(row, max_length):
            _say(console, verdict, "yellow")
        if row.columns:
            console.print(_table("", ("column", "what it became"), row.columns))
        console.print(_text(row.runs, marks, row, max_length) if row.runs else Text(harmless(shortened(row.raw))),
                      soft_wrap=True)


def title_of(row: SeenRow) -> str:
    """Return where a row is and how much of it is learned."""
    parts = [f"{row.file} row {row.row}"]
    parts += [row.shape] if row.shape else []
    parts += [f"source {row.source}"] if row.source else []
    parts += [f"{row.num_tokens:,} tokens, {row.num_learned:,} learned"] if row.runs else []
    return ", ".join(parts)


def verdicts(row: SeenRow, max_length: int) -> list[str]:
    """Return what is to be known of a row besides its text."""
    said = [f"would be quarantined: {row.reason}, {row.detail}"] if row.reason else []
    if row.duplicate_of:
        said.append("a duplicate, would be dropped: it repeats {} row {}".format(*row.duplicate_of))
    return said + ([f"cut at max_length {max_length:,}: {row.num_cut:,} tokens more"] if row.num_cut else [])


def marks_of(rows: Iterable[SeenRow]) -> tuple[str, str]:
    """Return a pair of marks that no row's text holds; the last pair where all are held."""
    whole = "".join(run.text for row in rows for run in row.runs)
    return next((pair for pair in _MARKS if not any(mark in whole for mark in pair)), _MARKS[-1])


def shortened(text: str) -> str:
    """Return the beginning of a text that may be endless."""
    left = len(text) - SHOWN_CHARS
    return text if left <= 0 else f"{text[:SHOWN_CHARS]}... ({left:,} characters more)"


def _text(runs: Sequence[Run], marks: tuple[str, str], row: SeenRow, max_length: int) -> Text:
    shown = Text()
    for run in runs:
        if run.state == "cut":
            shown.append(f"\n--- behind max_length {max_length:,}, {row.num_cut:,} tokens that no model sees: ---\n")
        before, after = marks if run.state == "learned" else ("", "")
        text = shortened(run.text) if run.state == "cut" else run.text
        shown.append(f"{before}{harmless(text)}{after}", style=_STYLES[run.state])
    return shown


def _table(title: str, head: tuple[str, str], rows: Iterable[tuple[str, str]]) -> Table:
    table = Table(title=Text(harmless(title)) if title else None, show_header=any(head), title_justify="left")
    for name in head:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*(Text(harmless(cell)) for cell in row))
    return table


def _say(console: Console, text: str, style: str = "") -> None:
    console.print(Text(harmless(text), style=style), soft_wrap=True)
