"""Rows that are nearly an earlier one: signatures of each row's words, and which rows are twins by them.

MinHash (Broder 1997): of two texts' runs of three words, the share of equal numbers among 128 estimates the Jaccard
similarity. Of each number its lowest byte is kept (b-bit minwise hashing, Li and Koenig 2010): 128 bytes of a row, with
a standard error of at most 0.045. Rows count as near from one standard error below the threshold: else half of those at
the threshold would be missed. Candidates share a band of bytes (locality-sensitive hashing).
"""

import importlib.util
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from s2l_ray.errors import InputError
from s2l_ray.recipe.data import Compared
from s2l_ray.rows.compared import FACTOR, Texts, grams, words_of

SHINGLE_WORDS = 3
NUM_HASHES = 128
"""Of the prompt, and as many of the answer where both are compared."""
_SEED = 1
_RECALL = 0.995
"""Of pairs at the threshold, which share a band at least."""
_MOST_BAND_ROWS = 16
_NEAR = 4  # a row is compared with the first of its bucket, and with so many before it
_PAIRS_AT_ONCE = 2**16
_BY_CHANCE = 1 / 256  # two different numbers have the same lowest byte


@dataclass(frozen=True)
class Twins:
    """M rows that are nearly an earlier one, ascending."""

    rows_M: np.ndarray
    kept_M: np.ndarray
    """The earlier row, which is no twin of another."""
    similarities_M: np.ndarray
    """Estimated Jaccard similarity, of prompt and answer the smaller one, float32."""


def check_installed() -> None:
    """Refuse to look for near-duplicates without the library that makes signatures; InputError."""
    if importlib.util.find_spec("rensa") is None:
        raise InputError("data.near_duplicates needs rensa, which is not installed: "
                         'pip install "s2l-ray[dedup]", or set data.near_duplicates=null')


def num_parts(compared: Compared) -> int:
    """Return how many parts of a row are compared, each by itself."""
    return 2 if compared == "both" else 1


def signatures(texts: Sequence[Texts | None], compared: Compared) -> pa.Array:
    """Return the signature of each row, fixed-size binary; null where there is no text, or no word in a part of it.

    Prompt and answer are compared by themselves where both are: a long passage that several questions share makes no
    twins of them. The two signatures' bytes alternate, so that a band holds some of each.
    """
    rows = [() if one is None else getattr(one, part) for part in _PARTS[compared] for one in texts]
    lowest_PNH, has_words_PN = _minhashes(rows, num_parts(compared))
    width = NUM_HASHES * num_parts(compared)
    bytes_NH = np.moveaxis(lowest_PNH, 0, -1).reshape(len(texts), width)
    has_words_N = np.logical_and.reduce(has_words_PN)
    found = [row.tobytes() if is_there else None for row, is_there in zip(bytes_NH, has_words_N, strict=True)]
    return pa.array(found, pa.binary(width))


_PARTS = {"both": ("prompt", "answer"), "prompt": ("prompt",), "answer": ("answer",)}


def _minhashes(rows: Sequence[Sequence[str]], parts: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the lowest bytes of each row's numbers, (P, N, H) uint8, and whether it has a word, (P, N) bool."""
    from rensa import RMinHash  # the extra `dedup`

    words = words_of([text for texts in rows for text in texts], with_symbols=True)
    rows_T = np.repeat(np.arange(len(rows)), [len(texts) for texts in rows])
    whole = [grams(words, SHINGLE_WORDS)]
    hashes, texts_G = [whole[0].hashes_G], [whole[0].texts_G]
    for length in range(1, SHINGLE_WORDS):  # a shorter text is one run
        short = grams(words, length)
        is_all = words.lengths_T[short.texts_G] == length
        hashes.append(short.hashes_G[is_all])
        texts_G.append(short.texts_G[is_all])
    rows_G = rows_T[np.concatenate(texts_G)] if len(rows_T) else np.empty(0, dtype=np.int64)
    order = np.argsort(rows_G, kind="stable")
    counts = np.bincount(rows_G, minlength=len(rows))
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.uint64)
    found = RMinHash.digest_matrix_from_flat_token_hashes(
        np.ascontiguousarray(np.concatenate(hashes)[order]), offsets, NUM_HASHES, _SEED)
    lowest = (np.array(found.to_rows(), dtype=np.uint32).reshape(-1, NUM_HASHES) & np.uint32(255)).astype(np.uint8)
    return lowest.reshape(parts, -1, NUM_HASHES), (counts > 0).reshape(parts, -1)


