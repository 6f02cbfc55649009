"""Example losses against the model's own, one by one: .venv/bin/pytest tests/modeling/test_losses.py"""

import dataclasses

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from transformers import AutoModelForCausalLM, GPT2Config

from s2l_ray.modeling import losses as engine
from s2l_ray.modeling.batching import IGNORED, collate
from s2l_ray.modeling.cross_entropy import Head
from s2l_ray.modeling.losses import LossScorer, table_losses
from tests.modeling.architectures import ALL, PLAIN_HEAD, VOCAB, enlarged, fresh


@pytest.fixture(scope="module")
def models():
    """Return a model of each family."""
    return {kind: enlarged(kind) for kind in ALL}


def example(length, supervised, seed=0):
    """Random ids, and a mask with these positions, or with the last so many."""
    ids = np.random.default_rng(seed).integers(0, VOCAB, length).astype(np.int32)
    mask = np.zeros(length, dtype=bool)
    mask[supervised if isinstance(supervised, list) else slice(length - supervised, None)] = True
    return ids, mask


def batch_of(examples):
    return collate([ids for ids, _ in examples], [mask for _, mask in examples], pad_id=0)


@torch.no_grad()
def own_loss(model, item):
    """What the paper's authors record: the model's own loss of one example without padding."""
    alone = batch_of([item])
    return model(input_ids=alone.input_ids, labels=alone.labels).loss.item()


MIXED = [
    example(2, 1, seed=1),  # the shortest that has a loss
    example(2, 2, seed=2),  # its first token is never predicted
    example(3, [1], seed=3),  # one supervised token, not the last
    example(17, 17, seed=4),  # all supervised
    example(40, [5, 6, 7, 30, 31], seed=5),  # two answers of one conversation
    example(200, 1, seed=6),
    example(512, 300, seed=7),  # as long as the positions go
]


@pytest.mark.parametrize("kind", ALL)
def test_losses_of_a_mixed_batch_are_the_model_s_own_one_by_one(models, kind):
    scorer = LossScorer(models[kind])
    losses = scorer.example_losses(batch_of(MIXED))
    assert (losses.dtype, losses.shape) == (torch.float32, (len(MIXED),))
    assert losses.tolist() == pytest.approx([own_loss(models[kind], item) for item in MIXED], abs=1e-5)
    assert max(losses) - min(losses) > 0.1  # the models tell examples apart, so equality says something


@pytest.mark.parametrize("kind", ALL)
def test_an_example_s_loss_does_not_depend_on_its_neighbours(models, kind):
    scorer = LossScorer(models[kind])
    item = MIXED[4]
    alone = scorer.example_losses(batch_of([item])).item()
    for neighbours in (MIXED[:2], MIXED[3:4], MIXED[6:], [item, item]):
        together = scorer.example_losses(batch_of([*neighbours, item]))
        assert together[-1].item() == pytest.approx(alone, abs=1e-5)


@pytest.mark.parametrize("kind", ALL)
def test_the_first_batch_does_not_decide_what_later_ones_give(models, kind):
    # Whether the head is a plain projection is found out on the first batch, here of two tokens.
    scorer = LossScorer(models[kind])
    for item in (MIXED[0], MIXED[6], MIXED[3]):
        assert scorer.example_losses(batch_of([item])).item() == pytest.approx(own_loss(models[kind], item), abs=1e-5)


@given(st.lists(st.tuples(st.integers(2, 60), st.integers(0, 2**60 - 1), st.integers(0, 99)), min_size=1, max_size=6))
@settings(max_examples=25, deadline=None)
def test_any_masks_and_lengths_give_the_model_s_own_losses(models, rows):
    # The bits of the second number are the mask; the last token is supervised in any case.
    items = [
        example(length, [i for i in range(length) if bits >> i & 1] + [length - 1], seed) for length, bits, seed in rows
    ]
    losses = LossScorer(models["gpt_neox"]).example_losses(batch_of(items))
    assert losses.tolist() == pytest.approx([own_loss(models["gpt_neox"], item) for item in items], abs=1e-5)


def test_the_loss_of_a_model_whose_probabilities_are_known():
    # Zero weights give equal logits, so each of 128 tokens costs ln 128 = 4.852030 nats, whatever the mask.
    model = fresh("llama")
    for weight in model.parameters():
        nn.init.zeros_(weight)
    losses = LossScorer(model).example_losses(batch_of(MIXED))
    assert losses.tolist() == pytest.approx([4.852030] * len(MIXED), abs=1e-5)


