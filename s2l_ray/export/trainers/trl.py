"""TRL: conversational rows and a config of `trl sft`.

From huggingface/trl, docs/source/dataset_formats.md, trl/scripts/sft.py and utils.py, trl/trainer/sft_trainer.py
and model_config.py,
as of 2026-07-24. The loss is on the assistant's turns (assistant_only_loss), on all of them.
"""

from typing import Any

from s2l_ray.export.messages import NOT_LEARNED, has_unlearned
from s2l_ray.export.trainer import CONFIG, Trainer, Training, as_yaml
from s2l_ray.rows.chat_messages import message_of
from s2l_ray.rows.conversation import Conversation

_ADAPTERS = {"rank": "lora_r", "alpha": "lora_alpha", "dropout": "lora_dropout",
             "target_modules": "lora_target_modules", "rslora": "use_rslora", "dora": "use_dora",
             "save_embeddings": "lora_modules_to_save"}


class Trl(Trainer):
    """Messages as chat templates take them, tools as JSON text."""

    name = "trl"
    title = "TRL"

    def lacks(self, conversation: Conversation) -> list[str]:
        """Return what a row of its layout cannot say."""
        return [NOT_LEARNED] if has_unlearned(conversation) else []

    def row(self, conversation: Conversation) -> dict[str, Any]:
        """Return the messages, and the tools where there are any."""
        tools = {"tools": conversation.tools} if conversation.tools else {}
        return {"messages": [message_of(turn) for turn in conversation.turns], **tools}

    def files(self, training: Training) -> dict[str, str]:
        """Return the config."""
        config = {
            "model_name_or_path": training.model,
            "datasets": [{"path": "json", "data_files": self.data_file, "split": "train"}],
            "assistant_only_loss": True, "max_length": training.max_length, "output_dir": "output",
            **training.hugging_face(), "warmup_steps": training.target.warmup_fraction,
            **({"use_peft": True, **training.adapters(_ADAPTERS)} if training.target.lora else {}),
            **({f"load_in_{training.bits}bit": True} if training.bits else {}),
        }
        marks = ("assistant_only_loss needs a chat template with {% generation %} marks: TRL has one for many models, "
                 "and says so where it has none")
        return {CONFIG: as_yaml(config, marks, "warmup_steps below 1 is a share of the steps")}

    def start(self) -> str:
        """Return its command."""
        return f"trl sft --config {CONFIG}"


TRAINER = Trl()
