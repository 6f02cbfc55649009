"""Axolotl: chat messages and a YAML config with `type: chat_template`.

From axolotl-ai-cloud/axolotl, docs/dataset-formats/conversation.qmd and src/axolotl/prompt_strategies/chat_template.py
(2026-07-24). Tools, and the arguments of calls, are JSON text there: else rows whose arguments differ in type clash.
"""

import json
from typing import Any

from s2l_ray.export.trainer import CONFIG, Trainer, Training, as_yaml
from s2l_ray.rows.chat_messages import message_of
from s2l_ray.rows.conversation import Conversation, Turn

_ADAPTERS = {"rank": "lora_r", "alpha": "lora_alpha", "dropout": "lora_dropout",
             "target_modules": "lora_target_modules", "rslora": "peft_use_rslora", "dora": "peft_use_dora",
             "save_embeddings": "lora_modules_to_save"}


class Axolotl(Trainer):
    """Messages as chat templates take them; an answer with train: false is only seen."""

    name = "axolotl"
    title = "Axolotl"

    def row(self, conversation: Conversation) -> dict[str, Any]:
        """Return the messages, and the tools where there are any."""
        tools = {"tools": conversation.tools} if conversation.tools else {}
        return {"messages": [_message(turn) for turn in conversation.turns], **tools}

    def files(self, training: Training) -> dict[str, str]:
        """Return the config."""
        target = training.target
        length = {"max_steps": target.max_steps} if target.epochs is None else {"num_epochs": target.epochs}
        config = {
            "base_model": training.model,
            "datasets": [{"path": self.data_file, "ds_type": "json", "type": "chat_template",
                          "field_messages": "messages", "field_tools": "tools", "roles_to_train": ["assistant"],
                          "message_field_training": "train"}],
            "sequence_len": training.max_length, "output_dir": "output", **length,
            "micro_batch_size": training.micro_batch, "gradient_accumulation_steps": training.accumulation,
            "optimizer": "adamw_torch", "learning_rate": target.learning_rate, "lr_scheduler": target.lr_schedule,
            "warmup_ratio": target.warmup_fraction, "weight_decay": target.weight_decay,
            "max_grad_norm": target.max_grad_norm, "bf16": target.precision != "fp32",
            "gradient_checkpointing": target.gradient_checkpointing, "seed": training.seed, "logging_steps": 10,
            **_adapters(training),
        }
        return {CONFIG: as_yaml(config, "chat_template: names another template than the tokenizer's own")}

    def start(self) -> str:
        """Return its command."""
        return f"axolotl train {CONFIG}"


def _adapters(training: Training) -> dict[str, Any]:
    """Return the settings of adapters; every linear layer has a switch of its own, and 4 bits another adapter."""
    if training.target.lora is None:
        return {}
    found = training.adapters(_ADAPTERS)
    if found["lora_target_modules"] == ["all-linear"]:
        del found["lora_target_modules"]
        found["lora_target_linear"] = True
    bits = {f"load_in_{training.bits}bit": True} if training.bits else {}
    return {"adapter": "qlora" if training.bits == 4 else "lora", **found, **bits}


def _message(turn: Turn) -> dict[str, Any]:
    message = message_of(turn)
    for call in message.get("tool_calls", ()):
        call["function"]["arguments"] = json.dumps(call["function"]["arguments"], ensure_ascii=False)
    return message if turn.is_learned else {**message, "train": False}


TRAINER = Axolotl()
