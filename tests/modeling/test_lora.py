"""Adapters against the models they stand for: .venv/bin/pytest tests/modeling/test_lora.py"""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, LlamaConfig, TrainerCallback

from s2l_ray.errors import InputError
from s2l_ray.modeling.adapters import base_of, is_adapter
from s2l_ray.modeling.identity import model_identity
from s2l_ray.modeling.lora import adapt, plain_model
from s2l_ray.modeling.losses import LossScorer
from s2l_ray.modeling.models import finish_folder, load_model, parameter_count, save_weights
from s2l_ray.modeling.schedule import plan_training
from s2l_ray.modeling.training import Collator, build_trainer
from s2l_ray.modeling.training_arguments import load_for_training, training_arguments
from s2l_ray.recipe.lora import LoraConfig
from s2l_ray.recipe.model import ModelConfig
from s2l_ray.recipe.training import ProxyConfig
from tests.modeling.architectures import ALL, enlarged
from tests.modeling.test_losses import MIXED, batch_of
from tests.modeling.test_training import examples

IDS = torch.arange(3, 43).reshape(2, 20)
SETTINGS = {
    "plain": {},
    "rslora": {"rslora": True, "rank": 4},
    "dora": {"dora": True},
    "embeddings": {"save_embeddings": True},
}


@pytest.fixture(scope="module")
def bases(tmp_path_factory):
    """Return a maker of saved base models, one of each family."""
    folder = tmp_path_factory.mktemp("bases")

    def make(kind):
        if not (folder / kind).exists():
            save_weights(enlarged(kind), folder / kind)
        return ModelConfig(path=str(folder / kind))

    return make


def adapted(base, settings):
    """Return a model with adapters that say something."""
    model = adapt(load_model(base, vocab_size=0, seed=0), LoraConfig(**settings), 0).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.requires_grad:
                change = torch.randn(weight.shape, generator=generator)
                weight.add_(0.05 * change if "lora" in name else 0.01 * change)
    return model


def saved(model, folder, base):
    save_weights(model, folder)
    finish_folder(folder, base)
    return ModelConfig(path=str(folder))


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("kind", ALL)
@torch.no_grad()
def test_what_is_saved_and_merged_computes_what_was_trained(kind, settings, bases, tmp_path):
    base = bases(kind)
    if (kind, settings) == ("qwen3_moe", "dora"):
        with pytest.raises(InputError, match="cannot be put on a qwen3_moe model"):
            adapted(base, SETTINGS[settings])
        return
    model = adapted(base, SETTINGS[settings])
    expected = model(input_ids=IDS).logits
    merged = load_model(saved(model, tmp_path / "adapter", base), vocab_size=0, seed=0).eval()
    assert type(merged) is type(enlarged(kind)) and not hasattr(merged, "peft_config")
    scale = expected.abs().max()
    torch.testing.assert_close(merged(input_ids=IDS).logits / scale, expected / scale, atol=1e-5, rtol=0)
    alone = load_model(base, vocab_size=0, seed=0).eval()(input_ids=IDS).logits
    assert (expected - alone).abs().max() > 1e-2 * scale, "the adapters say something"


def test_an_adapter_s_folder_holds_the_adapter_and_the_name_of_its_base_and_nothing_else(bases, tmp_path):
    base = bases("llama")
    folder = tmp_path / "adapter"
    saved(adapted(base, {"rank": 2}), folder, base)
    assert sorted(path.name for path in folder.iterdir()) == [
        "adapter_config.json", "adapter_model.safetensors", "base_model.json"]
    assert is_adapter(str(folder)) and base_of(str(folder)) == base
    assert parameter_count(folder) == sum(w.numel() for w in enlarged("llama").parameters()), "of what it becomes"
    (folder / "base_model.json").unlink()  # as an adapter of anybody's
    assert base_of(str(folder)) == base


