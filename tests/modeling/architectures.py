"""Tiny models of the families that people fine-tune, one list for all tests; weights are enlarged, not trained."""

import torch
from transformers import AutoConfig, AutoModelForCausalLM

VOCAB = 128
SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32,
         "vocab_size": VOCAB, "max_position_embeddings": 512, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
GROUPED = {**SIZES, "num_key_value_heads": 1}
PLAIN_HEAD = {
    "gpt_neox": SIZES,
    "llama": GROUPED,
    "qwen2": GROUPED,
    "gpt2": {"n_embd": 16, "n_layer": 2, "n_head": 2, "vocab_size": VOCAB, "n_positions": 512},  # its head is tied
    "mistral": {**GROUPED, "sliding_window": 64},
    "qwen3": {**GROUPED, "head_dim": 8},
    "gemma3_text": {**GROUPED, "head_dim": 8, "sliding_window": 64, "layer_types": ["sliding_attention",
                                                                                   "full_attention"]},
    "phi3": GROUPED,
    "olmo2": GROUPED,
    "smollm3": GROUPED,
    "qwen3_moe": {**GROUPED, "head_dim": 8, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16},
}
OTHER_HEAD = {  # more is done to their logits than a projection
    "gemma2": {**GROUPED, "head_dim": 8, "final_logit_softcapping": 3.0, "sliding_window": 64},
    "cohere": {**GROUPED, "logit_scale": 0.25},
    "granite": {**GROUPED, "logits_scaling": 4.0},
}
ALL = {**PLAIN_HEAD, **OTHER_HEAD}


def config_of(kind):
    """Return a tiny config of a family."""
    return AutoConfig.for_model(kind, **ALL[kind])


def fresh(kind, seed=0):
    """Return a model in fp32."""
    torch.manual_seed(seed)
    return AutoModelForCausalLM.from_config(config_of(kind), dtype=torch.float32)


def enlarged(kind, seed=0):
    """Return a model in fp32 whose predictions are far from uniform."""
    model = fresh(kind, seed)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim > 1:
                weight.mul_(10.0)
    return model.eval()
