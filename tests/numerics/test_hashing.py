"""Hashes of ids: .venv/bin/pytest tests/numerics/test_hashing.py"""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s2l_ray.numerics.hashing import hash_strings, mixed

TEXTS = st.lists(st.text(max_size=40), max_size=30)
MASK = 2**64 - 1


def hashed(text):
    """The hash of one text, in Python's own whole numbers."""

    def mix(key):
        key = (key ^ (key >> 30)) * 0xBF58476D1CE4E5B9 & MASK
        key = (key ^ (key >> 27)) * 0x94D049BB133111EB & MASK
        return key ^ (key >> 31)

    data = text.encode()
    state = mix((len(data) + 0x9E3779B97F4A7C15) & MASK)
    for place in range(0, len(data), 8):
        state = mix(state ^ int.from_bytes(data[place : place + 8], "little"))
    return state


@settings(deadline=None)
@given(TEXTS, st.sampled_from([pa.string(), pa.large_string()]))
def test_hashes_are_those_of_whole_numbers_text_by_text(texts, kind):
    assert hash_strings(pa.array(texts, kind)).tolist() == [hashed(text) for text in texts]


@settings(deadline=None)
@given(TEXTS, st.integers(0, 30), st.integers(0, 30))
def test_a_slice_hashes_as_the_texts_in_it(texts, start, length):
    whole = pa.array(texts, pa.string())
    assert hash_strings(whole.slice(start, length)).tolist() == hash_strings(whole)[start : start + length].tolist()


def test_blocks_do_not_show():
    # More than 2^15 texts take more than one block; lengths 0 to 19 reach 0, 1, 2 or 3 words.
    texts = [("x" * (i % 20)) + str(i) for i in range(70_000)]
    hashes = hash_strings(pa.array(texts))
    assert hashes[32_767:32_770].tolist() == [hashed(text) for text in texts[32_767:32_770]]
    assert len(set(hashes.tolist())) == 70_000


def test_like_ids_spread_over_all_bits():
    bits = np.unpackbits(hash_strings(pa.array([f"row-{i:08d}" for i in range(4096)])).view(np.uint8).reshape(-1, 8), axis=1)
    # Each bit is set in half of 4096 hashes, deviation sqrt(4096) / 2 = 32; and neighbours differ in 32 bits of 64.
    assert np.abs(bits.sum(axis=0, dtype=int) - 2048).max() < 5 * 32
    assert (bits[1:] != bits[:-1]).sum(axis=1).mean() == pytest.approx(32, abs=0.5)


def test_zeros_at_the_end_count():
    assert len(set(hash_strings(pa.array(["a", "a\0", "a\0\0", "", "\0", "\0" * 8, "\0" * 9])).tolist())) == 7


def test_mixing_is_one_to_one_and_known():
    # splitmix64 from seed 0: its first output is the mix of the golden number.
    assert mixed(np.array([0x9E3779B97F4A7C15], dtype=np.uint64)).tolist() == [0xE220A8397B1DCDAF]
    assert len(set(mixed(np.arange(10_000, dtype=np.uint64)).tolist())) == 10_000