def test_fresh_adapters_change_nothing_and_follow_the_seed(bases):
    base = bases("qwen3")
    first, second, other = (adapt(load_model(base, vocab_size=0, seed=0), LoraConfig(), seed).eval() for seed in (0, 0, 1))
    weights = [{name: weight for name, weight in model.state_dict().items() if "lora_A" in name}
               for model in (first, second, other)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert not any(torch.equal(weights[0][name], weights[2][name]) for name in weights[0])
    with torch.no_grad():
        expected = load_model(base, vocab_size=0, seed=0).eval()(input_ids=IDS).logits
        assert torch.equal(first(input_ids=IDS).logits, expected)


@pytest.mark.parametrize("kind", ALL)
def test_losses_of_an_adapter_are_the_adapted_model_s_own(kind, bases, tmp_path):
    base = bases(kind)
    model = adapted(base, {})
    config = saved(model, tmp_path / "adapter", base)
    losses = LossScorer(load_model(config, vocab_size=0, seed=0)).example_losses(batch_of(MIXED[:5]))
    for item, loss in zip(MIXED[:5], losses, strict=True):
        alone = batch_of([item])
        with torch.no_grad():
            assert loss.item() == pytest.approx(model(input_ids=alone.input_ids, labels=alone.labels).loss.item(), abs=1e-3)


def config_of(base, **changes):
    return ProxyConfig(**{"model": base, "max_steps": 6, "global_batch_size": 4, "micro_batch_size": 2, "precision": "fp32",
                          "learning_rate": 1e-2, "num_checkpoints": 0, "lora": LoraConfig(rank=4), **changes})


class SaveEveryStep(TrainerCallback):
    def on_step_end(self, args, state, control, **kwargs):
        control.should_save = True


def trained(config, folder, resume=None, callbacks=()):
    """Train from the base, or from a checkpoint in the folder; return the trainer."""
    plan = plan_training(config, 13)
    arguments = training_arguments(config, plan, num_workers=1, output_dir=folder, seed=0, use_gpu=False)
    model = load_for_training(config, arguments, vocab_size=50, seed=0)
    trainer = build_trainer(model, arguments, examples(), Collator(pad_id=0, packs=config.packing), callbacks)
    if resume is None:
        trainer.train()
    else:
        trainer.resume(folder / f"checkpoint-{resume}")
    return trainer


@pytest.mark.parametrize("changes", [
    {}, {"packing": True}, {"gradient_checkpointing": True}, {"lora": LoraConfig(rank=4, save_embeddings=True)},
    {"lora": LoraConfig(rank=4, dora=True)}], ids=str)
@pytest.mark.parametrize("kind", ["llama", "gpt_neox", "gpt2"])
def test_adapters_learn_and_what_is_frozen_stays(kind, changes, bases, tmp_path):
    config = config_of(bases(kind), **changes)
    trainer = trained(config, tmp_path)
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert losses[-1] < losses[0] - 0.1
    start, model = load_model(config.model, vocab_size=0, seed=0).state_dict(), plain_model(trainer.model)
    whole = {"embed", "head", "wte"} if config.lora.save_embeddings else set()
    frozen = {name: weight for name, weight in model.state_dict().items()
              if "lora" not in name and not any(part in name for part in whole)}
    names = {name: name.replace("base_layer.", "").replace("original_module.", "") for name in frozen}
    assert all(torch.equal(weight, start[names[name]]) for name, weight in frozen.items() if names[name] in start)
    assert len(frozen) > 5 and any("lora_B" in name and weight.any() for name, weight in model.state_dict().items())


def test_the_head_in_blocks_gives_the_loss_of_all_logits(bases, tmp_path, monkeypatch):
    config = config_of(bases("llama"))
    fused = trained(config, tmp_path / "a")
    monkeypatch.setattr("s2l_ray.modeling.training._has_plain_head", lambda model: False)
    whole = trained(config, tmp_path / "b")
    assert (fused._is_fused, whole._is_fused) == (True, False)
    curves = [[entry["loss"] for entry in trainer.state.log_history if "loss" in entry] for trainer in (fused, whole)]
    assert curves[0] == pytest.approx(curves[1], abs=1e-4)


def test_a_training_of_adapters_resumed_anywhere_ends_as_one_that_was_not_interrupted(bases, tmp_path):
    config = config_of(bases("llama"), num_checkpoints=5, lora=LoraConfig(rank=4, dropout=0.1))
    calm = trained(config, tmp_path, callbacks=[SaveEveryStep()]).model.state_dict()
    expected = {name: weight.clone() for name, weight in calm.items()}
    kept = tmp_path / "checkpoint-1"
    assert not list(kept.glob("model*.safetensors")) and (kept / "adapter_model.safetensors").stat().st_size < 20_000
    for step in range(1, 6):
        again = trained(config, tmp_path, resume=step).model.state_dict()
        assert all(torch.equal(again[name], weight) for name, weight in expected.items()), step


@pytest.mark.parametrize("kind", ["nf4", "int8"])
def test_frozen_weights_in_few_bits_learn_through_their_adapters(kind, tmp_path):
    pytest.importorskip("bitsandbytes")
    torch.manual_seed(0)
    wide = LlamaConfig(hidden_size=64, num_hidden_layers=2, num_attention_heads=2, intermediate_size=128, vocab_size=128)
    save_weights(AutoModelForCausalLM.from_config(wide, dtype=torch.float32), tmp_path / "base")
    base = ModelConfig(path=str(tmp_path / "base"))
    trainer = trained(config_of(base, quantize=kind, precision="bf16", max_steps=24), tmp_path)
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert losses[-1] < losses[0] - 0.1
    layers = {type(layer).__name__ for layer in plain_model(trainer.model).modules()}
    assert {"nf4": "Linear4bit", "int8": "Linear8bitLt"}[kind] in layers
    trainer.save_model(str(tmp_path / "adapter"))
    finish_folder(tmp_path / "adapter", base)
    merged = load_model(ModelConfig(path=str(tmp_path / "adapter")), vocab_size=0, seed=0)
    assert {weight.dtype for weight in merged.parameters()} == {torch.float32}, "the base's own weights, not the few bits"


def test_layers_that_are_not_there_are_refused_with_those_that_are(bases):
    model = load_model(bases("llama"), vocab_size=0, seed=0)
    with pytest.raises(InputError, match=r"lora=.*query.* cannot be put on a llama model: .* are called down_proj, .*q_proj"):
        adapt(model, LoraConfig(target_modules=["query"]), 0)


def test_an_adapter_is_named_by_itself_and_by_its_base(bases, tmp_path):
    base, folder = bases("llama"), tmp_path / "base"
    shutil.copytree(base.path, folder)
    config = saved(adapted(base, {}), tmp_path / "adapter", ModelConfig(path=str(folder)))
    first = model_identity(config)
    save_weights(enlarged("llama", seed=5), folder)  # another model in the base's place
    second = model_identity(config)
    assert first["weights"] == second["weights"] and first["base"] != second["base"]
    shutil.rmtree(folder)
    with pytest.raises(InputError, match=r"model folder .*base' does not exist"):
        model_identity(config)


@pytest.mark.parametrize("content", ["{}", "[]", "not json", '{"base_model_name_or_path": null}'])
def test_an_adapter_that_names_no_base_is_refused(content, bases, tmp_path):
    saved(adapted(bases("llama"), {}), tmp_path, bases("llama"))
    (tmp_path / "base_model.json").unlink()
    (tmp_path / "adapter_config.json").write_text(content)
    with pytest.raises(InputError, match=r"holds an adapter whose adapter_config.json names no base model"):
        load_model(ModelConfig(path=str(tmp_path)), vocab_size=0, seed=0)


def test_an_adapter_of_itself_and_one_of_another_shape_are_refused(bases, tmp_path):
    config = saved(adapted(bases("llama"), {}), tmp_path, bases("llama"))
    (tmp_path / "base_model.json").write_text(json.dumps({"path": str(tmp_path)}))
    with pytest.raises(InputError, match="holds an adapter of itself"):
        load_model(config, vocab_size=0, seed=0)
    (tmp_path / "base_model.json").write_text(json.dumps({"path": bases("gpt2").path}))
    with pytest.raises(InputError, match="cannot be put on its base model"):
        load_model(config, vocab_size=0, seed=0)


def test_an_adapter_that_was_cut_off_is_refused(bases, tmp_path):
    config = saved(adapted(bases("llama"), {}), tmp_path, bases("llama"))
    file = tmp_path / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(InputError, match="cannot be put on its base model"):
        load_model(config, vocab_size=0, seed=0)


def test_an_adapter_that_lacks_weights_is_refused(bases, tmp_path):
    config = saved(adapted(bases("llama"), {}), tmp_path, bases("llama"))
    weights = load_file(tmp_path / "adapter_model.safetensors")
    save_file(dict(sorted(weights.items())[1:]), tmp_path / "adapter_model.safetensors")
    with pytest.raises(InputError, match=r"lacks 1 of its weights, for example base_model.model.model.layers.0.mlp.down_proj.lora_A"):
        load_model(config, vocab_size=0, seed=0)


@pytest.mark.parametrize(("changes", "message"), [
    ({"lora": {"rank": 0}}, "rank"), ({"lora": {"dropout": 1.0}}, "dropout"), ({"lora": {"target_modules": []}}, "name a layer"),
    ({"lora": None, "quantize": "nf4"}, "nothing would be trained: set lora"), ({"quantize": "fp4"}, "nf4"),
    ({"model": ModelConfig(config={"model_type": "llama"}, tokenizer="t")}, "lora adapts pretrained weights"),
])
def test_what_cannot_be_adapted_is_refused_with_the_recipe(changes, message):
    with pytest.raises(ValueError, match=message):
        config_of(ModelConfig(path="some/model"), **changes)
