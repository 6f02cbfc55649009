"""How many examples a worker takes at once: .venv/bin/pytest tests/modeling/test_micro_batch.py"""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from s2l_ray.errors import InputError
from s2l_ray.modeling.micro_batch import after_out_of_memory, measured
from s2l_ray.recipe.model import ModelConfig
from s2l_ray.recipe.training import ProxyConfig
from tests.modeling.architectures import ALL, fresh
from tests.modeling.test_training import examples

GB = 2**30


def config(**changes):
    return ProxyConfig(**{"model": ModelConfig(path="unused"), "max_steps": 1, "global_batch_size": 128, "precision": "fp32",
                          **changes})


@given(st.integers(1, 300), st.integers(1, 300))
def test_the_largest_part_divides_and_none_between_does(whole, bound):
    part = config(global_batch_size=whole).micro_batch_up_to(bound, 1)
    assert whole % part == 0 and part <= bound
    assert all(whole % other for other in range(part + 1, min(whole, bound) + 1))


@pytest.mark.parametrize(("asked", "workers", "expected"), [
    ("auto", 1, 4), ("auto", 2, 4), ("auto", 64, 2), ("auto", 128, 1), (32, 2, 32)])
def test_without_a_measurement_auto_is_4_or_what_a_worker_has(asked, workers, expected):
    assert config(micro_batch_size=asked).unmeasured_micro_batch(workers) == expected


class Recorded:
    """A device's memory that is said to be so much for each row, on top of so much."""

    def __init__(self, fixed, each):
        self.fixed, self.each, self.rows = fixed, each, []

    def __call__(self, work, model):
        hook = model.base_model.register_forward_pre_hook(
            lambda _, args, given: self.rows.append(len(given["input_ids"])), with_kwargs=True)
        work()
        hook.remove()
        return self.fixed + self.each * self.rows[-1]


@pytest.mark.parametrize(("free", "workers", "changes", "expected"), [
    # 1 GB an example; 1 GB is kept for the head. 0.8 x (22 - 1) = 16.8.
    (22 * GB, 1, {}, 16),
    (22 * GB, 4, {}, 16),
    (22 * GB, 16, {}, 8),  # more than 128 / 16 a worker never has
    (22 * GB, 1, {"global_batch_size": 120}, 15),  # of the divisors of 120
    (2 * GB, 1, {}, 1),  # too little: the training will say so
    (10_000 * GB, 1, {}, 128),
])
def test_a_share_of_the_memory_is_filled_by_what_the_longest_examples_took(free, workers, changes, expected):
    model, device = fresh("llama"), Recorded(fixed=3 * GB, each=GB)
    found = measured(model, config(**changes), workers, examples(), lambda work: device(work, model), free)
    assert found == expected and device.rows == [1, 4]


@pytest.mark.parametrize("kind", ALL)
def test_a_trial_leaves_the_model_as_it_was(kind):
    model, device = fresh(kind), Recorded(0, GB)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    measured(model, config(precision="bf16"), 1, examples(), lambda work: device(work, model), 9 * GB)
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())
    assert all(weight.grad is None for weight in model.parameters())


def test_a_gpu_that_is_full_of_tokens_gets_no_more():
    # The longest of the examples has 19 tokens: 32,768 / 19 = 1,724 examples.
    model, device = fresh("llama"), Recorded(0, 1)
    found = measured(model, config(global_batch_size=4096), 1, examples(), lambda work: device(work, model), 10_000 * GB)
    assert found == 1024


def test_what_follows_when_memory_was_too_small():
    assert after_out_of_memory(config(), 2, 16) == 8
    assert after_out_of_memory(config(global_batch_size=120), 1, 15) == 6
    with pytest.raises(InputError, match="micro_batch_size=16: set it to 8 or to auto, or set gradient_checkpointing=true"):
        after_out_of_memory(config(micro_batch_size=16), 1, 16)
    with pytest.raises(InputError, match=r"one example at a time does not fit.*lower data.max_length"):
        after_out_of_memory(config(), 1, 1)
