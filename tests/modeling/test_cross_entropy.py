"""The tiled cross-entropy against torch's own: .venv/bin/pytest tests/modeling/test_cross_entropy.py"""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from s2l_ray.modeling.cross_entropy import Head, SummedCrossEntropy, has_plain_head
from tests.modeling.architectures import ALL, PLAIN_HEAD, enlarged, fresh


def head_of(width, vocabulary, *, bias=False, seed=0, scale=1.0, shift=0.0):
    torch.manual_seed(seed)
    layer = nn.Linear(width, vocabulary, bias=bias)
    with torch.no_grad():
        layer.weight.mul_(scale).add_(shift)
    return layer


@settings(max_examples=25)
@given(rows=st.integers(1, 1100), vocabulary=st.integers(2, 3000), bias=st.booleans(), seed=st.integers(0, 99))
@torch.no_grad()
def test_any_number_of_tiles_gives_torch_s_own_losses(rows, vocabulary, bias, seed):
    layer = head_of(8, vocabulary, bias=bias, seed=seed, scale=20)
    hidden, targets = torch.randn(rows, 8), torch.randint(0, vocabulary, (rows,))
    expected = functional.cross_entropy(layer(hidden), targets, reduction="none")
    torch.testing.assert_close(Head.of(layer, torch.float32).token_losses(hidden, targets), expected, atol=1e-4, rtol=1e-5)


@torch.no_grad()
def test_logits_far_apart_neither_overflow_nor_vanish():
    # One hidden value h = 1 and weights 0, 1000 and -1000 over two tiles: losses 1000 - w to within exp(-1000).
    layer = head_of(1, 1026)
    layer.weight.zero_()
    layer.weight[3], layer.weight[1025] = -1000.0, 1000.0
    losses = Head.of(layer, torch.float32).token_losses(torch.ones(3, 1), torch.tensor([1025, 0, 3]))
    assert losses.tolist() == [0.0, 1000.0, 2000.0]


@torch.no_grad()
def test_equal_logits_cost_the_logarithm_of_the_vocabulary():
    layer = head_of(4, 5000, scale=0)
    losses = Head.of(layer, torch.float32).token_losses(torch.randn(2, 4), torch.tensor([0, 4999]))
    assert losses.tolist() == pytest.approx([math.log(5000)] * 2, abs=1e-5)


@torch.no_grad()
def test_in_bf16_what_all_tokens_share_costs_no_precision():
    # Every logit has some 16 x 50 = 800 in common, where bf16's steps are 4 nats; the rest is of the order of 1.
    layer = head_of(16, 2000, shift=50.0)
    hidden, targets = torch.rand(64, 16), torch.randint(0, 2000, (64,))
    exact = functional.cross_entropy(layer(hidden), targets, reduction="none")
    rough = Head.of(layer, torch.bfloat16).token_losses(hidden, targets)
    assert rough.dtype == torch.float32
    assert (rough - exact).abs().max() < 0.02


@settings(max_examples=25)
@given(rows=st.integers(1, 700), vocabulary=st.integers(2, 2500), bias=st.booleans(), seed=st.integers(0, 99))
def test_the_sum_and_its_gradients_are_torch_s_own(rows, vocabulary, bias, seed):
    ours, theirs = (head_of(8, vocabulary, bias=bias, seed=seed, scale=20) for _ in range(2))
    hidden, targets = torch.randn(rows, 8), torch.randint(0, vocabulary, (rows,))
    a, b = (hidden.clone().requires_grad_() for _ in range(2))
    made = SummedCrossEntropy.apply(a, ours.weight, ours.bias, targets, torch.float32)
    expected = functional.cross_entropy(theirs(b), targets, reduction="sum")
    torch.testing.assert_close(made, expected, atol=1e-3, rtol=1e-5)
    (made * 0.25).backward()  # whatever comes from above scales them
    (expected * 0.25).backward()
    torch.testing.assert_close(a.grad, b.grad, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(ours.weight.grad, theirs.weight.grad, atol=1e-4, rtol=1e-4)
    if bias:
        torch.testing.assert_close(ours.bias.grad, theirs.bias.grad, atol=1e-4, rtol=1e-4)


def test_gradients_by_finite_differences():
    # In double precision, so that the differences are exact enough; two tiles of the vocabulary.
    layer = head_of(2, 1030).double()
    hidden, targets = torch.randn(3, 2, dtype=torch.float64), torch.tensor([0, 1029, 5])
    hidden.requires_grad_()
    SummedCrossEntropy.apply(hidden, layer.weight, layer.bias, targets, torch.float64).backward()
    for row in range(3):
        for place in range(2):
            step = torch.zeros_like(hidden)
            step[row, place] = 1e-3
            with torch.no_grad():
                above, below = (functional.cross_entropy(layer(hidden + s), targets, reduction="sum") for s in (step, -step))
            assert hidden.grad[row, place].item() == pytest.approx(((above - below) / 2e-3).item(), abs=1e-4)


def test_in_bf16_gradients_are_close_and_frozen_parts_get_none():
    layer = head_of(64, 3000)
    layer.weight.requires_grad_(False)
    hidden, targets = torch.randn(200, 64, requires_grad=True), torch.randint(0, 3000, (200,))
    SummedCrossEntropy.apply(hidden, layer.weight, layer.bias, targets, torch.bfloat16).backward()
    (exact,) = torch.autograd.grad(functional.cross_entropy(layer(hidden), targets, reduction="sum"), hidden)
    assert layer.weight.grad is None
    assert ((hidden.grad - exact).norm() / exact.norm()).item() < 0.01


IDS, MASK = torch.arange(16).reshape(2, 8), torch.tensor([[1] * 8, [1] * 5 + [0] * 3])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", ALL)
def test_a_head_is_plain_where_nothing_is_done_to_its_logits(kind, dtype):
    # With fresh weights logits are so small that a cap of 3 changes less of them than bf16 rounds.
    for model in (fresh(kind).eval(), enlarged(kind)):
        assert has_plain_head(model.to(dtype), IDS, MASK) == (kind in PLAIN_HEAD)


def test_a_model_that_looks_at_what_is_right_of_a_token_is_not_plain():
    model = enlarged("llama")

    def seeing_all(input_ids, attention_mask=None, forward=model.model.forward, **more):
        mask = torch.zeros(2, 1, 8, 8) if attention_mask is None else attention_mask  # as models with prefixes do
        return forward(input_ids=input_ids, attention_mask=mask, **more)

    model.model.forward = seeing_all
    assert not has_plain_head(model, IDS, MASK)
