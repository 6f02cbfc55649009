"""What rows are compared by: their texts as words, and runs of words as hashes, whole units at a time.

Words are runs of letters, digits and marks, in lower case and without punctuation, as in GPT-3's search for test rows
in training data (arXiv 2005.14165, appendix C). Scripts that part no words (Han, Kana, Thai, ...) give a word a letter.
Suffixes: W words, T texts, G runs of words.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from s2l_ray.rows.chat_messages import content_of
from s2l_ray.rows.conversation import Conversation

_WORD = r"\pL\pN\pM"
_UNPARTED = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
_SYMBOLS = r"\pS*/%"
_MINUS = (r"-(\s?\pN)", " \u2212 \\1")  # before a number a dash is an operator, which other dashes are not
FACTOR = np.uint64(0x9E3779B97F4A7C15)
"""By which hashes of several things in a row are made one."""


@dataclass(frozen=True)
class Texts:
    """The texts of a row, by whether they are what is asked or what is learned."""

    prompt: tuple[str, ...]
    answer: tuple[str, ...]


@dataclass(frozen=True)
class Words:
    """The words of T texts, one after another."""

    words: pa.Array
    """(W,) strings."""
    hashes_W: np.ndarray
    """Of each word, uint64."""
    bounds_T1: np.ndarray
    """Where each text begins among the words, and their number, (T + 1,) int64."""

    @property
    def lengths_T(self) -> np.ndarray:
        """Return the number of words of each text."""
        return np.diff(self.bounds_T1)

    @property
    def texts_W(self) -> np.ndarray:
        """Return the text that each word is of."""
        return np.repeat(np.arange(len(self.bounds_T1) - 1), self.lengths_T)


@dataclass(frozen=True)
class Grams:
    """Runs of so many words, none of which reaches from one text into the next."""

    hashes_G: np.ndarray
    """uint64; equal runs have equal ones, on any machine."""
    starts_G: np.ndarray
    """The first word of each."""
    texts_G: np.ndarray
    """The text that each is of, ascending."""


def texts_of(conversation: Conversation) -> Texts:
    """Return what a row says: answers that are learned, with thoughts and calls, and what stands before them."""
    prompt: list[str] = []
    answer: list[str] = []
    for turn in conversation.turns:
        is_answer = turn.role == "assistant" and turn.is_learned
        (answer if is_answer else prompt).extend(filter(None, (content_of(turn), turn.thinking, turn.calls)))
    return Texts(tuple(prompt), tuple(answer))


def words_of(texts: Sequence[str], *, with_symbols: bool = False) -> Words:
    """Return the words of texts.

    Parameters
    ----------
    with_symbols
        Whether operators, currencies and the like are words of their own: 3 + 4 and 3 - 4 are the same without.
    """
    column = pc.utf8_lower(pc.utf8_normalize(pa.array(texts, pa.large_string()), "NFKC"))
    kept = _WORD + _SYMBOLS if with_symbols else _WORD
    if with_symbols:
        column = pc.replace_substring_regex(column, pattern=_MINUS[0], replacement=_MINUS[1])
    alone = _UNPARTED + _SYMBOLS if with_symbols else _UNPARTED
    column = pc.replace_substring_regex(column, pattern=f"([{alone}])", replacement=r" \1 ")
    column = pc.replace_substring_regex(column, pattern=f"[^{kept}]+", replacement=" ")
    pieces = pc.split_pattern(pc.utf8_trim(column, characters=" "), pattern=" ")
    values, counts_T = pieces.flatten(), pieces.value_lengths().to_numpy(zero_copy_only=False).astype(np.int64)
    is_word = pc.not_equal(values, "").to_numpy(zero_copy_only=False)
    if not is_word.all():  # a text without words is split into one empty piece
        counts_T = np.where(pc.equal(pc.list_element(pieces, 0), "").to_numpy(zero_copy_only=False), 0, counts_T)
        values = values.filter(pa.array(is_word))
    return Words(values, _hashes(values), np.concatenate([[0], np.cumsum(counts_T)]))


def _hashes(words: pa.Array) -> np.ndarray:
    """Return a hash of each word, each different one hashed once."""
    encoded = words.dictionary_encode()
    digests = [hashlib.blake2b(word.encode(), digest_size=8).digest() for word in encoded.dictionary.to_pylist()]
    return np.frombuffer(b"".join(digests), dtype="<u8").astype(np.uint64)[encoded.indices.to_numpy()]


def grams(words: Words, length: int) -> Grams:
    """Return every run of `length` words, in order of texts and places."""
    counts_T = np.maximum(words.lengths_T - length + 1, 0)
    texts_G = np.repeat(np.arange(len(counts_T)), counts_T)
    starts_G = np.arange(len(texts_G)) + np.repeat(words.bounds_T1[:-1] - np.cumsum(counts_T) + counts_T, counts_T)
    rolled = np.full(max(0, len(words.hashes_W) - length + 1), length, dtype=np.uint64)
    for place in range(length):
        rolled *= FACTOR
        rolled += words.hashes_W[place : place + len(rolled)]
    return Grams(rolled[starts_G], starts_G, texts_G)
