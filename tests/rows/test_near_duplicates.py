"""Near-duplicates by MinHash, beside exact Jaccard similarities: .venv/bin/pytest tests/rows/test_near_duplicates.py"""

import itertools

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s2l_ray.errors import InputError
from s2l_ray.rows.compared import Texts
from s2l_ray.rows.near_duplicates import (
    NUM_HASHES,
    band_rows,
    check_installed,
    estimates,
    find_twins,
    least_estimate,
    num_parts,
    signatures,
)

WORDS = [f"w{n}" for n in range(5000)]


def matrix(column):
    assert column.null_count == 0
    return np.frombuffer(b"".join(column.to_pylist()), np.uint8).reshape(len(column), column.type.byte_width)


def sign(prompts, compared="prompt", answers=None):
    answers = answers or [""] * len(prompts)
    return matrix(signatures([Texts((p,), (a,)) for p, a in zip(prompts, answers, strict=True)], compared))


def jaccard(one, other, length=3):
    sets = [{tuple(text.split()[i : i + length]) for i in range(len(text.split()) - length + 1)} for text in (one, other)]
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1])


def twins(signed, threshold=0.8, parts=1):
    found = find_twins(signed, threshold, parts)
    return dict(zip(found.rows_M.tolist(), found.kept_M.tolist(), strict=True))


def random_text(rng, length):
    return " ".join(WORDS[i] for i in rng.integers(0, len(WORDS), length))


def edited(rng, text, num_edits):
    words = text.split()
    for place in rng.choice(len(words), num_edits, replace=False):
        words[place] = WORDS[rng.integers(len(WORDS))]
    return " ".join(words)


def test_estimates_are_the_jaccard_similarity_of_runs_of_three_words():
    rng = np.random.default_rng(0)
    pairs = [(text, edited(rng, text, n % 12)) for n in range(240) for text in [random_text(rng, 60)]]
    signed = sign([text for pair in pairs for text in pair])
    found = estimates(signed, np.arange(0, 480, 2), np.arange(1, 480, 2), 1)
    exact = np.array([jaccard(*pair) for pair in pairs])
    errors = found - exact
    # 128 numbers: a standard error of sqrt(J (1 - J) / 128), at most 0.044; its mean over 240 pairs a 15th of that.
    assert abs(errors.mean()) < 0.01 and errors.std() < 0.05 and np.all(found[exact == 1] == 1)


def test_prompt_and_answer_are_compared_by_themselves():
    rng = np.random.default_rng(1)
    passage, other = random_text(rng, 300), random_text(rng, 40)
    prompts = [f"{passage} who", f"{passage} when", f"{passage} who"]
    answers = [other, random_text(rng, 40), edited(rng, other, 1)]
    signed = sign(prompts, "both", answers)
    assert signed.shape == (3, 2 * NUM_HASHES)
    assert twins(signed, parts=num_parts("both")) == {2: 0}, "the same passage alone makes no twins"
    assert twins(sign(prompts, "prompt", answers)) == {1: 0, 2: 0}
    assert twins(sign(prompts, "answer", answers)) == {2: 0}


def test_short_texts_are_one_run_and_texts_without_words_none():
    found = signatures([Texts(("Hi there",), ("12",)), Texts(("hi THERE!",), ("12.",)), Texts(("Hi you",), ("12",)),
                        Texts(("?!",), ("12",)), None, Texts((), ())], "both")
    assert found.is_valid().to_pylist() == [True, True, True, False, False, False]
    assert found.type == pa.binary(2 * NUM_HASHES)
    assert twins(matrix(found.drop_null()), parts=2) == {1: 0}
    assert twins(sign(["3 + 4 = ?", "3 - 4 = ?", "3 + 4 =?"])) == {2: 0}, "operators count"


def test_a_chain_keeps_every_link_that_is_like_no_kept_one():
    # Each is like its neighbour and unlike the rest, by hand: 4 of 5 quarters of the bytes are shared with the next.
    rows = np.random.default_rng(0).integers(0, 256, (4, 100), dtype=np.uint8)
    for n in range(1, 4):
        rows[n] = rows[n - 1]
        rows[n, 15 * n : 15 * n + 15] ^= 255
    assert np.allclose(estimates(rows, np.array([0, 0]), np.array([1, 2]), 1), [0.85, 0.70], atol=0.01)
    assert twins(rows, 0.8) == {1: 0, 3: 2}


def test_a_cluster_has_one_representative_its_first_row():
    rng = np.random.default_rng(2)
    text, rest = random_text(rng, 100), [random_text(rng, 100) for _ in range(50)]
    prompts = [*rest[:25], text, *rest[25:], *[edited(rng, text, 1) for _ in range(300)]]
    assert twins(sign(prompts)) == dict.fromkeys(range(51, 351), 25)


