"""What one training worker does, alone: .venv/bin/pytest tests/execution/test_train_worker.py"""

import contextlib

import numpy as np
import pyarrow as pa
import pytest
import torch
from transformers import LlamaForCausalLM

from s2l_ray.errors import InputError
from s2l_ray.execution.train_worker import fine_tune
from s2l_ray.modeling.models import load_model, load_tokenizer, save_weights
from s2l_ray.modeling.schedule import TrainingRun, plan_training
from s2l_ray.modeling.step_losses import curve_of
from s2l_ray.quickstart import ASSETS
from s2l_ray.recipe.model import ModelConfig
from s2l_ray.recipe.training import ProxyConfig
from s2l_ray.storage.files import Storage

CONFIG = {"model_type": "llama", "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
          "num_key_value_heads": 1, "intermediate_size": 16, "max_position_embeddings": 64, "vocab_size": 8192}


class Host:
    """A worker by itself, whose training is not interrupted."""

    num_workers, callbacks, stops_for_resize = 1, (), False

    def examples(self):
        rng = np.random.default_rng(0)
        ids = [rng.integers(0, 50, length).astype(np.int32) for length in range(5, 21)]
        return [pa.table({"example_id": [f"{i:02d}" for i in range(16)], "input_ids": ids,
                          "supervised": [np.arange(len(row)) > 1 for row in ids]})]

    def report(self, step, facts):
        assert step <= 4

    def resume_folder(self):
        return contextlib.nullcontext()


def run_of(tmp_path, **changes):
    config = ProxyConfig.model_validate({
        "model": {"config": CONFIG, "tokenizer": str(ASSETS / "proxy_base")}, "max_steps": 4, "global_batch_size": 8,
        "num_checkpoints": 0, "precision": "fp32", **changes})
    return TrainingRun("proxy", config, plan_training(config, 16), 0, Storage(str(tmp_path)), "proxy-1", 1, use_gpu=False)


@pytest.fixture
def small_memory(monkeypatch):
    """Let two examples fit into memory and no more; return the sizes that were tried."""
    tried, forward = [], LlamaForCausalLM.forward

    def bounded(self, input_ids, **more):
        if self.training:  # not the look at the head
            tried.append(len(input_ids))
            if len(input_ids) > 2:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return forward(self, input_ids, **more)

    monkeypatch.setattr(LlamaForCausalLM, "forward", bounded)
    return tried


def test_after_too_large_a_micro_batch_who_goes_on_takes_a_smaller_one(tmp_path, small_memory):
    with pytest.raises(RuntimeError, match="out of memory with 4 examples at a time: 2 are tried next"):
        fine_tune(run_of(tmp_path), Host())
    outcome = fine_tune(run_of(tmp_path), Host())
    assert (outcome["micro_batch_size"], small_memory) == (2, [4, *[2] * 16])  # 4 steps of 8
    losses = [entry["loss"] for entry in outcome["history"] if "loss" in entry]
    expected = fine_tune(run_of(tmp_path / "other", micro_batch_size=1), Host())["history"]
    assert losses == pytest.approx([entry["loss"] for entry in expected if "loss" in entry], abs=1e-4)


def test_a_micro_batch_that_was_asked_for_is_the_user_s_to_change(tmp_path, small_memory):
    with pytest.raises(InputError, match="out of memory with micro_batch_size=8: set it to 4 or to auto"):
        fine_tune(run_of(tmp_path, micro_batch_size=8), Host())
    assert not Storage(str(tmp_path)).exists("proxy-1/micro_batch_size.json")


class Longer(Host):
    """A worker whose training may have more steps."""

    def report(self, step, facts):
        assert step <= 100


def test_the_curve_has_every_step_and_the_log_its_means(tmp_path):
    outcome = fine_tune(run_of(tmp_path, max_steps=100, global_batch_size=4, learning_rate=1e-3), Longer())
    curve, logged = outcome["curve"], [entry for entry in outcome["history"] if "loss" in entry]
    assert curve["step"] == list(range(1, 101)) and None not in curve["loss"]
    for entry in logged:  # each two steps
        assert sum(curve["loss"][entry["step"] - 2: entry["step"]]) / 2 == pytest.approx(entry["loss"], rel=1e-5)
        assert curve["learning_rate"][entry["step"] - 1] == entry["learning_rate"]
        assert curve["grad_norm"][entry["step"] - 1] == entry["grad_norm"]
    assert curve["grad_norm"].count(None) == 50
    assert all("step_losses" not in entry for entry in outcome["history"])


def test_the_curve_of_a_training_that_went_on_has_what_is_known_of_each_step():
    history = [{"step": 2, "loss": 3.0, "grad_norm": 0.5},  # an older program's, which had saved a checkpoint
               {"step": 5, "step_losses": [2.0, 1.5, 1.0], "learning_rates": [0.3, 0.2, 0.1]}, {"step": 5, "loss": 1.5, "grad_norm": 0.25}]
    assert curve_of(history, 5) == {
        "step": [1, 2, 3, 4, 5], "loss": [None, None, 2.0, 1.5, 1.0], "learning_rate": [None, None, 0.3, 0.2, 0.1],
        "grad_norm": [None, 0.5, None, None, 0.25]}


def test_adapters_over_tokens_that_the_base_has_not_learned_end_before_the_first_step(tmp_path):
    base = ModelConfig(path=str(ASSETS / "proxy_base"))
    model, tokenizer = load_model(base, vocab_size=0, seed=0), load_tokenizer(base)
    unlearned = min(tokenizer.added_tokens_decoder)
    assert unlearned < 50, "it is among the examples' ids"
    with torch.no_grad():
        for layer in (model.get_input_embeddings(), model.get_output_embeddings()):
            layer.weight[unlearned] = 0
    save_weights(model, tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    given = {"model": {"path": str(tmp_path / "base")}, "micro_batch_size": 4}
    with pytest.raises(InputError, match=r"the examples hold .*, whose vectors the model has not learned"):
        fine_tune(run_of(tmp_path, **given, lora={"rank": 2}), Host())
    for settings in ({"lora": {"rank": 2, "save_embeddings": True}}, {}):  # both train them
        assert fine_tune(run_of(tmp_path / str(len(settings)), **given, **settings), Host())["num_workers_used"] == [1]
