"""Rows that hold text of an evaluation's held-out questions: what is looked for, and where it is found.

A row is a leak where a text of it shares a run of 13 words with a held-out prompt, as in GPT-3's search (arXiv
2005.14165, appendix C), or holds the whole of a held-out prompt of 8 to 12 words; where its prompt is shorter than 13
words and at least half of its runs of 8 are in held-out prompts, as Tulu 3 counts (arXiv 2411.15124, section 3.2); and
where it is a held-out row itself. What many rows of a task share, such as its instruction, is cut out before: it would
make a leak of every row that is asked in the same words. Held-out answers are not looked for: solutions share phrases
("there are 60 minutes in an hour and 60 seconds in a minute") that tell nothing of a question.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from s2l_ray.rows.compared import Grams, Texts, Words, grams, words_of
from s2l_ray.rows.held_out import HeldOutRow
from s2l_ray.tables.schemas import LEAK

LONG, SHORT = 13, 8
"""Words in a run that is evidence by itself, and in one of a shorter text."""
_SHARED_WORDS = 5  # of a run that may be a part of what a task's rows share
_SHARED_ROWS, _SHARED_PART = 2, 0.01  # it is shared in more rows than that, and in more than that part of the task's
SAME_ROW = "the same row"
_RUN, _WHOLE, _HALF = 0, 1, 2
_HOW = {_RUN: f"{LONG} words in a row", _WHOLE: "a whole prompt", _HALF: f"half of its runs of {SHORT} words"}
_ROWS = pa.schema([("task", pa.string()), ("file", pa.string()), ("row", pa.int64()), ("key", pa.string())])
_GRAMS = pa.schema([("kind", pa.int8()), ("length", pa.int8()), ("hash", pa.uint64()), ("held_out", pa.int32())])


@dataclass(frozen=True)
class _Match:
    """A run of words of a row that a held-out row has too."""

    text: int
    start: int
    length: int
    held_out: int
    how: str


@dataclass(frozen=True)
class HeldOut:
    """What is looked for: the held-out rows, and hashes of their runs of words."""

    rows: pa.Table
    """task, file, row and key of each."""
    grams: pa.Table
    """kind, length in words, hash, place of the row; sorted by these, each hash of a kind and length once."""

    def find(self, texts: Sequence[Texts | None], keys: Sequence[str | None]) -> pa.Array:
        """Return the leak that each row is, LEAK; null for a row that is none.

        Parameters
        ----------
        texts
            Of each row; None where it is bad.
        keys
            Of each row, what equal conversations share.
        """
        spoken = [(row, text, is_prompt) for row, one in enumerate(texts) if one is not None
                  for is_prompt, own in ((True, one.prompt), (False, one.answer)) for text in own]
        words = words_of([text for _, text, _ in spoken])
        is_prompt_T = np.array([is_prompt for _, _, is_prompt in spoken], dtype=bool)
        known = self.rows["key"].combine_chunks()
        same = pc.index_in(pa.array(keys, pa.string()), value_set=known, skip_nulls=True).to_pylist()
        found = {row: (one, SAME_ROW, "") for row, one in enumerate(same) if one is not None}
        for match in self._matches(words, is_prompt_T):
            row = spoken[match.text][0]
            if row not in found:  # of a copy every run is a match
                shared = " ".join(words.words.slice(match.start, match.length).to_pylist())
                found[row] = (match.held_out, match.how, shared)
        owners = pa.array([one for one, _, _ in found.values()], pa.int64())
        places = self.rows.select(["task", "file", "row"]).take(owners)
        leaks = {row: {"task": place["task"], "held_out_file": place["file"], "held_out_row": place["row"], "how": how,
                       "shared": shared}
                 for (row, (_, how, shared)), place in zip(found.items(), places.to_pylist(), strict=True)}
        return pa.array([leaks.get(row) for row in range(len(texts))], LEAK)

    def _matches(self, words: Words, is_prompt_T: np.ndarray) -> Iterator[_Match]:
        """Yield what texts share with the held-out rows, the clearest kind first, and of a kind in order."""
        yield from self._hits(_RUN, LONG, grams(words, LONG))
        for length in range(SHORT, LONG):
            yield from self._hits(_WHOLE, length, grams(words, length))
        short = grams(words, SHORT)
        is_short_T = is_prompt_T & (words.lengths_T < LONG)
        is_hit_G, _ = self._look_up(_HALF, SHORT, short.hashes_G)
        num_texts = len(words.lengths_T)
        hits_T = np.bincount(short.texts_G[is_hit_G], minlength=num_texts)
        is_half_T = 2 * hits_T >= np.bincount(short.texts_G, minlength=num_texts)
        yield from self._hits(_HALF, SHORT, _some(short, (is_short_T & is_half_T)[short.texts_G]))

    def _hits(self, kind: int, length: int, own: Grams) -> Iterator[_Match]:
        is_hit_G, held_out_G = self._look_up(kind, length, own.hashes_G)
        for place in np.flatnonzero(is_hit_G).tolist():
            yield _Match(int(own.texts_G[place]), int(own.starts_G[place]), length, int(held_out_G[place]), _HOW[kind])

    def _look_up(self, kind: int, length: int, hashes_G: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return which runs held-out rows have, bool, and the place of the first such row."""
        known_K, rows_K = self._sets.get((kind, length), (np.empty(0, np.uint64), np.empty(0, np.int32)))
        if not len(known_K):
            return np.zeros(len(hashes_G), bool), np.zeros(len(hashes_G), np.int32)
        at_G = np.minimum(np.searchsorted(known_K, hashes_G), len(known_K) - 1)
        return known_K[at_G] == hashes_G, rows_K[at_G]

    @cached_property
    def _sets(self) -> dict[tuple[int, int], tuple[np.ndarray, np.ndarray]]:
        """Return the hashes of each kind and length, ascending, with the place of the first row that has each."""
        kinds, lengths, hashes, rows = (column.to_numpy() for column in self.grams.columns)
        codes = kinds.astype(np.int64) * (LONG + 1) + lengths
        starts = np.flatnonzero(np.diff(codes, prepend=-1))
        return {(int(kinds[start]), int(lengths[start])): (hashes[start:end], rows[start:end])
                for start, end in zip(starts, np.append(starts, len(codes))[1:], strict=True)}


