"""Random sampling and its matched forms: .venv/bin/pytest tests/selectors/test_controls.py"""

import numpy as np
import pyarrow as pa
import pytest

from s2l_ray.errors import InputError
from s2l_ray.recipe.registry import SELECTORS
from s2l_ray.recipe.selection import SelectionConfig
from s2l_ray.selectors.pool import Pool


def select(name, budget, seed=0, **columns):
    count = len(next(iter(columns.values())))
    pool = Pool(pa.array([f"e{i:05d}" for i in range(count)]), **columns)
    return SELECTORS.find(name).select(pool, budget, SelectionConfig(), np.random.default_rng(seed))


@pytest.mark.parametrize(("name", "column"), [
    ("random", {"lengths_N": np.zeros(20)}),
    ("length_matched_random", {"lengths_N": np.repeat([5.0, 9.0], 10)}),
    ("stratified_random", {"sources": pa.array(["a"] * 10 + ["b"] * 10)}),
])
def test_every_example_is_as_likely_and_ranks_are_mixed(name, column):
    counts, first = np.zeros(20), np.zeros(20)
    for seed in range(1000):
        positions = select(name, 4, seed, **column).positions_B
        counts[positions] += 1
        first[positions[0]] += 1
    # 4 of 20: 200 each, deviation sqrt(1000 * .2 * .8) = 13; rank 0: 50 each, deviation sqrt(1000 / 20 * .95) = 7.
    assert np.abs(counts - 200).max() < 65 and np.abs(first - 50).max() < 35


def test_sources_keep_their_share_of_the_pool():
    # Of 70, 20 and 10 a budget of 15 is due 10.5, 3 and 1.5: whole 10 + 3 + 1, the last to the first remainder.
    sources = pa.array(["c"] * 10 + ["a"] * 70 + ["b"] * 20)
    choice = select("stratified_random", 15, sources=sources)
    chosen = sources.take(pa.array(choice.positions_B)).to_pylist()
    assert [chosen.count(name) for name in "abc"] == [11, 3, 1]
    assert choice.facts["sources"][0] == {"source": "a", "size": 70, "quota": 11}


def test_sources_must_be_there():
    with pytest.raises(InputError, match="stratified_random needs a column source"):
        select("stratified_random", 1, sources=pa.array(["a", None]))


def test_every_decile_of_lengths_keeps_its_share():
    lengths = np.random.default_rng(0).permutation(np.arange(100, dtype=np.float64))
    choice = select("length_matched_random", 20, lengths_N=lengths)
    assert np.bincount((lengths[choice.positions_B] // 10).astype(int)).tolist() == [2] * 10
    assert choice.facts["length_bins"][0] == {"shortest": 0, "longest": 9, "size": 10, "quota": 2}


def test_equal_lengths_share_a_bin():
    # 60 of length 3, 40 of 1000: two bins and not ten, so 10 are 6 and 4.
    lengths = np.repeat([3.0, 1000.0], [60, 40])
    choice = select("length_matched_random", 10, lengths_N=lengths)
    assert [entry["size"] for entry in choice.facts["length_bins"]] == [60, 40]
    assert (lengths[choice.positions_B] == 3).sum() == 6
    assert len(select("length_matched_random", 10, lengths_N=np.ones(30)).facts["length_bins"]) == 1


def test_the_mean_length_strays_less_than_in_plain_random():
    lengths = np.random.default_rng(1).lognormal(4, 1, 500)
    means = {name: [lengths[select(name, 50, seed, lengths_N=lengths).positions_B].mean() for seed in range(60)]
             for name in ("random", "length_matched_random")}
    assert np.std(means["length_matched_random"]) < 0.7 * np.std(means["random"])
    assert np.mean(means["length_matched_random"]) == pytest.approx(lengths.mean(), rel=0.05)
