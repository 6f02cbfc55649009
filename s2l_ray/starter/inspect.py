"""Rows as the model will see them, made by the very functions that prepare uses."""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from s2l_ray.modeling.examples import Candidate, ExampleMaker, nothing_learned
from s2l_ray.modeling.models import load_tokenizer
from s2l_ray.recipe.model import ModelConfig
from s2l_ray.rows.conversation import BadRow, digest
from s2l_ray.rows.parsing import RawRow
from s2l_ray.rows.shape import shape_of
from s2l_ray.starter.columns import fates
from s2l_ray.starter.look import Look
from s2l_ray.starter.survey import SURVEYED_ROWS

State = Literal["seen", "learned", "cut"]
"""Of a token: what the model reads, what it learns to say, what it never gets."""


@dataclass(frozen=True)
class Run:
    """Text of consecutive tokens of one state."""

    text: str
    state: State


@dataclass(frozen=True)
class SeenRow:
    """What became of one row."""

    file: str
    row: int
    shape: str
    """"" where the row cannot be read."""
    source: str
    columns: Sequence[tuple[str, str]]
    """(column, what it became)."""
    runs: Sequence[Run] = ()
    """The text, as far as there is one."""
    raw: str = ""
    """The row as it came, where there is no text."""
    num_tokens: int = 0
    num_learned: int = 0
    num_cut: int = 0
    reason: str = ""
    """Why prepare would set it aside, if it would."""
    detail: str = ""
    duplicate_of: tuple[str, int] | None = None
    """File and number of the row that it repeats, as far as rows were looked at."""


def inspect_rows(look: Look, model: ModelConfig, raws: Iterable[RawRow]) -> list[SeenRow]:
    """Return what becomes of rows through a model's tokenizer; a row is a duplicate of those and of a sample's."""
    maker = ExampleMaker(look.data, look.shape, load_tokenizer(model), None)
    order = {scan.name: number for number, scan in enumerate(look.scans)}
    firsts, seen = _first_places(look), []
    placed = sorted(raws, key=lambda raw: (order[raw.file], raw.row))
    pairs = [(raw, maker.candidate(one)) for raw in placed for one in maker.expand(raw)]
    for raw, made in pairs:
        here = (raw.file, raw.row)
        if isinstance(made, BadRow):
            seen.append(_bad(raw, made, look))
            continue
        first = min(firsts.get(made.key, here), here, key=lambda place: (order[place[0]], place[1]))
        firsts[made.key] = first
        seen.append(_good(raw, made, look, maker, first if first != here and look.data.drop_duplicates else None))
    return seen


def _first_places(look: Look) -> dict[str, tuple[str, int]]:
    """Return where in a sample of the rows each conversation comes first, by what equal ones share."""
    places: dict[str, tuple[str, int]] = {}
    for raw, conversation in look.conversations(SURVEYED_ROWS):
        places.setdefault(digest(conversation), (raw.file, raw.row))
    return places


def _bad(raw: RawRow, bad: BadRow, look: Look) -> SeenRow:
    shape = str(shape_of(raw.value, look.shape, look.data.columns).name) if raw.value is not None else ""
    columns = fates(raw.value, look.shape, look.data) if raw.value is not None else []
    return SeenRow(raw.file, raw.row, shape, "", columns, raw=raw.raw, reason=str(bad.reason), detail=bad.detail)


def _good(raw: RawRow, made: Candidate, look: Look, maker: ExampleMaker, first: tuple[str, int] | None) -> SeenRow:
    assert raw.value is not None
    [tokens] = maker.tokenization.tokenize([made.pieces])
    texts = maker.tokenization.spell(made.pieces)
    bad = nothing_learned(tokens, look.data.max_length)
    unseen = [name for piece in made.pieces for name in piece.unseen]
    shape = str(shape_of(raw.value, look.shape, look.data.columns).name)
    return SeenRow(
        raw.file, raw.row, shape, made.source, fates(raw.value, look.shape, look.data, unseen),
        runs=_runs(texts, tokens.learned), num_tokens=len(tokens.input_ids), num_learned=int(tokens.learned.sum()),
        num_cut=tokens.full_length - len(tokens.input_ids), reason=str(bad.reason) if bad else "",
        detail=bad.detail if bad else "", duplicate_of=first,
    )


def _runs(texts: Sequence[str], learned_T: np.ndarray) -> list[Run]:
    """Return the text in runs of one state; what lies behind the T tokens is cut."""
    states: list[State] = ["learned" if is_learned else "seen" for is_learned in learned_T.tolist()]
    states += ["cut"] * (len(texts) - len(states))
    runs = [Run("".join(text for text, _ in group), state)
            for state, group in itertools.groupby(zip(texts, states, strict=True), key=lambda pair: pair[1])]
    return [run for run in runs if run.text]
