"""What rows are like, counted in a sample of them: fields, sources, lengths, scripts, what prepare would set aside."""

import itertools
import time
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from s2l_ray.modeling.examples import MAX_DETAIL_CHARS, PART, Candidate, ExampleMaker, conversations_of
from s2l_ray.modeling.models import load_tokenizer
from s2l_ray.modeling.tokenization import TokenizedExample
from s2l_ray.recipe.data import DataConfig
from s2l_ray.recipe.model import ModelConfig
from s2l_ray.rows.accounting import NARROW, settle
from s2l_ray.rows.conversation import Conversation
from s2l_ray.rows.leaks import HeldOut
from s2l_ray.rows.marks import with_marks
from s2l_ray.rows.missing import is_missing
from s2l_ray.rows.parsing import RawRow
from s2l_ray.starter.look import Look, look_into

SURVEYED_ROWS = 20_000
TOKENIZED_ROWS = 2_000
"""Rows that are looked at, and of which the tokens are counted, at most: what takes some seconds."""
MAX_LENGTHS = (512, 1024, 2048)
"""Of which a recipe's max_length is one: the smallest that holds most rows, the last where none does."""
HELD = 0.95
"""Share of the rows that a length should hold whole."""
_AT_ONCE = 500
_WIDTHS = ("FULLWIDTH", "HALFWIDTH")
_MAX_CHARS = 1_000  # of a text: its letters are no others behind them


@dataclass(frozen=True)
class Lengths:
    """Tokens of N rows before any is cut, and where in each the first learned one stands."""

    num_tokens_N: np.ndarray
    first_learned_N: np.ndarray
    """-1 where there is none."""

    @property
    def fitting(self) -> int:
        """Return the smallest of MAX_LENGTHS that holds 95 % of the rows whole, or the last of them."""
        return next((one for one in MAX_LENGTHS if self.share_longer(one) <= 1 - HELD), MAX_LENGTHS[-1])

    def share_longer(self, max_length: int) -> float:
        """Return the share of the rows that are cut at a length."""
        return float(np.mean(self.num_tokens_N > max_length)) if len(self.num_tokens_N) else 0.0

    def num_without_response(self, max_length: int) -> int:
        """Return how many rows have nothing to learn within a length."""
        return int(np.sum((self.first_learned_N < 0) | (self.first_learned_N >= max_length)))

    def means(self, max_length: int) -> tuple[float, float]:
        """Return the mean tokens of a row that is cut at a length, and of its part from the first learned one on."""
        kept_N = np.minimum(self.num_tokens_N, max_length)
        usable = (self.first_learned_N >= 0) & (self.first_learned_N < max_length)
        if not usable.any():
            return 0.0, 0.0
        return float(kept_N[usable].mean()), float((kept_N - self.first_learned_N)[usable].mean())

    def at(self, share: float) -> int:
        """Return the number of tokens that a share of the rows does not exceed."""
        return int(np.quantile(self.num_tokens_N, share, method="higher")) if len(self.num_tokens_N) else 0


@dataclass(frozen=True)
class BadRows:
    """Rows that prepare would set aside for one reason, and the first of them."""

    count: int
    file: str
    row: int
    detail: str


@dataclass(frozen=True)
class Survey:
    """What a sample of rows is like."""

    look: Look
    num_rows: int
    """Of the sample."""
    fields: Mapping[str, int]
    """Column -> number of rows in which it holds anything, as the others the most frequent first."""
    sources: Mapping[str, int]
    scripts: Mapping[str, float]
    """Unicode's name of a script -> share of the letters."""
    num_duplicates: int
    leaks: Sequence[Mapping[str, Any]] | None
    """As `accounting.Accounts` has them; None where there is no task."""
    near_duplicates: Sequence[Mapping[str, Any]] | None
    """The same; None where they are not asked for."""
    bad: Mapping[str, BadRows]
    """By reason; which rows have no response within a length, `lengths` says."""
    not_used: Mapping[str, int]
    lengths: Lengths


