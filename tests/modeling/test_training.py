"""The training loop against plain torch: .venv/bin/pytest tests/modeling/test_training.py"""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    Trainer,
    TrainerCallback,
)

from s2l_ray.errors import InputError
from s2l_ray.modeling.batching import ExampleTable
from s2l_ray.modeling.sampling import StepSampler
from s2l_ray.modeling.schedule import TrajectoryPoint, plan_training
from s2l_ray.modeling.training import Collator, PointCallback, build_trainer
from s2l_ray.modeling.training_arguments import training_arguments
from s2l_ray.recipe.model import ModelConfig
from s2l_ray.recipe.training import ProxyConfig, Zero

MODELS = {
    "gpt_neox": GPTNeoXConfig(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
                              vocab_size=50, max_position_embeddings=64),
    "llama": LlamaConfig(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1,
                         intermediate_size=32, vocab_size=50, max_position_embeddings=64),
    "gpt2_tied": GPT2Config(n_embd=16, n_layer=2, n_head=2, vocab_size=50, n_positions=64, resid_pdrop=0.0,
                            embd_pdrop=0.0, attn_pdrop=0.0),
}


def proxy_config(**changes):
    values = {"model": ModelConfig(path="unused"), "max_steps": 6, "global_batch_size": 4, "micro_batch_size": 2,
              "learning_rate": 1e-2, "num_checkpoints": 0, "precision": "fp32", **changes}
    return ProxyConfig(**values)


def examples(count=13, seed=0):
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(count):
        length = int(rng.integers(4, 20))
        prompt = int(rng.integers(1, length - 1))
        rows.append({"input_ids": rng.integers(0, 50, length).tolist(),
                     "supervised": [i >= prompt for i in range(length)]})
    schema = pa.schema([("input_ids", pa.list_(pa.int32())), ("supervised", pa.list_(pa.bool_()))])
    return ExampleTable(pa.Table.from_pylist(rows, schema=schema))


class PlainTrainer(Trainer):
    """transformers' own Trainer, which sees the examples in our order."""

    def _get_train_sampler(self, train_dataset=None):
        return StepSampler(self.train_dataset.lengths_N, 4, self.args.seed)


def train(model, tmp_path, config, trainer_class=None, callbacks=()):
    plan = plan_training(config, 13)
    arguments = training_arguments(config, plan, num_workers=1, output_dir=tmp_path, seed=0, use_gpu=False)
    collator = Collator(pad_id=0, packs=config.packing)
    if trainer_class is None:
        trainer = build_trainer(model, arguments, examples(), collator, callbacks)
    else:
        trainer = trainer_class(model=model, args=arguments, train_dataset=examples(), data_collator=collator)
    trainer.train()
    return trainer


@pytest.mark.parametrize("packing", [False, True])
@pytest.mark.parametrize("kind", MODELS)
def test_head_on_supervised_positions_trains_the_same_weights_as_the_plain_trainer(kind, packing, tmp_path):
    torch.manual_seed(0)
    ours = AutoModelForCausalLM.from_config(MODELS[kind], dtype=torch.float32)
    theirs = AutoModelForCausalLM.from_config(MODELS[kind], dtype=torch.float32)
    theirs.load_state_dict(ours.state_dict())
    config = proxy_config()
    first = train(ours, tmp_path / "a", proxy_config(packing=packing))
    second = train(theirs, tmp_path / "b", config, trainer_class=PlainTrainer)
    losses = [[log["loss"] for log in t.state.log_history if "loss" in log] for t in (first, second)]
    assert losses[0] == pytest.approx(losses[1], abs=1e-4)
    for name, weight in theirs.state_dict().items():
        if "query_key_value.bias" in name or "c_attn.bias" in name:
            continue  # a key's bias moves no attention: its gradient is rounding alone, which Adam makes a step of
        assert torch.allclose(ours.state_dict()[name], weight, atol=1e-5), name
    ids = torch.arange(40).reshape(2, 20)
    with torch.no_grad():
        hidden = [model.base_model.eval()(ids).last_hidden_state for model in (ours, theirs)]
    torch.testing.assert_close(*hidden, atol=1e-4, rtol=1e-4)


def test_packed_batches_have_fewer_tokens_and_those_that_count_are_counted(tmp_path):
    # 13 examples of 4 to 19 tokens in one micro-batch.
    trainers = [train(AutoModelForCausalLM.from_config(MODELS["llama"]), tmp_path / str(packs),
                      proxy_config(packing=packs, global_batch_size=13, micro_batch_size=13, max_steps=1)) for packs in (False, True)]
    assert [trainer.data_collator.num_tokens for trainer in trainers] == [sum(examples().lengths_N)] * 2
    padded, packed = (next(iter(trainer.get_train_dataloader()))["input_ids"] for trainer in trainers)
    assert padded.shape == (13, 19) and packed.shape == (12, 19), "ten rows would hold them, were they cut"


def test_a_model_that_would_mix_the_examples_of_a_row_is_refused_before_its_first_step(tmp_path):
    config = AutoConfig.for_model("mamba", hidden_size=16, num_hidden_layers=1, vocab_size=50, state_size=4)
    model = AutoModelForCausalLM.from_config(config)
    start = {name: weight.clone() for name, weight in model.state_dict().items()}
    with pytest.raises(InputError, match=r"would see each other in a mamba model.*set packing to false"):
        train(model, tmp_path, proxy_config(packing=True))
    assert all(torch.equal(weight, start[name]) for name, weight in model.state_dict().items())


