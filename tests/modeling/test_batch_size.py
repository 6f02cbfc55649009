"""Tokens of a scoring batch: .venv/bin/pytest tests/modeling/test_batch_size.py"""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from s2l_ray.modeling.batch_size import BatchSize, tokens_that_fit

CPU, GIB = torch.device("cpu"), 1 << 30


def trial(tokens):
    pytest.fail("a trial on a CPU")


def test_a_trial_says_how_many_tokens_the_free_memory_holds():
    # 8192 tokens took 1 GiB, 128 KiB each; 60 % of 10 GiB hold 49,152 of them: 32,768 is the power of two below.
    assert tokens_that_fit(10 * GIB, GIB, 8192) == 32_768
    assert tokens_that_fit(80 * GIB, GIB, 8192) == 131_072, "more gains nothing"
    assert tokens_that_fit(GIB // 2, GIB, 8192) == 8192, "less than on CPUs is left to what happens out of memory"


@given(st.integers(1, 1 << 40), st.integers(0, 1 << 40), st.integers(1, 1 << 20))
def test_what_fits_is_a_power_of_two_within_bounds_and_within_the_share(free, used, num_tokens):
    tokens = tokens_that_fit(free, used, num_tokens)
    assert tokens & (tokens - 1) == 0 and 8192 <= tokens <= 131_072
    assert tokens == 8192 or tokens * max(used / num_tokens, 1.0) <= 0.6 * free


@pytest.mark.parametrize(("asked", "tokens"), [("auto", 8192), (300, 300)])
def test_on_cpus_nothing_is_tried(asked, tokens):
    size = BatchSize(asked, CPU)
    assert size.run(lambda tokens: tokens, trial) == tokens == size.tokens


def test_out_of_memory_halves_the_batches_for_good_and_says_so(caplog):
    size, tried = BatchSize(8192, CPU), []

    def work(tokens):
        tried.append(tokens)
        if tokens > 3000:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return "done"

    assert [size.run(work, trial), size.run(work, trial)] == ["done", "done"]
    assert tried == [8192, 4096, 2048, 2048]
    assert "going on with batches of 2048 tokens" in caplog.text


def test_one_example_that_does_not_fit_is_said_with_the_remedy():
    def work(tokens):
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(RuntimeError, match=r"one example alone does not fit into the memory of cpu: lower data\.max_length"):
        BatchSize(8192, CPU).run(work, trial)