def survey(
    look: Look, model: ModelConfig, lengths: Lengths | None = None, held_out: HeldOut | None = None
) -> Survey:
    """Count what a sample of the rows holds, by the very functions that prepare uses, with a model's tokenizer."""
    maker = ExampleMaker(look.data, look.shape, load_tokenizer(model), None)
    fields, letters, sources = Counter[str](), Counter[str](), Counter[str]()
    rows, outcomes = [], []
    for raw in look.sample(SURVEYED_ROWS):
        fields.update(str(name) for name, value in (raw.value or {}).items() if not is_missing(value))
        for made in map(maker.candidate, maker.expand(raw)):
            if isinstance(made, Candidate):
                sources[made.source] += 1
                letters.update(itertools.chain.from_iterable(_texts(made.conversation)))
            rows.append(_narrow(raw, made))
            outcomes.append(made)
    table = pa.Table.from_pylist(rows, schema=pa.schema([PART.field(name) for name in NARROW]))
    accounts = settle([with_marks(table, conversations_of(outcomes), look.data, held_out)], look.data)
    return Survey(
        look, len(rows), dict(fields.most_common()), dict(sources.most_common()), _scripts(letters),
        accounts.num_duplicates, _listed(accounts.leaks), _listed(accounts.near_duplicates),
        _by_reason(accounts.quarantine.to_pylist()), accounts.not_used,
        lengths or measure(look, model),
    )


def _listed(table: pa.Table | None) -> list[dict[str, Any]] | None:
    found: list[dict[str, Any]] | None = None if table is None else table.to_pylist()
    return found


def measure(look: Look, model: ModelConfig) -> Lengths:
    """Count the tokens of a smaller sample of the rows."""
    longest = max(MAX_LENGTHS[-1], look.data.max_length)
    maker = ExampleMaker(look.data.model_copy(update={"max_length": longest}), look.shape, load_tokenizer(model), None)
    rows = look.sample(TOKENIZED_ROWS)
    batches = iter(lambda: list(itertools.islice(rows, _AT_ONCE)), [])
    found = [tokens for batch in batches for tokens in _tokens(maker, batch)]
    first = [int(np.argmax(tokens.learned)) if tokens.learned.any() else -1 for tokens in found]
    return Lengths(np.array([tokens.full_length for tokens in found], dtype=np.int64), np.array(first, dtype=np.int64))


def measured_tokens(data: DataConfig, model: ModelConfig, storage: str) -> tuple[float, float, float]:
    """Return the mean tokens of a row, those of its supervised part, and the tokens that one core makes in a second."""
    look = look_into(data, storage)
    load_tokenizer(model)  # before the clock runs
    started = time.perf_counter()
    lengths = measure(look, model)
    num_tokens, num_supervised = lengths.means(data.max_length)
    seconds = time.perf_counter() - started
    return num_tokens, num_supervised, len(lengths.num_tokens_N) * num_tokens / seconds


def _tokens(maker: ExampleMaker, rows: Iterable[RawRow]) -> list[TokenizedExample]:
    made = [maker.candidate(one) for row in rows for one in maker.expand(row)]
    return maker.tokenization.tokenize([one.pieces for one in made if isinstance(one, Candidate)])


def _narrow(raw: RawRow, made: Any) -> dict[str, Any]:
    place = {"file": raw.file, "row": raw.row}
    if isinstance(made, Candidate):
        way = made.pieces[0].way or None
        return {**place, "key": made.key, "user_id": made.user_id, "unused": made.unused, "way": way}
    return {**place, "reason": str(made.reason), "detail": made.detail[:MAX_DETAIL_CHARS]}


def _by_reason(quarantine: list[dict[str, Any]]) -> dict[str, BadRows]:
    counts = Counter(row["reason"] for row in quarantine)
    first = {row["reason"]: row for row in reversed(quarantine)}
    return {reason: BadRows(count, first[reason]["file"], first[reason]["row"], first[reason]["detail"])
            for reason, count in counts.most_common()}


def _texts(conversation: Conversation) -> Iterator[str]:
    for turn in conversation.turns:
        yield from (text[:_MAX_CHARS] for text in (turn.content, turn.context, turn.thinking) if text)


def _scripts(letters: Mapping[str, int]) -> dict[str, float]:
    """Return the share of each script among the letters, by the names that Unicode gives them."""
    found = Counter[str]()
    for letter, count in letters.items():
        if letter.isalpha():
            words = unicodedata.name(letter, "UNNAMED").split()
            script = words[1] if words[0] in _WIDTHS else words[0]
            found["Han" if script == "CJK" else script.capitalize()] += count
    return {script: count / found.total() for script, count in found.most_common()}