def test_points_are_recorded_at_their_steps_and_the_last_is_the_finished_model(tmp_path):
    model = AutoModelForCausalLM.from_config(MODELS["gpt_neox"])
    start = {name: weight.clone() for name, weight in model.state_dict().items()}
    seen = {}
    points = [TrajectoryPoint(0, 0.0), TrajectoryPoint(3, 0.5), TrajectoryPoint(6, 1.0)]

    def save(recorded, point):
        seen[point.step] = {name: weight.clone() for name, weight in recorded.state_dict().items()}

    train(model, tmp_path, proxy_config(), callbacks=[PointCallback(points, save)])
    assert list(seen) == [0, 3, 6]
    name = "gpt_neox.embed_in.weight"
    assert torch.equal(seen[0][name], start[name])
    assert not torch.equal(seen[3][name], start[name])
    assert all(torch.equal(seen[6][n], w) for n, w in model.state_dict().items())


@pytest.mark.parametrize("use_cache", [True, False])
def test_a_trained_model_keeps_keys_and_values_as_it_did_before(use_cache, tmp_path):
    model = AutoModelForCausalLM.from_config(MODELS["gpt_neox"])
    model.config.use_cache = use_cache
    during = []
    seen = PointCallback([TrajectoryPoint(3, 0.5)], lambda recorded, _: during.append(recorded.config.use_cache))
    trainer = train(model, tmp_path / "training", proxy_config(), callbacks=[seen])
    trainer.save_model(str(tmp_path / "saved"))
    assert during == [False]
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "saved").config.use_cache is use_cache


def test_the_config_says_whether_deepspeed_runs_it_and_not_its_class(tmp_path):
    class Sharded(ProxyConfig):
        @property
        def zero(self):
            return Zero(stage=2, offload_optimizer=True)

    proxy, sharded = proxy_config(), Sharded(**proxy_config().model_dump())
    plan = plan_training(proxy, 13)
    given = {"num_workers": 1, "output_dir": tmp_path, "seed": 0, "use_gpu": False}
    assert training_arguments(proxy, plan, **given).deepspeed is None
    settings = training_arguments(sharded, plan, **given).deepspeed["zero_optimization"]
    assert settings["stage"] == 2 and settings["offload_optimizer"] == {"device": "cpu"}


@pytest.mark.parametrize(("use_gpu", "offload", "optimizer"), [
    (False, False, "adamw_torch"), (True, False, "adamw_torch_fused"), (True, True, "adamw_torch"),
])
def test_on_a_gpu_one_kernel_makes_the_step_and_no_micro_batch_is_waited_for(tmp_path, use_gpu, offload, optimizer):
    class Offloaded(ProxyConfig):
        @property
        def zero(self):
            return Zero(stage=2, offload_optimizer=True) if offload else None

    config = Offloaded(**proxy_config().model_dump())
    made = training_arguments(config, plan_training(config, 13), num_workers=1, output_dir=tmp_path, seed=0, use_gpu=use_gpu)
    assert made.optim == optimizer
    assert made.logging_nan_inf_filter is not use_gpu and made.dataloader_pin_memory is use_gpu


class SaveEveryStep(TrainerCallback):
    def on_step_end(self, args, state, control, **kwargs):
        control.should_save = True


def resumed_differences(kind, folder, num_rows, num_workers):
    """Train, then again from the checkpoint of each step: {step: how far the resumed training's weights end off}."""

    def trained(resume=None):
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(MODELS[kind], dtype=torch.float32)
        config = proxy_config(max_steps=2 * -(-num_rows // 4) + 2)  # into the third epoch
        plan = plan_training(config, num_rows)
        arguments = training_arguments(config, plan, num_workers=num_workers, output_dir=folder / ("b" if resume else "a"),
                                       seed=0, use_gpu=False)
        assert arguments.world_size == num_workers
        trainer = build_trainer(model, arguments, examples(num_rows), Collator(pad_id=0),
                                [] if resume else [SaveEveryStep()])
        if resume:
            trainer.resume(folder / "a" / f"checkpoint-{resume}")
        else:
            trainer.train()
        return {name: weight.clone() for name, weight in model.state_dict().items()}, plan.total_steps

    calm, total_steps = trained()
    differences = {}
    for step in range(1, total_steps):
        again, _ = trained(resume=step)
        differences[step] = max(float((again[name] - weight).abs().max()) for name, weight in calm.items())
    return differences


@pytest.mark.parametrize("kind", MODELS)
def test_a_training_resumed_anywhere_ends_bitwise_as_one_that_was_not_interrupted(kind, tmp_path):
    differences = resumed_differences(kind, tmp_path, num_rows=13, num_workers=1)
    assert len(differences) == 9 and not any(differences.values()), differences  # 4 + 4 + 2 steps


@pytest.mark.slow
def test_two_processes_resumed_anywhere_end_bitwise_as_two_that_were_not_interrupted(tmp_path):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", __file__, tmp_path]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]


if __name__ == "__main__":  # one of the two processes
    torch.set_num_threads(1)
    # 7 micro-batches of 2: the last of each epoch has none for the other worker
    found = resumed_differences("llama", Path(sys.argv[1]), num_rows=13, num_workers=2)
    assert not any(found.values()), found
