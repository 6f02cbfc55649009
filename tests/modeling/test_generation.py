"""Answers in padded batches, greedy and sampled: .venv/bin/pytest tests/modeling/test_generation.py"""

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, GPT2Config, GPTNeoXConfig, LlamaConfig

from s2l_ray.modeling.generation import Sampling, fitted_answers, generate_answers, prompt_length
from tests.modeling.architectures import ALL, enlarged

VOCAB = 360  # the test tokenizer's: special tokens 0 to 3 (0 ends a sequence), bytes 4 to 259, merges from 260
SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32,
         "vocab_size": VOCAB, "max_position_embeddings": 64}
CONFIGS = {
    "llama": LlamaConfig(**SIZES, num_key_value_heads=1),
    "gpt_neox": GPTNeoXConfig(**SIZES),
    "gpt2": GPT2Config(n_embd=32, n_layer=2, n_head=2, vocab_size=VOCAB, n_positions=64),
}
PROMPTS = [np.arange(4, 4 + length, dtype=np.int32) * 7 % 300 + 4 for length in (1, 3, 20, 9, 30)]


@pytest.fixture(scope="module")
def counting_model():
    """Return a model whose most likely next token is the last one's id + 1."""
    model = AutoModelForCausalLM.from_config(
        LlamaConfig(hidden_size=VOCAB, num_hidden_layers=1, num_attention_heads=2, intermediate_size=4,
                    vocab_size=VOCAB, max_position_embeddings=512), dtype=torch.float32)
    with torch.no_grad():
        layer = model.model.layers[0]
        layer.self_attn.o_proj.weight.zero_()
        layer.mlp.down_proj.weight.zero_()
        model.model.embed_tokens.weight.copy_(torch.eye(VOCAB))
        model.lm_head.weight.copy_(torch.eye(VOCAB).roll(1, dims=0))
    return model.eval()


def random_model(kind):
    torch.manual_seed(3)
    model = AutoModelForCausalLM.from_config(CONFIGS[kind], dtype=torch.float32).eval()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim == 2:
                weight.mul_(10.0)  # so that no two tokens are nearly equally likely
    return model


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_padded_batch_gives_what_one_by_one_gives(tokenizer, kind):
    model = random_model(kind)
    together = generate_answers(model, tokenizer, PROMPTS, 12)
    assert together == [generate_answers(model, tokenizer, [prompt], 12)[0] for prompt in PROMPTS]
    assert len(set(together)) == len(PROMPTS)


def test_the_answer_is_the_argmax_step_by_step(tokenizer):
    model, ids = random_model("llama"), PROMPTS[2].tolist()
    for _ in range(12):
        ids.append(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax().item())
    expected = tokenizer.decode(ids[len(PROMPTS[2]) :], skip_special_tokens=True)
    assert generate_answers(model, tokenizer, [PROMPTS[2]], 12) == [expected]


def test_max_new_tokens_are_counted_from_the_end_of_the_longest_prompt(counting_model, tokenizer):
    prompts = [np.array([300]), np.array([7, 7, 7, 7, 320])]
    answers = generate_answers(counting_model, tokenizer, prompts, 5)
    assert answers == tokenizer.batch_decode([[301, 302, 303, 304, 305], [321, 322, 323, 324, 325]])


def test_an_answer_stops_at_end_of_sequence_while_others_go_on(counting_model, tokenizer):
    # 357 is followed by 358, 359 and then 0 (the ids are counted in a circle), which ends the sequence.
    answers = generate_answers(counting_model, tokenizer, [np.array([357]), np.array([300])], 20)
    assert answers == tokenizer.batch_decode([[358, 359], list(range(301, 321))])


def test_what_is_answered_leaves_the_batch(counting_model, tokenizer, monkeypatch):
    # 340 comes to 359 and the end after 20 tokens, 300 after 60; 290 is cut off at 65. Batches are looked at every 16.
    rows, forward = [], counting_model.forward
    monkeypatch.setattr(counting_model, "forward", lambda *args, input_ids, **more: rows.append(len(input_ids)) or
                        forward(*args, input_ids=input_ids, **more))
    answers = generate_answers(counting_model, tokenizer, [np.array([340]), np.array([300]), np.array([290])], 65)
    assert answers == tokenizer.batch_decode([list(range(start, end)) for start, end in ((341, 360), (301, 360), (291, 356))])
    assert rows == [3] * 32 + [2] * 32 + [1]