@pytest.mark.parametrize("kind", PLAIN_HEAD)
def test_a_plain_head_runs_on_the_supervised_positions_only(models, kind, monkeypatch):
    scorer, seen, own = LossScorer(models[kind]), [], []
    scorer.example_losses(batch_of(MIXED[:1]))
    compute = Head.token_losses
    monkeypatch.setattr(Head, "token_losses", lambda *args: seen.append(args[1].shape[0]) or compute(*args))
    hook = models[kind].get_output_embeddings().register_forward_hook(lambda head, args, out: own.append(out.shape))
    scorer.example_losses(batch_of(MIXED))
    hook.remove()
    # Predicted tokens of MIXED: 1 + 1 + 1 + 16 + 5 + 1 + 300 = 325, of 7 x 512 positions.
    assert seen == [325] and own == []


def test_dropout_is_off_and_no_gradient_is_kept():
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(GPT2Config(n_embd=16, n_layer=1, n_head=2, vocab_size=VOCAB)).train()
    scorer = LossScorer(model)
    first, second = (scorer.example_losses(batch_of(MIXED[:4])) for _ in range(2))
    assert torch.equal(first, second)
    assert not first.requires_grad


@pytest.mark.parametrize("kind", ALL)
def test_bf16_is_close_to_fp32(kind):
    model = fresh(kind)
    exact, rough = (LossScorer(model, precision).example_losses(batch_of(MIXED)) for precision in ("fp32", "bf16"))
    assert rough.dtype == torch.float32
    assert rough.tolist() == pytest.approx(exact.tolist(), abs=0.05)
    assert not torch.equal(rough, exact)


@pytest.mark.parametrize("kind", ALL)
def test_all_weights_in_bf16_as_on_a_gpu_are_close_to_fp32(kind, monkeypatch):
    monkeypatch.setattr(engine, "_ALL_WEIGHTS_IN_BF16", ("cpu",))
    model = fresh(kind)
    exact = LossScorer(model).example_losses(batch_of(MIXED))
    buffers = {name: buffer.dtype for name, buffer in model.named_buffers()}
    rough = LossScorer(model, "bf16").example_losses(batch_of(MIXED))
    assert rough.tolist() == pytest.approx(exact.tolist(), abs=0.05) and not torch.equal(rough, exact)
    body = {weight.dtype for weight in model.base_model.parameters()}
    assert body == ({torch.bfloat16} if kind in PLAIN_HEAD else {torch.bfloat16, torch.float32})
    assert {name: buffer.dtype for name, buffer in model.named_buffers()} == buffers, "positions keep their precision"


def test_a_table_s_losses_do_not_depend_on_the_batches_nor_on_what_lengths_are_padded_to(models, monkeypatch):
    items = [*MIXED, *(example(length, 1, seed=length) for length in range(2, 60, 7))]
    table = pa.table({"input_ids": [ids for ids, _ in items], "supervised": [mask for _, mask in items]})
    scorers = [LossScorer(models[kind]) for kind in ("llama", "gpt2")]
    expected = [[own_loss(models[kind], item) for kind in ("llama", "gpt2")] for item in items]
    for multiple, batch_tokens in ((1, 8192), (1, 1), (64, 2048), (16, 600)):
        monkeypatch.setattr(engine, "padding_multiple", lambda device, multiple=multiple: multiple)
        found_NC = table_losses(scorers, table, batch_tokens)
        assert found_NC.dtype == np.float32
        np.testing.assert_allclose(found_NC, expected, atol=1e-5)


@pytest.mark.parametrize("kind", ["llama", "gemma2"])
@pytest.mark.parametrize("supervised", [[], [0]])
def test_an_example_without_a_supervised_token_is_an_error_of_ours(models, kind, supervised):
    # The first token is predicted from nothing, so a mask of it alone is empty too.
    batch = batch_of([MIXED[3], example(5, supervised)])
    with pytest.raises(AssertionError, match="without a supervised token"):
        LossScorer(models[kind]).example_losses(batch)


def test_padding_ids_do_not_matter(models):
    scorer = LossScorer(models["gpt2"])
    batch = batch_of(MIXED)
    filled = dataclasses.replace(batch, input_ids=torch.where(batch.attention_mask == 1, batch.input_ids, 99))
    assert (filled.labels == IGNORED).sum() == (batch.labels == IGNORED).sum()
    torch.testing.assert_close(scorer.example_losses(filled), scorer.example_losses(batch), atol=1e-6, rtol=0)
