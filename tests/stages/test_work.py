"""What a training holds and does, by hand: 100 weights of which 10 are trained where there are adapters."""

from types import SimpleNamespace

import pytest

from s2l_ray.modeling.size import ModelSize
from s2l_ray.recipe.lora import LoraConfig
from s2l_ray.recipe.model import ModelConfig
from s2l_ray.recipe.training import ProxyConfig, TargetConfig
from s2l_ray.stages.work import Pool, Sizes, activation_bytes, scoring_work, state_bytes, training_work

SIZE = ModelSize(weights=100, active=60, head=20, adapters=0, layers=2, width=4)
ADAPTED = ModelSize(weights=100, active=60, head=20, adapters=10, layers=2, width=4)
MODEL = ModelConfig(path="somewhere")


def target(**fields):
    return TargetConfig(model=MODEL, max_steps=5, global_batch_size=8, **fields)


@pytest.mark.parametrize(("stage", "precision", "bytes_a_weight"), [
    (0, "fp32", 4 + 4 + 8), (1, "fp32", 4 + 4 + 8 / 4), (2, "fp32", 4 + 4 / 4 + 8 / 4), (3, "fp32", 16 / 4),
    (0, "bf16", 2 + 2 + 12), (1, "bf16", 2 + 2 + 12 / 4), (2, "bf16", 2 + 2 / 4 + 12 / 4), (3, "bf16", 16 / 4),
])
def test_zero_shares_out_what_its_stage_says_over_four_workers(stage, precision, bytes_a_weight):
    assert state_bytes(target(zero_stage=stage), SIZE, 4, precision) == 100 * bytes_a_weight


def test_ddp_holds_fp32_and_a_copy_of_the_gradients_where_there_are_workers_to_reduce_with():
    config = ProxyConfig(model=MODEL, max_steps=5)
    assert state_bytes(config, SIZE, 1, "bf16") == 100 * (4 + 4 + 8)
    assert state_bytes(config, SIZE, 2, "bf16") == 100 * (4 + 8 + 8)


@pytest.mark.parametrize(("quantize", "precision", "frozen"), [(None, "fp32", 4), (None, "bf16", 2), ("int8", "bf16", 1.05),
                                                               ("nf4", "bf16", 0.55)])
def test_frozen_weights_have_neither_gradients_nor_moments(quantize, precision, frozen):
    config = target(lora=LoraConfig(), quantize=quantize)
    trained = 16 if precision == "fp32" else 2 + 2 + 12
    assert state_bytes(config, ADAPTED, 1, precision) == pytest.approx(10 * trained + 100 * frozen)


def test_activations_grow_with_the_tokens_and_recomputing_keeps_one_layer_whole():
    assert activation_bytes(target(), SIZE, 10, "bf16") == 10 * 4 * 2 * 34
    assert activation_bytes(target(), SIZE, 10, "fp32") == 2 * 10 * 4 * 2 * 34
    assert activation_bytes(target(gradient_checkpointing=True), SIZE, 10, "bf16") == 10 * 4 * (2 * 2 + 34)


def sizes(**fields):
    resources = SimpleNamespace(use_gpu=False, min_workers=2)
    recipe = SimpleNamespace(resources=resources, data=SimpleNamespace(max_length=16))
    return Sizes(recipe, "fp32", {None: Pool(40, 10, 4)}, {"proxy.model": SIZE, **fields})


def test_a_training_of_five_steps_of_eight_examples():
    found = training_work(sizes(), "target.model", target(micro_batch_size=2), Pool(40, 10, 4), 5)
    forward = 400 * (2 * 60 + 2 * 2 * 4 * 10) + 2 * 160 * 20  # 5 * 8 examples of 10 tokens, 4 of them supervised
    assert (found.tokens, found.steps, found.operations) == (400, 5, 3 * forward)
    assert found.bytes == 100 * 16 + 2 * (2 * 16) * 4 * 2 * 34  # weights; two rows of 16 tokens in fp32


def test_a_scoring_goes_once_through_the_pool_for_each_point():
    one, three = (scoring_work(sizes(), "proxy.model", Pool(40, 10, 4), passes, "auto") for passes in (1, 3))
    assert (one.tokens, three.tokens) == (400, 1200)
    assert three.operations == 3 * one.operations
    assert one.precision == "fp32" and one.bytes > 4 * 100
