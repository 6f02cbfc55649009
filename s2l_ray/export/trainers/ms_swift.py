"""ms-swift: messages with the roles of its agent format and a YAML config of `swift sft`.

From modelscope/ms-swift, docs/source_en/Customization/Custom-dataset.md and Instruction/Agent-support.md,
swift/dataset/preprocessor/core.py and swift/cli/main.py, as of 2026-08-22.
"""

import json
from typing import Any

from s2l_ray.export.messages import (
    NOT_IN_TURN,
    SYSTEMS_JOINED,
    THOUGHTS_INLINE,
    TOOL_NAMES,
    alternates,
    has_several_systems,
    has_thoughts,
    has_tool_names,
    rest_of,
    system_of,
    with_thoughts,
)
from s2l_ray.export.trainer import CONFIG, Trainer, Training, as_yaml
from s2l_ray.rows.chat_messages import calls_of
from s2l_ray.rows.conversation import Conversation, Turn

_ADAPTERS = {"rank": "lora_rank", "alpha": "lora_alpha", "dropout": "lora_dropout", "target_modules": "target_modules",
             "rslora": "use_rslora", "dora": "use_dora", "save_embeddings": "modules_to_save"}


class MsSwift(Trainer):
    """Each call of a tool is a message of its own, tool_call; an answer with loss: false is only seen."""

    name = "ms_swift"
    title = "ms-swift"

    def lacks(self, conversation: Conversation) -> list[str]:
        """Return what a row of its layout cannot say."""
        return [] if alternates(conversation) else [NOT_IN_TURN]

    def changes(self, conversation: Conversation) -> list[str]:
        """Return what it writes otherwise."""
        return [what for what, is_so in ((THOUGHTS_INLINE, has_thoughts(conversation)),
                                         (TOOL_NAMES, has_tool_names(conversation)),
                                         (SYSTEMS_JOINED, has_several_systems(conversation))) if is_so]

    def row(self, conversation: Conversation) -> dict[str, Any]:
        """Return the messages, and the tools where there are any."""
        system = system_of(conversation)
        messages = [{"role": "system", "content": system}] if system else []
        for turn in rest_of(conversation):
            messages += _messages(turn)
        return {"messages": messages, **({"tools": conversation.tools} if conversation.tools else {})}

    def files(self, training: Training) -> dict[str, str]:
        """Return the config."""
        config = {
            "model": training.model, "tuner_type": "lora" if training.target.lora else "full",
            "dataset": [self.data_file],
            "max_length": training.max_length, "truncation_strategy": "right", "output_dir": "output",
            **training.hugging_face(), "warmup_ratio": training.target.warmup_fraction,
            **training.adapters(_ADAPTERS),
            **({"quant_method": "bnb", "quant_bits": training.bits} if training.bits else {}),
        }
        return {CONFIG: as_yaml(config, "every key is an option of `swift sft`")}

    def start(self) -> str:
        """Return its command."""
        return f"swift sft {CONFIG}"


def _messages(turn: Turn) -> list[dict[str, Any]]:
    if turn.role == "user":
        return [{"role": "user", "content": with_thoughts(turn)}]
    if turn.role == "tool":
        return [{"role": "tool_response", "content": turn.content}]
    loss = {} if turn.is_learned else {"loss": False}
    text, calls = with_thoughts(turn), [call["function"] for call in calls_of(turn)]
    said = [{"role": "assistant", "content": text, **loss}] if text or not calls else []
    return said + [{"role": "tool_call", "content": json.dumps(call, ensure_ascii=False), **loss} for call in calls]


TRAINER = MsSwift()
