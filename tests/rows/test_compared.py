"""What rows are compared by, by hand: .venv/bin/pytest tests/rows/test_compared.py"""

import hashlib
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s2l_ray.rows.compared import Texts, grams, texts_of, words_of
from s2l_ray.rows.conversation import Conversation, Turn


def split(words):
    """The words of each text as lists."""
    bounds = words.bounds_T1.tolist()
    return [words.words.slice(start, end - start).to_pylist() for start, end in itertools.pairwise(bounds)]


@pytest.mark.parametrize(("text", "plain", "with_symbols"), [
    ("Hello,  World!", ["hello", "world"], ["hello", "world"]),
    ("don't", ["don", "t"], ["don", "t"]),
    ("3 + 4 = 7", ["3", "4", "7"], ["3", "+", "4", "=", "7"]),
    ("5-3 well-known", ["5", "3", "well", "known"], ["5", "\u2212", "3", "well", "known"]),
    ("naïve CAFÉ", ["naïve", "café"], ["naïve", "café"]),
    ("\uff21\uff11", ["a1"], ["a1"]),  # full width
    ("漢字 test", ["漢", "字", "test"], ["漢", "字", "test"]),
    ("Привет, мир", ["привет", "мир"], ["привет", "мир"]),
    ("x\ty\nz", ["x", "y", "z"], ["x", "y", "z"]),
    ("", [], []), ("...!?", [], []), ("  ", [], []),
])
def test_words(text, plain, with_symbols):
    assert split(words_of([text])) == [plain]
    assert split(words_of(["a", text, "b"])) == [["a"], plain, ["b"]]
    assert split(words_of([text], with_symbols=True)) == [with_symbols]


def test_no_text_at_all():
    words = words_of([])
    assert words.bounds_T1.tolist() == [0] and len(words.words) == 0
    assert len(grams(words, 3).hashes_G) == 0


def test_runs_of_words_stay_within_their_text():
    words = words_of(["a b c d", "a b", "", "b c d"])
    found = grams(words, 3)
    # abc and bcd of the first text, nothing of the next two, bcd of the last; words 0-3, 4-5, 6-8.
    assert found.starts_G.tolist() == [0, 1, 6] and found.texts_G.tolist() == [0, 0, 3]
    assert found.hashes_G[1] == found.hashes_G[2] != found.hashes_G[0]
    assert len(grams(words, 5).hashes_G) == 0


texts = st.lists(st.lists(st.sampled_from("abcd"), max_size=9).map(" ".join), max_size=6)


@given(texts, st.integers(1, 6))
def test_equal_runs_and_no_others_have_equal_hashes(rows, length):
    found = grams(words_of(rows), length)
    by_hand = [tuple(row.split()[i : i + length]) for row in rows for i in range(len(row.split()) - length + 1)]
    assert len(found.hashes_G) == len(by_hand)
    hashes = found.hashes_G.tolist()
    assert [hashes.index(one) for one in hashes] == [by_hand.index(one) for one in by_hand]


def test_hashes_are_the_same_everywhere():
    def by_hand(*words):
        found = len(words)
        for word in words:
            digest = hashlib.blake2b(word.encode(), digest_size=8).digest()
            found = (found * 0x9E3779B97F4A7C15 + int.from_bytes(digest, "little")) % 2**64
        return found

    assert grams(words_of(["one two three"]), 2).hashes_G.tolist() == [by_hand("one", "two"), by_hand("two", "three")]
    assert by_hand("one", "two") == 13180945236432826539


def test_answers_are_what_is_learned():
    turns = (Turn("system", "Be kind."), Turn("user", "Ask", context="about this"),
             Turn("assistant", "wrong", is_learned=False), Turn("tool", "42", name="add"),
             Turn("assistant", "right", thinking="hm", calls='[{"name": "add"}]'))
    assert texts_of(Conversation(turns)) == Texts(
        ("Be kind.", "Ask\n\nabout this", "wrong", "42"), ("right", "hm", '[{"name": "add"}]'))
