"""Several examples in a row against each for itself: .venv/bin/pytest tests/modeling/test_packing.py"""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional
from transformers import AutoConfig, AutoModelForCausalLM

from s2l_ray.modeling.batching import IGNORED, collate
from s2l_ray.modeling.packing import keeps_apart, pack, rows_of
from tests.modeling.architectures import ALL, VOCAB, enlarged


def examples(lengths, seed=0):
    rng = np.random.default_rng(seed)
    ids = [rng.integers(3, VOCAB, length) for length in lengths]
    return ids, [rng.random(length) < 0.6 for length in lengths]


def test_rows_are_filled_the_longest_first():
    # 9 alone fills a row of 9; 5 and 4 share one; 3 and 3 and 3 the next; 1 goes where there is room first: nowhere
    # until a new row.
    assert rows_of([3, 9, 4, 3, 5, 3, 1]) == [[1], [4, 2], [0, 3, 5], [6]]


@given(st.lists(st.integers(1, 40), min_size=1, max_size=60))
def test_every_example_is_in_one_row_and_none_is_too_long(lengths):
    rows = rows_of(lengths)
    assert sorted(number for row in rows for number in row) == list(range(len(lengths)))
    assert all(sum(lengths[number] for number in row) <= max(lengths) for row in rows)
    halves = [sum(lengths[number] for number in row) * 2 <= max(lengths) for row in rows]
    assert sum(halves) <= 1, "two rows that are half empty would have been one"


@given(st.lists(st.integers(1, 30), min_size=1, max_size=12), st.sampled_from([1, 8]), st.integers(0, 99))
def test_the_tokens_that_are_learned_are_those_of_padded_rows(lengths, multiple, seed):
    ids, masks = examples(lengths, seed)
    padded, (packed, places) = collate(ids, masks, 0), pack(ids, masks, 0, multiple)
    learned = [sorted(batch.labels[rows, columns + 1].tolist()) for batch, (rows, columns)
               in ((padded, padded.positions_2P), (packed, packed.positions_2P))]
    assert learned[0] == learned[1]
    assert int((packed.labels[:, 1:] != IGNORED).sum()) == int((padded.labels[:, 1:] != IGNORED).sum())
    assert packed.attention_mask.sum() == sum(lengths) and packed.input_ids.shape[1] % multiple == 0
    starts = int((places == 0).sum())
    assert starts - len(lengths) <= len(packed.input_ids), "each example starts at 0, and so does what is left of a row"


def gradients(model, batch, **inputs):
    """Return the mean loss of the learned tokens, and its gradients in one vector."""
    model.zero_grad()
    rows, columns = batch.positions_2P
    logits = model(input_ids=batch.input_ids, use_cache=False, **inputs).logits[rows, columns]
    loss = functional.cross_entropy(logits, batch.labels[rows, columns + 1])
    loss.backward()
    return loss.item(), torch.cat([weight.grad.flatten() for weight in model.parameters() if weight.grad is not None])


@pytest.mark.parametrize("kind", ALL)
def test_packed_rows_have_the_loss_and_gradients_of_padded_ones(kind):
    ids, masks = examples([100, 40, 30, 29, 20, 9, 5, 2, 2])
    model = enlarged(kind)
    padded, (packed, places) = collate(ids, masks, 0), pack(ids, masks, 0, multiple=8)
    assert (len(padded.input_ids), len(packed.input_ids)) == (9, 3), "100; 40 30 29 and 5 less; the rest"
    theirs, their_slopes = gradients(model, padded, attention_mask=padded.attention_mask)
    ours, our_slopes = gradients(model, packed, position_ids=places)
    assert ours == pytest.approx(theirs, abs=1e-5)
    assert (our_slopes - their_slopes).norm() / their_slopes.norm() < 1e-4


def apart(model):
    return keeps_apart(lambda ids, places: model(input_ids=ids, position_ids=places, use_cache=False).logits)


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("attention", [None, "eager"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_these_families_keep_examples_apart(kind, attention, dtype):
    model = enlarged(kind).to(dtype)
    if attention is not None:
        model.set_attn_implementation(attention)
    assert apart(model)


def test_a_model_that_mixes_them_is_found_out():
    # A state goes on from example to example whatever the positions say.
    torch.manual_seed(0)
    config = AutoConfig.for_model("mamba", hidden_size=16, num_hidden_layers=1, vocab_size=VOCAB, state_size=4)
    recurrent = AutoModelForCausalLM.from_config(config).eval()
    assert not keeps_apart(lambda ids, places: recurrent(input_ids=ids).logits)
    # And one whose positions are not heeded, as by flash attention of more than one row.
    llama = enlarged("llama")
    assert not keeps_apart(lambda ids, places: llama(input_ids=ids, use_cache=False).logits)
