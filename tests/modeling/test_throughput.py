"""Speeds and what they are held against: .venv/bin/pytest tests/modeling/test_throughput.py"""

import pytest
import torch
from transformers import AutoModelForCausalLM, GPT2Config, GPTNeoXConfig

from s2l_ray.modeling import throughput
from s2l_ray.modeling.speed import throughput_facts
from s2l_ray.modeling.throughput import has_fast_bf16, matmul_rate, scoring_operations

SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32, "vocab_size": 100}


def test_fast_bf16_is_what_the_cpu_says():
    capabilities = throughput.torch.cpu.get_capabilities()
    assert has_fast_bf16() is bool(capabilities.get("amx_bf16") or capabilities.get("avx512_bf16"))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_rate_is_one_that_a_machine_can_have(precision):
    # From 0.1 to 10^6 GFLOP/s; the same machine twice within a factor of 20, however busy it is.
    first, second = (matmul_rate(torch.device("cpu"), precision) for _ in range(2))
    assert 1e8 < first < 1e15 and 1 / 20 < first / second < 20


def test_operations_are_two_for_each_weight_that_a_token_meets():
    model = AutoModelForCausalLM.from_config(GPTNeoXConfig(**SIZES))
    # A layer: query, key and value 16 x 48 + 48, output 16 x 16 + 16, up 16 x 32 + 32, down 32 x 16 + 16, two norms of
    # 2 x 16: 816 + 272 + 544 + 528 + 64 = 2224. Two layers and the last norm of 32: 4480. The head: 16 x 100 = 1600.
    assert scoring_operations(model, 10, 0) == 2 * 4480 * 10
    assert scoring_operations(model, 10, 3) == 2 * (4480 * 10 + 1600 * 3)


def test_a_tied_head_is_counted_where_it_is_multiplied_not_where_it_is_looked_up():
    model = AutoModelForCausalLM.from_config(GPT2Config(n_embd=8, n_layer=1, n_head=1, vocab_size=50, n_positions=4))
    before = scoring_operations(model, 1, 0)
    assert scoring_operations(model, 1, 1) - before == 2 * 8 * 50


def test_the_account_of_a_pass():
    # 300 tokens of 400 with padding in 2 s of wall clock; 30 and 10 operations at peaks of 30 and 20 a second are 1 s
    # and 0.5 s of work, in 3 s of scoring.
    shards = [
        {"num_tokens": 100, "num_padded_tokens": 150, "operations": 30, "model_s": 2.0, "peak_rate": 30.0,
         "batch_tokens": 8192},
        {"num_tokens": 200, "num_padded_tokens": 250, "operations": 10, "model_s": 1.0, "peak_rate": 20.0,
         "batch_tokens": 4096},
    ]
    assert throughput_facts(shards, 2.0) == {
        "num_tokens_scored": 300, "tokens_per_s": 150.0, "model_s": 3.0, "padding_share": 0.25, "peak_share": 0.5,
        "batch_tokens": 4096,  # the device ran out of memory in between
    }
    assert throughput_facts([], 1.0) == {"num_tokens_scored": 0}