def index_held_out(tasks: Iterable[tuple[str, Iterable[HeldOutRow]]]) -> HeldOut:
    """Return what is looked for of some tasks' rows, each task given with its name."""
    places: list[dict[str, object]] = []
    parts = [_GRAMS.empty_table()]
    for name, rows in tasks:
        own = list(rows)
        parts.append(_evidence(own, len(places)))
        places += [{"task": name, "file": row.file, "row": row.row, "key": row.key} for row in own]
    found = pa.concat_tables(parts).combine_chunks()
    order = found.sort_by([(name, "ascending") for name in found.column_names])
    kinds, lengths, hashes = (order[name].to_numpy() for name in ("kind", "length", "hash"))
    is_first = np.ones(len(hashes), dtype=bool)
    is_first[1:] = (np.diff(hashes) != 0) | (np.diff(kinds) != 0) | (np.diff(lengths) != 0)
    return HeldOut(pa.Table.from_pylist(places, schema=_ROWS), order.filter(pa.array(is_first)))


def _evidence(rows: Sequence[HeldOutRow], first: int) -> pa.Table:
    """Return the runs of words of a task's rows, whose places begin at `first`, _GRAMS."""
    words = words_of([text for row in rows for text in row.texts.prompt])
    rows_T = np.repeat(np.arange(len(rows)), [len(row.texts.prompt) for row in rows])
    pieces, texts_P = _without_shared(words, rows_T, len(rows))
    rows_P = rows_T[texts_P]
    is_all_P = np.bincount(texts_P, minlength=1)[texts_P] == 1  # that is left of a prompt
    made = [_table(_RUN, LONG, grams(pieces, LONG), rows_P + first),
            _table(_HALF, SHORT, grams(pieces, SHORT), rows_P + first)]
    for length in range(SHORT, LONG):
        whole = grams(pieces, length)
        is_whole_P = is_all_P & (pieces.lengths_T == length)
        made.append(_table(_WHOLE, length, _some(whole, is_whole_P[whole.texts_G]), rows_P + first))
    return pa.concat_tables(made)


def _table(kind: int, length: int, own: Grams, rows_P: np.ndarray) -> pa.Table:
    count = len(own.hashes_G)
    columns = [np.full(count, kind, np.int8), np.full(count, length, np.int8), own.hashes_G,
               rows_P[own.texts_G].astype(np.int32)]
    return pa.table([pa.array(column) for column in columns], schema=_GRAMS)


def _without_shared(words: Words, rows_T: np.ndarray, num_rows: int) -> tuple[Words, np.ndarray]:
    """Return what is left of texts without the runs of words that many rows have: pieces, and the text of each."""
    runs = grams(words, _SHARED_WORDS)
    counts_G = _num_rows(runs.hashes_G, rows_T[runs.texts_G])
    starts = runs.starts_G[counts_G > max(_SHARED_ROWS, _SHARED_PART * num_rows)]
    steps_W = np.zeros(len(words.hashes_W) + 1, dtype=np.int64)
    np.add.at(steps_W, starts, 1)
    np.add.at(steps_W, starts + _SHARED_WORDS, -1)
    is_kept_W, texts_W = np.cumsum(steps_W)[:-1] == 0, words.texts_W
    begins_W = is_kept_W.copy()
    begins_W[1:] &= ~is_kept_W[:-1] | (texts_W[1:] != texts_W[:-1])
    bounds = np.append(np.flatnonzero(begins_W[is_kept_W]), is_kept_W.sum())
    return Words(words.words.filter(pa.array(is_kept_W)), words.hashes_W[is_kept_W], bounds), texts_W[begins_W]


def _num_rows(hashes_G: np.ndarray, rows_G: np.ndarray) -> np.ndarray:
    """Return how many rows have each run of words, (G,) int64."""
    order = np.lexsort((rows_G, hashes_G))
    is_new = np.diff(hashes_G[order], prepend=~hashes_G[order[:1]]) != 0
    is_other_row = is_new | (np.diff(rows_G[order], prepend=-1) != 0)
    group = np.cumsum(is_new) - 1
    counts_G = np.empty(len(order), dtype=np.int64)
    counts_G[order] = np.bincount(group[is_other_row], minlength=1)[group]
    return counts_G


def _some(own: Grams, is_taken_G: np.ndarray) -> Grams:
    return Grams(own.hashes_G[is_taken_G], own.starts_G[is_taken_G], own.texts_G[is_taken_G])
