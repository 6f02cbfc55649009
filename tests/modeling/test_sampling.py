"""The order of training examples: .venv/bin/pytest tests/modeling/test_sampling.py"""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from s2l_ray.modeling.batching import blank_of
from s2l_ray.modeling.sampling import StepSampler

LENGTHS = st.lists(st.integers(1, 50), min_size=1, max_size=60).map(np.array)


@given(LENGTHS, st.integers(1, 20), st.integers(0, 9))
def test_an_epoch_is_every_example_once_and_steps_descend_in_length(lengths_N, size, seed):
    order = list(StepSampler(lengths_N, size, seed))
    assert sorted(order) == list(range(len(lengths_N)))
    for start in range(0, len(order), size):
        step = lengths_N[order[start : start + size]]
        assert (np.diff(step) <= 0).all()


@given(LENGTHS, st.integers(1, 20), st.integers(0, 9))
def test_a_step_holds_what_plain_shuffling_gives_it(lengths_N, size, seed):
    # With equal lengths the stable order is the shuffle itself: lengths move examples within a step only.
    order, plain = list(StepSampler(lengths_N, size, seed)), list(StepSampler(np.ones_like(lengths_N), size, seed))
    for start in range(0, len(order), size):
        assert set(order[start : start + size]) == set(plain[start : start + size])


@given(LENGTHS, st.integers(1, 20), st.integers(0, 9))
def test_an_order_that_is_kept_gives_each_epoch_the_same_steps(lengths_N, size, seed):
    sampler = StepSampler(lengths_N, size, seed, shuffles=False)
    first = list(sampler)
    sampler.set_epoch(1)
    assert list(sampler) == first
    for start in range(0, len(first), size):
        assert set(first[start : start + size]) == set(range(start, min(start + size, len(first))))


def test_epochs_differ_and_each_comes_again():
    sampler = StepSampler(np.ones(30, dtype=np.int64), 4, seed=1)
    first = list(sampler)
    sampler.set_epoch(1)
    second = list(sampler)
    sampler.set_epoch(0)
    assert list(sampler) == first != second
    assert list(StepSampler(np.ones(30, dtype=np.int64), 4, seed=2)) != first


@given(LENGTHS, st.integers(1, 5), st.integers(1, 4), st.integers(0, 9))
def test_blanks_fill_what_is_left_of_an_epoch_and_change_no_step(lengths_N, at_once, times, seed):
    plain, filled = StepSampler(lengths_N, at_once * times, seed), StepSampler(lengths_N, at_once * times, seed, at_once)
    order = list(filled)
    assert order[: len(lengths_N)] == list(plain) and len(order) == len(filled)
    assert len(order) % at_once == 0 and len(order) - len(lengths_N) < at_once
    assert filled.steps_per_epoch == plain.steps_per_epoch
    assert set(order[len(lengths_N) :]) <= {blank_of(list(plain)[-1])}
