"""What a trainer is to an export: rows of its layout, a config, the command that starts it."""

import json
import shlex
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import yaml

from s2l_ray.recipe.training import TargetConfig
from s2l_ray.rows.conversation import Conversation

CONFIG = "train.yaml"


@dataclass(frozen=True)
class Training:
    """What is trained on the subset, and how: the run's own target."""

    model: str
    """Hub name or folder."""
    target: TargetConfig
    max_length: int
    """Tokens kept of a row."""
    seed: int
    num_rows: int

    @property
    def accumulation(self) -> int:
        """Return the passes of one device in one step of the target's global batch."""
        return max(1, self.target.global_batch_size // self.micro_batch)

    @property
    def micro_batch(self) -> int:
        """Return the examples in one pass of one device."""
        return self.target.unmeasured_micro_batch(num_workers=1)

    @property
    def bits(self) -> int | None:
        """Return the bits that a frozen weight is held in, None where they are not fewer."""
        return None if self.target.quantize is None else {"nf4": 4, "int8": 8}[self.target.quantize]

    def adapters(self, keys: Mapping[str, str]) -> dict[str, Any]:
        """Return what a trainer is told of the target's adapters, by our setting -> its key; nothing without adapters.

        Embeddings and head, where they are trained whole, are named as most models of today name them.
        """
        lora = self.target.lora
        if lora is None:
            return {}
        alpha = int(lora.alpha) if lora.alpha.is_integer() else lora.alpha
        layers = [lora.target_modules] if isinstance(lora.target_modules, str) else lora.target_modules
        said = {**lora.model_dump(), "alpha": alpha, "target_modules": layers}
        if lora.save_embeddings:
            said["save_embeddings"] = ["embed_tokens", "lm_head"]
        return {key: said[setting] for setting, key in keys.items() if said[setting] is not False}

    def hugging_face(self) -> dict[str, Any]:
        """Return the settings as transformers' TrainingArguments are named, but the warm-up, whose name changed."""
        target = self.target
        length = {"max_steps": target.max_steps} if target.epochs is None else {"num_train_epochs": target.epochs}
        return {
            **length, "per_device_train_batch_size": self.micro_batch,
            "gradient_accumulation_steps": self.accumulation, "learning_rate": target.learning_rate,
            "lr_scheduler_type": target.lr_schedule, "weight_decay": target.weight_decay,
            "max_grad_norm": target.max_grad_norm, "bf16": target.precision != "fp32",
            "gradient_checkpointing": target.gradient_checkpointing, "seed": self.seed, "logging_steps": 10,
        }


class Trainer(ABC):
    """A program that fine-tunes, and the layout that it reads."""

    name: ClassVar[str]
    """As its module is called; a dash may stand for its underscore."""
    title: ClassVar[str]
    """As its makers call it."""
    data_file: ClassVar[str] = "train.jsonl"
    min_rows: ClassVar[int] = 1
    needs_model: ClassVar[bool] = True
    """Whether its config names the model of the run's target."""

    def lacks(self, conversation: Conversation) -> list[str]:
        """Return the parts of a conversation that its layout has no place for: the row cannot be exported."""
        return []

    def changes(self, conversation: Conversation) -> list[str]:
        """Return the parts that are written otherwise than they stand in the row, or are left out."""
        return []

    @abstractmethod
    def row(self, conversation: Conversation) -> dict[str, Any]:
        """Return a conversation, of which nothing lacks, in its layout."""

    @abstractmethod
    def files(self, training: Training) -> dict[str, str]:
        """Return the files beside the rows, by name: a minimal config."""

    @abstractmethod
    def start(self) -> str:
        """Return the command that starts the training from within the folder."""

    def write(self, rows: Iterable[Mapping[str, Any]], folder: Path) -> None:
        """Write the rows, one by one."""
        with (folder / self.data_file).open("w", encoding="utf-8") as file:
            file.writelines(_lines(rows))

    def command(self, folder: Path) -> str:
        """Return the one command that starts the training."""
        return f"cd {shlex.quote(str(folder))} && {self.start()}"


def _lines(rows: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    return (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def as_yaml(config: Mapping[str, Any], *comments: str) -> str:
    """Return a config as YAML, with lines of comment above it."""
    heading = "".join(f"# {comment}\n" for comment in comments)
    # Floats as 2.0e-05: YAML readers of version 1.1 take 2e-05 for a text.
    return heading + yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True)
