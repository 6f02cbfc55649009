"""LLaMA-Factory: ShareGPT rows, dataset_info.json beside them, a YAML config.

From hiyouga/LLaMA-Factory, src/llamafactory/data/converter.py, formatter.py, template.py and parser.py, hparams, and
examples/train_full, as of 2026-08-18. Its `openai` formatting adds "detailed thinking off" to every system text, so the
rows are ShareGPT's; it skips rows whose turns do not alternate, with a warning alone, so they are refused here.
"""

import json
from itertools import groupby
from typing import Any

from s2l_ray.export.messages import (
    NOT_IN_TURN,
    NOT_LEARNED,
    SYSTEMS_JOINED,
    THOUGHTS_INLINE,
    TOOL_NAMES,
    alternates,
    has_several_systems,
    has_thoughts,
    has_tool_names,
    has_unlearned,
    rest_of,
    system_of,
    with_thoughts,
)
from s2l_ray.export.trainer import CONFIG, Trainer, Training, as_yaml
from s2l_ray.rows.chat_messages import calls_of
from s2l_ray.rows.conversation import Conversation, Turn

_BETWEEN_ANSWERS = "\n</tool_response>\n<tool_response>\n"  # as its own converter joins the answers of several tools
_DATASET = "s2l_subset"
_ADAPTERS = {"rank": "lora_rank", "alpha": "lora_alpha", "dropout": "lora_dropout", "target_modules": "lora_target",
             "rslora": "use_rslora", "dora": "use_dora", "save_embeddings": "additional_target"}


class LlamaFactory(Trainer):
    """One list of human and gpt, function_call and observation turns; system and tools beside it."""

    name = "llamafactory"
    title = "LLaMA-Factory"

    def lacks(self, conversation: Conversation) -> list[str]:
        """Return what a row of its layout cannot say."""
        return [what for what, is_so in ((NOT_LEARNED, has_unlearned(conversation)),
                                         (NOT_IN_TURN, not alternates(conversation))) if is_so]

    def changes(self, conversation: Conversation) -> list[str]:
        """Return what it writes otherwise."""
        return [what for what, is_so in ((THOUGHTS_INLINE, has_thoughts(conversation)),
                                         (TOOL_NAMES, has_tool_names(conversation)),
                                         (SYSTEMS_JOINED, has_several_systems(conversation))) if is_so]

    def row(self, conversation: Conversation) -> dict[str, Any]:
        """Return the turns, with both columns in every row: its converter reads them from each."""
        said = []
        for role, turns in groupby(rest_of(conversation), lambda turn: turn.role):
            if role == "tool":
                said.append({"from": "observation", "value": _BETWEEN_ANSWERS.join(turn.content for turn in turns)})
            else:
                said += [_said(turn) for turn in turns]
        return {"conversations": said, "system": system_of(conversation), "tools": conversation.tools}

    def files(self, training: Training) -> dict[str, str]:
        """Return the entry of the data set and the config."""
        columns = {"messages": "conversations", "system": "system", "tools": "tools"}
        entry = {"file_name": self.data_file, "formatting": "sharegpt", "columns": columns}
        config = {
            "model_name_or_path": training.model, "stage": "sft", "do_train": True,
            "finetuning_type": "lora" if training.target.lora else "full",
            "dataset_dir": ".", "dataset": _DATASET, "cutoff_len": training.max_length, "output_dir": "output",
            **training.hugging_face(), "warmup_ratio": training.target.warmup_fraction,
            **_adapters(training),
        }
        template = "template: names how LLaMA-Factory writes a chat; without it the tokenizer's own template is read"
        return {"dataset_info.json": json.dumps({_DATASET: entry}, indent=2) + "\n", CONFIG: as_yaml(config, template)}

    def start(self) -> str:
        """Return its command."""
        return f"llamafactory-cli train {CONFIG}"


def _adapters(training: Training) -> dict[str, Any]:
    """Return the settings of adapters; it takes lists as text with commas, and every linear layer as `all`."""
    found = training.adapters(_ADAPTERS) | ({"quantization_bit": training.bits} if training.bits else {})
    texts = {key: ",".join(value) for key, value in found.items() if isinstance(value, list)}
    return {**found, **texts, **({"lora_target": "all"} if texts.get("lora_target") == "all-linear" else {})}


def _said(turn: Turn) -> dict[str, str]:
    if turn.role == "user":
        return {"from": "human", "value": with_thoughts(turn)}
    text = with_thoughts(turn)
    if not turn.calls:
        return {"from": "gpt", "value": text}
    calls = json.dumps([call["function"] for call in calls_of(turn)], ensure_ascii=False)
    return {"from": "function_call", "value": f"{text}<tool_call>{calls}</tool_call>" if text else calls}


TRAINER = LlamaFactory()