def test_a_full_bucket_hides_no_twins():
    """Rows of one long template, alike by 0.6, share buckets by the thousand; twins among them are found all the same."""
    rng = np.random.default_rng(3)
    template = random_text(rng, 90)
    rows = [f"{template} {random_text(rng, 30)}" for _ in range(3000)]
    planted = [edited(rng, row, 1) for row in rows[::30]]
    found = twins(sign([*rows, *planted]))
    expected = {3000 + n: 30 * n for n in range(100)}
    assert sum(found.get(row) == kept for row, kept in expected.items()) >= 95
    assert len(found) <= 101


@pytest.mark.parametrize(("threshold", "edits", "length"), [(0.5, 5, 80), (0.8, 1, 80), (0.9, 1, 150)])
def test_planted_twins_are_found(threshold, edits, length):
    rng = np.random.default_rng(4)
    rows = [random_text(rng, length) for _ in range(2000)]
    planted = [edited(rng, row, edits) for row in rows[:400]]
    # What is just at the threshold is estimated below it half of the time; an edit in the middle costs three runs.
    near = [n for n in range(400) if jaccard(rows[n], planted[n]) >= threshold + 0.05]
    found = twins(sign([*rows, *planted]), threshold)
    assert len(near) > 150 and sum(found.get(2000 + n) == n for n in near) >= 0.95 * len(near)
    assert all(row >= 2000 and kept == row - 2000 for row, kept in found.items()), "strangers are no twins"


texts = st.lists(st.lists(st.sampled_from("abcde"), min_size=1, max_size=8).map(" ".join), max_size=14)


@settings(max_examples=150)
@given(texts, st.sampled_from([0.3, 0.5, 0.8, 0.95]))
def test_every_dropped_row_is_like_the_kept_row_that_stays_for_it(prompts, threshold):
    signed = sign(prompts)
    found = find_twins(signed, threshold, 1)
    dropped, kept = found.rows_M.tolist(), found.kept_M.tolist()
    assert sorted(set(dropped)) == dropped and not set(dropped) & set(kept)
    assert all(k < d for k, d in zip(kept, dropped, strict=True))
    assert np.all(found.similarities_M >= np.float32(least_estimate(threshold)))
    assert np.allclose(found.similarities_M, estimates(signed, found.kept_M, found.rows_M, 1))
    stay = [n for n in range(len(prompts)) if n not in dropped]
    same = [(a, b) for a in stay for b in stay if a < b and (signed[a] == signed[b]).all()]
    assert same == [], "of equal rows one stays"


@given(texts, st.lists(st.integers(0, 14), max_size=3))
def test_units_change_no_signature(prompts, cuts):
    rows = [Texts((text,), (text[::-1],)) for text in prompts]
    bounds = [0, *sorted(min(cut, len(rows)) for cut in cuts), len(rows)]
    parts = [signatures(rows[a:b], "both").to_pylist() for a, b in itertools.pairwise(bounds)]
    assert [one for part in parts for one in part] == signatures(rows, "both").to_pylist()


@pytest.mark.parametrize("threshold", [0.05, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.99])
@pytest.mark.parametrize("num_hashes", [128, 256])
def test_bands_find_what_is_at_the_threshold(threshold, num_hashes):
    rows = band_rows(threshold, num_hashes)
    found = 1 - (1 - threshold**rows) ** (num_hashes // rows)
    assert found >= 0.995 or rows == 1
    longer = rows + 1
    assert rows == 16 or 1 - (1 - threshold**longer) ** (num_hashes // longer) < 0.995


def test_a_pair_counts_from_a_standard_error_below_the_threshold():
    # sqrt(0.8 * 0.2 / 128) = 0.0354
    assert least_estimate(0.8) == pytest.approx(0.7646, abs=1e-4) and least_estimate(0.5) == pytest.approx(0.4558, abs=1e-4)
    rows = np.random.default_rng(0).integers(0, 256, (3, 128), dtype=np.uint8)
    rows[1], rows[2] = rows[0], rows[0]
    rows[1, :26] ^= 255  # 102 of 128 are the same: 0.796
    rows[2, 96:] ^= 255  # 96 of 128: 0.749
    assert twins(rows, 0.8) == {1: 0}


def test_a_missing_library_is_named_with_its_extra(monkeypatch):
    check_installed()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"data\.near_duplicates needs rensa.*pip install \"s2l-ray\[dedup\]\""):
        check_installed()
