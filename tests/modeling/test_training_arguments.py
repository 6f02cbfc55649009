"""How trainings are set up: .venv/bin/pytest tests/modeling/test_training_arguments.py"""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig

from s2l_ray.modeling.batching import ExampleTable
from s2l_ray.modeling.models import load_model
from s2l_ray.modeling.schedule import plan_training
from s2l_ray.modeling.training import Collator, build_trainer
from s2l_ray.modeling.training_arguments import (
    deepspeed_config,
    disable_deepspeed_compiler,
    load_for_training,
    training_arguments,
)
from s2l_ray.recipe.model import ModelConfig
from s2l_ray.recipe.training import ProxyConfig, TargetConfig, Zero

CONFIG = LlamaConfig(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1,
                     intermediate_size=32, vocab_size=50, max_position_embeddings=64)
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}


def base_model(folder, dtype=torch.float32):
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(CONFIG, dtype=torch.float32).to(dtype).save_pretrained(folder)
    return str(folder)


def loaded(config, folder):
    arguments = training_arguments(config, plan_training(config, 8), num_workers=1, output_dir=folder, seed=0, use_gpu=False)
    return load_for_training(config, arguments, vocab_size=50, seed=0)


def settings_of(path, **changes):
    return {"model": ModelConfig(path=path), "max_steps": 4, "global_batch_size": 4, "micro_batch_size": 2,
            "learning_rate": 1e-2, "num_checkpoints": 0, **changes}


@pytest.mark.parametrize("precision", PRECISIONS)
def test_weights_are_loaded_as_the_training_holds_them(precision, tmp_path):
    path = base_model(tmp_path / "base", torch.bfloat16)
    by_ddp = loaded(ProxyConfig(**settings_of(path, precision=precision)), tmp_path)
    assert {weight.dtype for weight in by_ddp.parameters()} == {torch.float32}, "autocast brings them to bf16"
    by_deepspeed = loaded(TargetConfig(**settings_of(path, precision=precision, zero_stage=2)), tmp_path)
    assert {weight.dtype for weight in by_deepspeed.parameters()} == {PRECISIONS[precision]}


def test_zero_3_s_buckets_are_of_the_model_s_size_and_not_of_half_a_billion_numbers():
    zero = deepspeed_config(Zero(3, offload_optimizer=False))["zero_optimization"]
    assert zero["reduce_bucket_size"] == zero["stage3_prefetch_bucket_size"] == "auto"
    assert zero["sub_group_size"] == 50_000_000


def trained(path, folder, stage, dtype):
    """Train with DeepSpeed from weights loaded in a precision, and return them."""
    config = TargetConfig(**settings_of(path, precision="bf16", zero_stage=stage))
    arguments = training_arguments(config, plan_training(config, 8), num_workers=1, output_dir=folder, seed=0, use_gpu=False)
    model = load_model(config.model, vocab_size=50, seed=0, dtype=dtype)
    rng = np.random.default_rng(0)
    ids = [rng.integers(0, 50, length).astype(np.int32) for length in (9, 8, 7, 6, 5, 5, 4, 4)]
    table = pa.table({"input_ids": ids, "supervised": [np.arange(len(row)) > 1 for row in ids]})
    trainer = build_trainer(model, arguments, ExampleTable(table), Collator(pad_id=0), [])
    trainer.train()
    return {name: weight.detach().clone() for name, weight in model.state_dict().items()}


@pytest.mark.slow
@pytest.mark.parametrize("stage", [pytest.param(0, marks=pytest.mark.long), 2])
def test_deepspeed_in_bf16_comes_to_the_same_bits_from_weights_loaded_in_bf16(stage, tmp_path):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", __file__, str(tmp_path), str(stage)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr[-3000:]


if __name__ == "__main__":
    scratch, stage_given = Path(sys.argv[1]), int(sys.argv[2])
    start = base_model(scratch / "base")
    disable_deepspeed_compiler()
    runs = [trained(start, scratch / name, stage_given, dtype) for name, dtype in PRECISIONS.items()]
    before = load_model(ModelConfig(path=start), vocab_size=50, seed=0).state_dict()
    assert all(torch.equal(weight, runs[1][name]) for name, weight in runs[0].items())
    assert any(not torch.equal(weight.float(), before[name].bfloat16().float()) for name, weight in runs[0].items())