def find_twins(signatures_NH: np.ndarray, threshold: float, parts: int) -> Twins:
    """Return the rows that are, in all parts, near an earlier row that is kept (from `least_estimate` on).

    Rows are looked at in their order: one that is no twin of a kept row is kept. So each twin is one of the row that
    stays for it, which a chain of twins would not promise.

    Parameters
    ----------
    signatures_NH
        uint8; of each row the bytes of its parts' signatures in turn.
    """
    least, length = least_estimate(threshold), band_rows(threshold, signatures_NH.shape[1])
    first_E, second_E = _edges(signatures_NH, least, length, parts)
    kept_for: dict[int, int] = {}
    starts = np.flatnonzero(np.diff(second_E, prepend=-1))
    for start, end in zip(starts, np.append(starts, len(second_E))[1:], strict=True):
        row, neighbours = int(second_E[start]), first_E[start:end].tolist()
        direct = {one for one in neighbours if one not in kept_for}
        # A neighbour that is no longer there stands for the row that stays for it, if that is near enough too.
        beyond = sorted({kept_for[one] for one in neighbours if one in kept_for} - direct)
        near = estimates(signatures_NH, np.array(beyond, np.int64), np.full(len(beyond), row), parts) >= least
        there = direct | {one for one, is_near in zip(beyond, near.tolist(), strict=True) if is_near}
        if there:
            kept_for[row] = min(there)
    rows_M = np.array(list(kept_for), dtype=np.int64)
    kept_M = np.array(list(kept_for.values()), dtype=np.int64)
    return Twins(rows_M, kept_M, estimates(signatures_NH, kept_M, rows_M, parts).astype(np.float32))


def estimates(signatures_NH: np.ndarray, first_E: np.ndarray, second_E: np.ndarray, parts: int) -> np.ndarray:
    """Return the estimated similarity of each pair of rows, of its parts the smallest, (E,) float64."""
    found = np.empty(len(first_E))
    for start in range(0, len(first_E), _PAIRS_AT_ONCE):
        own = slice(start, start + _PAIRS_AT_ONCE)
        same_EH = signatures_NH[first_E[own]] == signatures_NH[second_E[own]]
        share_E = np.min([same_EH[:, part::parts].mean(axis=1) for part in range(parts)], axis=0)
        found[own] = (share_E - _BY_CHANCE) / (1 - _BY_CHANCE)
    return found


def least_estimate(threshold: float) -> float:
    """Return the estimate from which on a pair counts: one standard error below the threshold."""
    return threshold - math.sqrt(threshold * (1 - threshold) / NUM_HASHES)


def band_rows(threshold: float, num_hashes: int) -> int:
    """Return the longest band by which pairs at the threshold are still found with `_RECALL`, 1 where none does."""
    lengths = range(_MOST_BAND_ROWS, 0, -1)
    return next((r for r in lengths if 1 - (1 - threshold**r) ** (num_hashes // r) >= _RECALL), 1)


def _edges(signatures_NH: np.ndarray, least: float, length: int, parts: int) -> tuple[np.ndarray, np.ndarray]:
    """Return pairs of rows of at least that estimate, by the second and then the first, each once."""
    num_rows, num_hashes = signatures_NH.shape
    found = [np.empty(0, dtype=np.int64)]
    for start in range(0, num_hashes - length + 1, length):
        keys_N = np.zeros(num_rows, dtype=np.uint64)
        for byte_N in signatures_NH[:, start : start + length].T:
            keys_N *= FACTOR
            keys_N += byte_N + np.uint64(1)
        for first_E, second_E in _candidates(keys_N):
            is_near = estimates(signatures_NH, first_E, second_E, parts) >= least
            found.append(np.unique(second_E[is_near] * num_rows + first_E[is_near]))
        found = [np.unique(np.concatenate(found))]
    return found[0] % max(1, num_rows), found[0] // max(1, num_rows)


def _candidates(keys_N: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield pairs of rows of one bucket, the earlier one first: linear in the rows, however full a bucket is."""
    order = np.argsort(keys_N, kind="stable")
    is_first = np.diff(keys_N[order], prepend=keys_N[order[:1]] + np.uint64(1)) != 0
    buckets = np.cumsum(is_first)
    first_N = order[np.flatnonzero(is_first)][buckets - 1]
    yield first_N[~is_first], order[~is_first]
    for apart in range(1, _NEAR + 1):
        together = np.flatnonzero(buckets[apart:] == buckets[:-apart])
        yield order[together], order[together + apart]
