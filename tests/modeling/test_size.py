"""How large a model is, known from its config."""

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from s2l_ray.errors import InputError
from s2l_ray.modeling.lora import adapt
from s2l_ray.modeling.models import finish_folder
from s2l_ray.modeling.size import ModelSize, model_size
from s2l_ray.modeling.throughput import scoring_operations
from s2l_ray.recipe.lora import LoraConfig
from s2l_ray.recipe.model import ModelConfig

LLAMA = {"model_type": "llama", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3,
         "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 100}
MIXTRAL = {"model_type": "mixtral", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "vocab_size": 100,
           "num_attention_heads": 4, "num_key_value_heads": 2, "num_local_experts": 8, "num_experts_per_tok": 2}


def config_of(**fields):
    return ModelConfig(config=fields, tokenizer="none")


@pytest.mark.parametrize("tied", [False, True])
def test_weights_and_operations_are_those_of_the_model_itself(tied):
    size = model_size(config_of(**LLAMA, tie_word_embeddings=tied), 100)
    made = AutoModelForCausalLM.from_config(AutoConfig.for_model(**LLAMA, tie_word_embeddings=tied))
    assert size.weights == sum(weight.numel() for weight in made.parameters())
    assert (size.layers, size.width, size.head, size.adapters) == (3, 32, 3200, 0)
    attention = 7 * 2 * 3 * 32 * 5  # of 7 tokens in examples of 5: 2 * layers * width * length each
    assert size.forward_operations(7, 2, 5) == scoring_operations(made, 7, 2) + attention


def test_adapters_are_what_is_trained():
    lora = LoraConfig(rank=4)
    size = model_size(config_of(**LLAMA), 100, lora)
    adapted = adapt(AutoModelForCausalLM.from_config(AutoConfig.for_model(**LLAMA)), lora, 0)
    assert size.trained == size.adapters == sum(w.numel() for w in adapted.parameters() if w.requires_grad)
    whole = model_size(config_of(**LLAMA), 100)
    assert whole.trained == whole.weights == size.weights
    assert size.training_operations(10, 5, 5) == 2 * size.forward_operations(10, 5, 5)
    assert whole.training_operations(10, 5, 5) == 3 * whole.forward_operations(10, 5, 5)
    assert whole.training_operations(10, 5, 5, recomputes=True) == 4 * whole.forward_operations(10, 5, 5)


def test_a_token_goes_through_the_experts_that_it_is_sent_to():
    size = model_size(config_of(**MIXTRAL), 100)
    experts = 2 * 8 * 3 * 32 * 64  # layers, experts, matrices of one
    assert size.weights - 2 * 3200 - size.active == experts * 6 // 8  # all but embeddings and the 6 of 8 left out


def test_a_70b_model_takes_no_memory():
    large = {**LLAMA, "hidden_size": 8192, "intermediate_size": 28672, "num_hidden_layers": 80, "num_attention_heads": 64,
             "num_key_value_heads": 8, "vocab_size": 32000}
    assert 68e9 < model_size(config_of(**large), 32000).weights < 70e9


def test_a_saved_model_is_measured_by_its_folder(tmp_path):
    made = AutoModelForCausalLM.from_config(AutoConfig.for_model(**LLAMA), dtype=torch.bfloat16)
    made.save_pretrained(tmp_path)
    found = model_size(ModelConfig(path=str(tmp_path)), 100)
    assert isinstance(found, ModelSize) and found == model_size(config_of(**LLAMA), 100)


def test_what_makes_no_model_is_refused():
    with pytest.raises(InputError, match="causal language model"):
        model_size(config_of(model_type="t5", vocab_size=100, d_model=32), 100)


def test_an_adapter_has_the_size_of_its_base(tmp_path):
    made = AutoModelForCausalLM.from_config(AutoConfig.for_model(**LLAMA))
    made.save_pretrained(tmp_path / "base")
    base = ModelConfig(path=str(tmp_path / "base"))
    adapt(made, LoraConfig(rank=4), 0).save_pretrained(tmp_path / "adapter")
    finish_folder(tmp_path / "adapter", base)
    assert model_size(ModelConfig(path=str(tmp_path / "adapter")), 100) == model_size(base, 100)
