"""From a unit of rows to tokenised examples, with a reason beside every row that is none."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from transformers import PreTrainedTokenizerBase

from s2l_ray.modeling.tokenization import Piece, Tokenization, TokenizedExample
from s2l_ray.recipe.data import DataConfig
from s2l_ray.rows.chat_messages import Reading, each_answer
from s2l_ray.rows.conversation import BadRow, Conversation, digest
from s2l_ray.rows.leaks import HeldOut
from s2l_ray.rows.leftovers import leftovers
from s2l_ray.rows.marks import with_marks
from s2l_ray.rows.parsing import RawRow
from s2l_ray.rows.reading import read_unit
from s2l_ray.rows.reasons import Reason
from s2l_ray.rows.typed import typed_column
from s2l_ray.rows.units import Unit

PART = pa.schema(
    [
        ("file", pa.string()),
        ("row", pa.int64()),
        ("reason", pa.string()),
        ("detail", pa.string()),
        ("key", pa.string()),
        ("unused", pa.list_(pa.string())),
        ("way", pa.string()),
        ("user_id", pa.string()),
        ("source", pa.string()),
        ("input_ids", pa.list_(pa.int32())),
        ("supervised", pa.list_(pa.bool_())),
        ("num_tokens", pa.int32()),
        ("num_supervised_tokens", pa.int32()),
        ("truncated", pa.bool_()),
        ("raw", pa.string()),
    ]
)

MAX_DETAIL_CHARS = 300
"""Of what is said about one bad row."""


@dataclass(frozen=True)
class Candidate:
    """A good row before tokenising."""

    conversation: Conversation
    key: str
    """What equal conversations share."""
    user_id: str | None
    source: str
    pieces: list[Piece]
    unused: list[str]


class ExampleMaker:
    """Makes the rows of one unit into a table of `PART` columns, good and bad rows alike, in the unit's order."""

    def __init__(self, data: DataConfig, row_format: str, tokenizer: PreTrainedTokenizerBase,
                 schema: pa.Schema | None, held_out: HeldOut | None = None) -> None:
        self._held_out = held_out
        self._data, self._format, self._schema = data, row_format, schema
        self._reading = Reading.of(row_format, data.columns, data.roles, data.turns)
        self.tokenization = Tokenization(tokenizer, data.prompt_style, data.max_length, data.template_date,
                                         data.template_name)

    def make(self, unit: Unit, keep: np.ndarray | None) -> pa.Table:
        """Return the unit's table: PART, marks, and of typed rows the original columns as a struct `typed`."""
        raws = [one for raw in read_unit(unit, keep) for one in self.expand(raw)]
        outcomes = [self.candidate(raw) for raw in raws]
        good = [outcome for outcome in outcomes if isinstance(outcome, Candidate)]
        tokens = iter(self.tokenization.tokenize([candidate.pieces for candidate in good]))
        rows = [
            self._row(raw, outcome, next(tokens) if isinstance(outcome, Candidate) else None)
            for raw, outcome in zip(raws, outcomes, strict=True)
        ]
        table = pa.Table.from_pylist(rows, schema=PART)
        table = with_marks(table, conversations_of(outcomes), self._data, self._held_out)
        typed = None if self._data.turns == "each" else typed_column(unit, self._schema, keep)
        return table if typed is None else table.append_column("typed", typed)

    def expand(self, raw: RawRow) -> list[RawRow]:
        """Return the rows that a row becomes examples of: itself, or with `data.turns=each` one for each answer."""
        return each_answer(raw, self._format, self._data) if self._data.turns == "each" else [raw]

    def candidate(self, raw: RawRow) -> Candidate | BadRow:
        """Return a row ready to be tokenised, or why it cannot be."""
        if raw.value is None:
            assert raw.reason is not None
            return BadRow(raw.reason, raw.detail or "")
        if len(raw.raw) > self._data.max_row_chars:
            bound = f"data.max_row_chars={self._data.max_row_chars:,}"
            return BadRow(Reason.TOO_LONG, f"{len(raw.raw):,} characters, {bound}")
        try:
            conversation = self._reading.conversation(raw.value)
            pieces = self.tokenization.render(conversation)
            user_id = self._column(raw.value, self._data.id_column)
            source = self._source(raw)
        except BadRow as bad:
            return bad
        read_too = filter(None, (self._data.id_column, self._data.source_column or "source"))
        unused = leftovers(raw.value, self._reading.shape, self._reading.columns, read_too)
        unused += dict.fromkeys(name for piece in pieces for name in piece.unseen)
        return Candidate(conversation, digest(conversation), user_id, source, pieces, unused)

    def _column(self, row: Mapping[str, Any], column: str | None) -> str | None:
        if column is None:
            return None
        value = row.get(column)
        if value is None or value == "" or isinstance(value, (dict, list)):
            raise BadRow(Reason.MISSING_FIELD, f"column {column!r} is missing, empty or no plain value")
        return str(value)

    def _source(self, raw: RawRow) -> str:
        column, row = self._data.source_column, raw.value or {}
        if column is None and not (isinstance(row.get("source"), str) and row["source"]):
            return raw.file.rpartition("/")[2].partition(".")[0]
        return self._column(row, column or "source") or ""

    def _row(self, raw: RawRow, outcome: Candidate | BadRow, tokens: TokenizedExample | None) -> dict[str, Any]:
        place = {"file": raw.file, "row": raw.row}
        if tokens is not None:
            outcome = nothing_learned(tokens, self._data.max_length) or outcome
        if isinstance(outcome, BadRow):
            return {**place, "reason": str(outcome.reason), "detail": outcome.detail[:MAX_DETAIL_CHARS]}
        assert tokens is not None
        supervised = tokens.learned
        return {
            **place, "key": outcome.key, "user_id": outcome.user_id, "source": outcome.source,
            "unused": outcome.unused, "way": outcome.pieces[0].way or None,
            "input_ids": tokens.input_ids, "supervised": supervised, "num_tokens": len(tokens.input_ids),
            "num_supervised_tokens": int(supervised.sum()),
            "truncated": tokens.full_length > self._data.max_length, "raw": raw.raw,
        }


def conversations_of(outcomes: Iterable[Candidate | BadRow]) -> list[Conversation | None]:
    """Return each row's conversation, None for a bad row."""
    return [outcome.conversation if isinstance(outcome, Candidate) else None for outcome in outcomes]


def nothing_learned(tokens: TokenizedExample, max_length: int) -> BadRow | None:
    """Return the reason why tokens, cut at this length, are no example; None where they are one."""
    if tokens.learned.any():
        return None
    cut = tokens.full_length > max_length
    why = f"all of the response lies beyond data.max_length={max_length}" if cut else "no response"
    return BadRow(Reason.NO_SUPERVISED_TOKEN, f"{why} ({tokens.full_length} tokens)")