@pytest.mark.parametrize("kind", ALL)
def test_answers_in_stretches_are_those_without_a_memory_of_what_was_read(tokenizer, kind):
    model = enlarged(kind)
    prompts = [prompt % 128 for prompt in PROMPTS]
    found = generate_answers(model, tokenizer, prompts, 70)
    model.generation_config.use_cache = False
    assert found == generate_answers(model, tokenizer, prompts, 70)


@pytest.mark.parametrize("asked", ["auto", 1, 2, 3, 64])
def test_batches_of_like_length_give_their_answers_in_the_order_of_the_prompts(counting_model, tokenizer, asked):
    prompts = [np.full(length, 300 - length) for length in (9, 1, 5, 5, 2, 30)]
    expected = tokenizer.batch_decode([list(range(301 - len(p), 305 - len(p))) for p in prompts])
    assert fitted_answers(counting_model, tokenizer, prompts, 4, asked) == expected


def test_special_tokens_are_left_out_of_the_answer(counting_model, tokenizer):
    # 0 is followed by the special tokens 1, 2, 3 and then by the bytes "!", "\"" and "#" (4 to 6).
    assert generate_answers(counting_model, tokenizer, [np.array([0])], 6) == ['!"#']


def test_generation_settings_saved_with_a_model_do_not_bend_greedy_answers(tokenizer):
    model = random_model("llama")
    plain = generate_answers(model, tokenizer, PROMPTS, 12)
    saved = model.generation_config
    saved.do_sample, saved.temperature, saved.top_k, saved.top_p = True, 5.0, 40, 0.5
    saved.repetition_penalty, saved.no_repeat_ngram_size = 5.0, 1
    assert generate_answers(model, tokenizer, PROMPTS, 12) == plain


# --- sampled answers ---------------------------------------------------------------------------------


def test_tokens_are_drawn_as_often_as_the_model_says(tokenizer):
    # A model whose next token is one of four, with logits 0, 1, 2, 3 whatever came before.
    model = AutoModelForCausalLM.from_config(
        LlamaConfig(**{**SIZES, "hidden_size": 8, "intermediate_size": 4, "num_attention_heads": 1}), dtype=torch.float32)
    logits = torch.full((VOCAB,), -1e4)
    logits[270:274] = torch.tensor([0.0, 1.0, 2.0, 3.0])
    with torch.no_grad():  # the final norm makes a vector of ones of any, up to its sign
        model.model.embed_tokens.weight.fill_(1.0)
        model.lm_head.weight.copy_(logits[:, None].expand(-1, 8) / 8)
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
    for temperature in (1.0, 2.0):
        count, names = 4000, tokenizer.batch_decode([[270], [271], [272], [273]])
        drawn = generate_answers(model.eval(), tokenizer, [np.array([300])] * count, 1, Sampling(temperature, range(count)))
        shares = np.array([drawn.count(name) for name in names]) / count
        expected = torch.softmax(torch.arange(4.0) / temperature, dim=0).numpy()
        assert shares == pytest.approx(expected, abs=4 * np.sqrt(0.25 / count)), temperature


def test_what_else_is_in_the_batch_does_not_change_what_is_drawn(tokenizer):
    model = random_model("llama")
    with torch.no_grad():
        model.lm_head.weight.mul_(0.02)  # so that there is something to draw
    sampling = Sampling(1.0, [11, 12, 13, 14, 15])
    together = generate_answers(model, tokenizer, PROMPTS, 40, sampling)
    alone = [generate_answers(model, tokenizer, [prompt], 40, sampling.of([n]))[0] for n, prompt in enumerate(PROMPTS)]
    assert together == alone == fitted_answers(model, tokenizer, PROMPTS, 40, 2, sampling)
    again = generate_answers(model, tokenizer, [PROMPTS[2]] * 3, 40, Sampling(1.0, [13, 14, 13]))
    assert again[0] == again[2] == together[2] != again[1]


def test_at_a_temperature_near_zero_nothing_is_left_to_chance(tokenizer):
    model = random_model("llama")
    greedy = generate_answers(model, tokenizer, PROMPTS, 12)
    assert generate_answers(model, tokenizer, PROMPTS, 12, Sampling(1e-6, range(5))) == greedy


@pytest.mark.parametrize(("supervised", "expected"), [
    ("...xxx", 3), ("..xx..xx", 6), ("..xx..", 2), ("xxx", 1), (".x", 1),
])
def test_an_answer_takes_the_place_of_the_last_supervised_stretch(supervised, expected):
    assert prompt_length(np.array([place == "x" for place in supervised])) == expected
