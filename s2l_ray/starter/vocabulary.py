"""A tokenizer that is learned from the rows themselves: it fits any language and subject, and nothing is downloaded."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from s2l_ray.starter.look import Look

VOCABULARY = 4096
"""Tokens of the vocabulary at most; a small file gives fewer."""
_SAMPLED_ROWS = 5_000
_MAX_CHARS = 4_000  # of one text: what is longer teaches no further words
PAD, START, END = "<|pad|>", "<|im_start|>", "<|im_end|>"
_TEMPLATE = (
    "{%- if tools %}{{ '<|im_start|>tools\\n' }}{%- for tool in tools %}{{ tool | tojson + '\\n' }}{%- endfor %}"
    "{{ '<|im_end|>\\n' }}{%- endif %}"
    "{%- for message in messages %}{{ '<|im_start|>' + message.role + '\\n' }}"
    "{%- if message.reasoning_content %}{{ '<think>' + message.reasoning_content + '</think>\\n' }}{%- endif %}"
    "{{ message.content }}"
    "{%- for call in message.tool_calls or [] %}{{ '<tool_call>' + (call.function | tojson) + '</tool_call>' }}"
    "{%- endfor %}"
    "{{ '<|im_end|>\\n' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{%- endif %}"
)


def learn_tokenizer(look: Look, folder: Path) -> Path:
    """Return the folder of a byte-pair tokenizer learned from the rows; one that is there already is taken.

    It has a chat template (ChatML) with places for tools and thoughts.
    """
    parts = json.dumps([VOCABULARY, _TEMPLATE, *(scan.sha256 for scan in look.scans)])
    target = folder / f"tokenizer-{hashlib.sha256(parts.encode()).hexdigest()[:16]}"
    if (target / "tokenizer_config.json").is_file():
        return target
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=[PAD, START, END], show_progress=False, min_frequency=2,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    )
    tokenizer.train_from_iterator(_texts(look), trainer)
    target.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(target / "tokenizer.json"))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": PAD, "eos_token": END,
              "clean_up_tokenization_spaces": False, "chat_template": _TEMPLATE}
    (target / "tokenizer_config.json").write_text(json.dumps(config, indent=1), encoding="utf-8")
    return target


def _texts(look: Look) -> Iterator[str]:
    for _, conversation in look.conversations(_SAMPLED_ROWS):
        for turn in conversation.turns:
            yield from (text[:_MAX_CHARS] for text in (turn.content, turn.context, turn.thinking) if text)
