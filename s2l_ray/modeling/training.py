"""Supervised fine-tuning of a causal language model with transformers.Trainer, on one process of a group."""

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional
from transformers import PreTrainedModel, Trainer, TrainerCallback, TrainingArguments
from transformers.integrations import is_deepspeed_zero3_enabled
from transformers.trainer_callback import PrinterCallback

from s2l_ray.errors import InputError
from s2l_ray.modeling.adapters import is_adapter
from s2l_ray.modeling.batching import ExampleTable, collate
from s2l_ray.modeling.cross_entropy import SummedCrossEntropy, has_plain_head
from s2l_ray.modeling.lora import plain_model
from s2l_ray.modeling.models import load_model
from s2l_ray.modeling.packing import keeps_apart, pack
from s2l_ray.modeling.sampling import StepSampler
from s2l_ray.modeling.schedule import TrajectoryPoint
from s2l_ray.modeling.universal import MendUniversal, converted, num_writers
from s2l_ray.recipe.model import ModelConfig


class Collator:
    """Pads examples into what a causal model takes, and counts the tokens for the throughput figure.

    `positions`, which the loss is computed at, are found here: on a GPU the host would have to wait for them.
    """

    def __init__(self, pad_id: int, multiple: int = 1, *, packs: bool = False) -> None:
        """Make batches whose rows are of a multiple in length, and hold one example each or several."""
        self._pad_id, self._multiple, self.packs = pad_id, multiple, packs
        self.num_tokens = 0

    def __call__(self, items: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        given = [i["input_ids"] for i in items], [i["supervised"] for i in items], self._pad_id, self._multiple
        if self.packs:
            batch, places_BT = pack(*given)
            inputs = {"position_ids": places_BT}
        else:
            batch = collate(*given)
            inputs = {"attention_mask": batch.attention_mask}
        self.num_tokens += int(batch.attention_mask.sum())
        return {"input_ids": batch.input_ids, **inputs, "labels": batch.labels, "positions": batch.positions_2P}


class PointCallback(TrainerCallback):
    """Hands the model over at each trajectory point, on the first process only."""

    def __init__(self, points: Sequence[TrajectoryPoint], save: Callable[[PreTrainedModel, TrajectoryPoint], None]):
        self._by_step = {point.step: point for point in points}
        self._save = save

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == 0:  # a resumed training has recorded the points up to its step
            self._record(state, kwargs["model"])

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._record(state, kwargs["model"])

    def _record(self, state: Any, model: Any) -> None:
        point = self._by_step.get(state.global_step)
        if point is not None and state.is_world_process_zero:
            self._save(getattr(model, "module", model), point)


class ProgressCallback(TrainerCallback):
    """Tells how far training is, at most every `interval_s` seconds, from the first process."""

    def __init__(self, report: Callable[[int, dict[str, float]], None], collator: Collator, interval_s: float = 1.0):
        self._report, self._collator, self._interval_s = report, collator, interval_s
        self._facts: dict[str, float] = {}
        self._last = self._start = time.monotonic()

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._start = time.monotonic()
        self._collator.num_tokens = 0

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        if logs and "loss" in logs:
            self._facts["loss"] = float(logs["loss"])

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        now = time.monotonic()
        due = now - self._last >= self._interval_s or state.global_step == state.max_steps
        if due and state.is_world_process_zero:
            self._last = now
            seconds = max(now - self._start, 1e-9)
            self._facts["tokens/s"] = self._collator.num_tokens * args.world_size / seconds
            self._report(state.global_step, dict(self._facts))


class _EpochCallback(TrainerCallback):
    """Tells the sampler which epoch begins, counted in steps.

    The Trainer's own notice gets lost where a training of several processes goes on in the middle of an epoch: it
    passes through two wrappings of the sampler, and there are three. The rest of that epoch had the first one's order.
    """

    def __init__(self, sampler: StepSampler) -> None:
        self._sampler = sampler

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._sampler.set_epoch(state.global_step // self._sampler.steps_per_epoch)


class _CacheCallback(TrainerCallback):
    """Leaves the config as it came: training keeps no keys and values, and who loads the model to answer wants them."""

    def __init__(self, use_cache: bool) -> None:
        self._use_cache = use_cache

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        model = kwargs["model"]
        plain_model(getattr(model, "module", model)).config.use_cache = self._use_cache


class SupervisedTrainer(Trainer):
    """A Trainer whose language-model head runs on supervised positions only, and in blocks.

    The loss is the Trainer's own (sum of token losses over the supervised tokens of the whole optimizer step); only
    logits that it would ignore are never computed, more than half of them in instruction data. The head does this in
    its own forward pass, so DDP and DeepSpeed see an ordinary one. Where a model does more to its logits than project
    (or under ZeRO-3, where the head's weights are not at hand to find out), the head gives the logits of these
    positions.
    """

    _positions: tuple[torch.Tensor, ...] | None = None
    """Where the head runs; None where it gives all logits."""
    _targets: torch.Tensor
    _step_loss: torch.Tensor | float = 0.0

    def __init__(self, *, global_batch_size: int, shuffles: bool, **arguments: Any) -> None:
        examples = arguments["train_dataset"]
        assert isinstance(examples, ExampleTable)
        args = arguments["args"]
        # One process takes a smaller last micro-batch as it is.
        at_once = args.per_device_train_batch_size * args.world_size if args.world_size > 1 else 1
        self._sampler = StepSampler(examples.lengths_N, global_batch_size, args.seed, at_once, shuffles=shuffles)
        super().__init__(**arguments, compute_loss_func=self._mean_token_loss)
        self.add_callback(_EpochCallback(self._sampler))
        model = plain_model(arguments["model"])
        head = model.get_output_embeddings()
        is_layer = "weight" in dict(head.named_parameters(recurse=False))  # not what trains a copy of it
        self._is_fused = is_layer and not is_deepspeed_zero3_enabled() and _has_plain_head(model)
        if self._is_fused:
            head.forward = partial(self._summed_loss, head)
        else:
            head.register_forward_pre_hook(lambda _, inputs: (self._chosen(inputs[0]),))
        self._is_apart = not getattr(arguments["data_collator"], "packs", False)

    def resume(self, checkpoint: Path) -> None:
        """Train on from a checkpoint to the end that an uninterrupted training comes to."""
        if not self.is_deepspeed_enabled and not is_adapter(checkpoint):
            # The Trainer loads what it finds under today's names and passes over the rest: some families' weights are
            # saved under their published names (GPT-NeoX's head as embed_out), and would stay those of the start.
            saved = load_model(ModelConfig(path=str(checkpoint)), vocab_size=0, seed=0)
            assert self.model is not None
            self.model.load_state_dict(saved.state_dict())
        if not self.is_deepspeed_enabled or num_writers(checkpoint) in (None, self.args.world_size):
            self.train(resume_from_checkpoint=str(checkpoint))
            return
        self.accelerator.state.deepspeed_plugin.deepspeed_config["checkpoint"] = {"load_universal": True}
        with converted(checkpoint, is_first_of_node=self.args.local_process_index == 0) as folder:
            self.add_callback(MendUniversal(folder))
            self.train(resume_from_checkpoint=str(folder))

    def _get_train_sampler(self, train_dataset: Any = None) -> StepSampler:
        assert train_dataset is None or train_dataset is self.train_dataset
        return self._sampler

    def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        if not self._is_apart:
            self._refuse_to_mix(model)
        self._positions = tuple(inputs.pop("positions"))
        self._targets = inputs["labels"][:, 1:][self._positions]
        return super().compute_loss(model, inputs, *args, **kwargs)

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        loss = super().training_step(*args, **kwargs)
        self._step_loss = self._step_loss + loss
        return loss

    def take_step_loss(self) -> torch.Tensor:
        """Return this process's part of the mean token loss since the last call, where it was computed."""
        loss, self._step_loss = self._step_loss, 0.0
        assert isinstance(loss, torch.Tensor), "a step has at least one micro-batch"
        return loss

    def _refuse_to_mix(self, model: Any) -> None:
        """Raise InputError where examples of one row would see each other."""
        self._positions = None
        device = self.args.device
        model.eval()
        self._is_apart = keeps_apart(
            lambda ids, places: model(input_ids=ids.to(device), position_ids=places.to(device), use_cache=False).logits)
        model.train()
        if not self._is_apart:
            kind = self.accelerator.unwrap_model(model).config.model_type
            raise InputError(f"packing=true: examples that share a row would see each other in a {kind} model with "
                             "its attention of today: set packing to false")

    def _chosen(self, hidden_BTD: torch.Tensor) -> torch.Tensor:
        return hidden_BTD if self._positions is None else hidden_BTD[self._positions]

    def _summed_loss(self, head: torch.nn.Module, hidden_BTD: torch.Tensor) -> torch.Tensor:
        if self._positions is None:
            return type(head).forward(head, hidden_BTD)
        device = hidden_BTD.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden_BTD.dtype
        own = dict(head.named_parameters(recurse=False))
        hidden_PD = hidden_BTD[self._positions]
        return SummedCrossEntropy.apply(hidden_PD, own["weight"], own.get("bias"), self._targets, dtype)

    def _mean_token_loss(self, outputs: Any, labels_BT: Any, num_items_in_batch: Any = None) -> torch.Tensor:
        assert num_items_in_batch is not None
        made = outputs["logits"] if isinstance(outputs, dict) else outputs[0]
        if not self._is_fused:
            made = functional.cross_entropy(made.float(), self._targets, reduction="sum")
        return made / num_items_in_batch


def _has_plain_head(model: PreTrainedModel) -> bool:
    """Try the model on two rows of four tokens, one with padding."""
    was_training, device = model.training, model.device
    mask_BT = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]], device=device)
    found = has_plain_head(model.eval(), torch.arange(8, device=device).reshape(2, 4), mask_BT)
    model.train(was_training)
    return found


def build_trainer(
    model: PreTrainedModel,
    arguments: TrainingArguments,
    examples: ExampleTable,
    collator: Collator,
    callbacks: Sequence[TrainerCallback],
    *,
    shuffles: bool = True,
) -> SupervisedTrainer:
    """Return a Trainer over the examples; its shuffling follows the seed, not the number of workers."""
    use_cache = bool(getattr(model.config, "use_cache", True))
    model.config.use_cache = False
    micro_batches = arguments.gradient_accumulation_steps * arguments.world_size
    trainer = SupervisedTrainer(
        global_batch_size=arguments.per_device_train_batch_size * micro_batches,
        shuffles=shuffles,
        model=model,
        args=arguments,
        train_dataset=examples,
        data_collator=collator,
        callbacks=[*callbacks, _CacheCallback(use_cache)],
    )
    trainer.remove_callback(PrinterCallback)
    return trainer
