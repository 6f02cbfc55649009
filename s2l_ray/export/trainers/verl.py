"""verl: a Parquet file of messages and a config of its SFT trainer.

From verl-project/verl (volcengine/verl before), verl/utils/dataset/multiturn_sft_dataset.py,
verl/trainer/config/sft_trainer_engine.yaml and examples/sft/multiturn, as of 2026-08-22. Parquet has one struct for the
tools and calls of all rows, so each would come back with the others' parameters, as nulls: rows with tools are refused.
"""

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from s2l_ray.export.messages import NOT_LEARNED, has_tools, has_unlearned
from s2l_ray.export.trainer import CONFIG, Trainer, Training, as_yaml
from s2l_ray.recipe.training import TargetConfig
from s2l_ray.rows.chat_messages import message_of
from s2l_ray.rows.conversation import Conversation

_SCHEDULES = {"cosine": "cosine", "linear": "cosine", "constant_with_warmup": "constant"}
_BASE = "sft_trainer_engine"
_ADAPTERS = {"rank": "lora_rank", "alpha": "lora_alpha", "target_modules": "target_modules"}


class Verl(Trainer):
    """Messages as chat templates take them; every answer is learned."""

    name = "verl"
    title = "verl"
    data_file = "train.parquet"

    def lacks(self, conversation: Conversation) -> list[str]:
        """Return what a row of its layout cannot say."""
        return [what for what, is_so in ((NOT_LEARNED, has_unlearned(conversation)),
                                         ("tools", has_tools(conversation))) if is_so]

    def row(self, conversation: Conversation) -> dict[str, Any]:
        """Return the messages."""
        return {"messages": [message_of(turn) for turn in conversation.turns]}

    def write(self, rows: Iterable[Mapping[str, Any]], folder: Path) -> None:
        """Write the rows as Parquet."""
        pq.write_table(pa.Table.from_pylist([dict(row) for row in rows]), folder / self.data_file)

    def files(self, training: Training) -> dict[str, str]:
        """Return the config, on top of verl's own."""
        target = training.target
        batch = min(target.global_batch_size, training.num_rows)  # it drops a last batch that is not full
        epochs = target.epochs or (target.max_steps or 1) / max(1, training.num_rows // batch)
        config = {
            "defaults": [_BASE, "_self_"],
            "data": {"train_files": self.data_file, "messages_key": "messages", "train_batch_size": batch,
                     "micro_batch_size_per_gpu": min(training.micro_batch, batch),
                     "max_length": training.max_length, "truncation": "right"},
            "model": {"path": training.model, **_adapters(training)},
            "optim": {"lr": target.learning_rate, "lr_warmup_steps_ratio": target.warmup_fraction,
                      "weight_decay": target.weight_decay, "clip_grad": target.max_grad_norm,
                      "lr_scheduler_type": _SCHEDULES[target.lr_schedule]},
            "trainer": {"total_epochs": math.ceil(epochs), "total_training_steps": target.max_steps,
                        "seed": training.seed, "logger": ["console"], "project_name": "s2l", "experiment_name": "s2l",
                        "default_local_dir": "output"},
        }
        schedule = "lr_scheduler_type: verl has cosine and constant; total_epochs: whole ones, rounded up"
        absent = [f"target.{name} has no key here" for name, value in _unsaid(target).items() if value]
        return {CONFIG: as_yaml(config, schedule, *absent)}

    def start(self) -> str:
        """Return its command."""
        options = f'--config-dir="$PWD" --config-name={CONFIG.removesuffix(".yaml")}'
        return f"torchrun --standalone --nnodes=1 --nproc_per_node=1 -m verl.trainer.sft_trainer {options}"


def _unsaid(target: TargetConfig) -> dict[str, Any]:
    """Return what its config has no key for, by our settings' names."""
    lora = target.lora.model_dump() if target.lora is not None else {}
    names = ("dropout", "rslora", "dora", "save_embeddings")
    return {**{f"lora.{name}": lora.get(name) for name in names}, "quantize": target.quantize}


def _adapters(training: Training) -> dict[str, Any]:
    """Return the settings of adapters; a single name is no list there."""
    found = training.adapters(_ADAPTERS)
    return {key: value[0] if value == ["all-linear"] else value for key, value in found.items()}


TRAINER = Verl()
