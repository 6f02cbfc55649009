"""64-bit hashes of strings, whole columns at a time."""

import numpy as np
import pyarrow as pa

_BLOCK_ROWS = 2**15  # with its words it stays in the processor's cache
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_LEADING_BYTES = np.array([(1 << 8 * count) - 1 for count in range(9)], dtype=np.uint64)


def mixed(keys_N: np.ndarray) -> np.ndarray:
    """Spread the bits of 64-bit keys, one-to-one (splitmix64's last steps)."""
    keys_N = (keys_N ^ (keys_N >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    keys_N = (keys_N ^ (keys_N >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return keys_N ^ (keys_N >> np.uint64(31))


def hash_strings(strings: pa.Array) -> np.ndarray:
    """Return a hash of each string's bytes, (N,) uint64; it depends on nothing but them, on any machine.

    h_0 = mix(length), h_(i+1) = mix(h_i xor word i), words of 8 bytes, little-endian, the last one filled with zeros.
    Not for secrets: whoever chooses the strings can make them collide.

    Parameters
    ----------
    strings : string or large_string array without nulls
    """
    assert strings.null_count == 0 and strings.type in (pa.string(), pa.large_string()), strings.type
    hashes_N = np.empty(len(strings), dtype=np.uint64)
    _, offsets, data = strings.buffers()
    if len(strings) == 0:
        return hashes_N
    kind = np.int64 if strings.type == pa.large_string() else np.int32
    bounds = np.frombuffer(offsets, kind)[strings.offset : strings.offset + len(strings) + 1].astype(np.int64)
    text = np.frombuffer(data or b"", np.uint8)
    for start in range(0, len(strings), _BLOCK_ROWS):
        own = bounds[start : start + _BLOCK_ROWS + 1]
        block = np.zeros(own[-1] - own[0] + 8, dtype=np.uint8)  # the last word may reach 7 bytes beyond the text
        block[:-8] = text[own[0] : own[-1]]
        hashes_N[start : start + _BLOCK_ROWS] = _hash_block(block, own[:-1] - own[0], np.diff(own))
    return hashes_N


def _hash_block(text: np.ndarray, starts_B: np.ndarray, lengths_B: np.ndarray) -> np.ndarray:
    """Return the hashes of strings that lie in one padded text."""
    words: np.ndarray = np.ndarray(len(text) - 7, dtype="<u8", buffer=text, strides=(1,))  # the word at every byte
    hashes_B = mixed(lengths_B.astype(np.uint64) + _GOLDEN)
    active = np.arange(len(lengths_B))
    for place in range(0, int(lengths_B.max()), 8):
        active = active[lengths_B[active] > place]
        word = words[starts_B[active] + place] & _LEADING_BYTES[np.minimum(lengths_B[active] - place, 8)]
        hashes_B[active] = mixed(hashes_B[active] ^ word)
    return hashes_B
