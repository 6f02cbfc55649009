"""Examples in another form, whose loss tells something that the loss trajectory does not."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
from transformers import PreTrainedTokenizerBase

from s2l_ray.modeling.key_parts import mask_key_parts
from s2l_ray.modeling.tokenization import Tokenization, TokenizedExample
from s2l_ray.recipe.data import DataConfig
from s2l_ray.recipe.scoring import ProbeConfig
from s2l_ray.rows.conversation import Conversation, Turn

_UNBOUNDED = 2**31


def without_prompt(examples: pa.Table, tokenizer: PreTrainedTokenizerBase) -> pa.Table:
    """Return the supervised tokens of each example alone, all of them still supervised.

    Before them stands the tokenizer's beginning-of-sequence token, or its end-of-sequence token where it has none, so
    that the first token too is predicted from something.
    """
    start = tokenizer.eos_token_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id
    rows = []
    for ids, supervised in zip(examples["input_ids"], examples["supervised"], strict=True):
        kept = ids.values.to_numpy()[supervised.values.to_numpy(zero_copy_only=False)]
        rows.append((np.concatenate([[start], kept]), np.arange(len(kept) + 1) > 0))
    return _table(rows)


def masked_prompt(
    conversations: Sequence[Conversation], num_supervised_N: np.ndarray, data: DataConfig,
    tokenizer: PreTrainedTokenizerBase,
) -> pa.Table:
    """Return the examples with the key parts of what users say masked (see `mask_key_parts`).

    Each keeps as many supervised tokens as the example has after truncation, so that both losses are about the
    same tokens.
    """
    tokenization = Tokenization(tokenizer, data.prompt_style, _UNBOUNDED, data.template_date, data.template_name)
    masked = [Conversation(tuple(map(_masked, conversation.turns))) for conversation in conversations]
    made = tokenization.tokenize([tokenization.render(conversation) for conversation in masked])
    return _table([_first_supervised(one, int(n)) for one, n in zip(made, num_supervised_N, strict=True)])


def judged(
    conversations: Sequence[Conversation], config: ProbeConfig, max_length: int, tokenizer: PreTrainedTokenizerBase
) -> pa.Table:
    """Return the question about each example, followed by the answer's first token, the only supervised one.

    exp(-loss) is then the probability of that answer. An example longer than `max_length` tokens is cut off in the
    question.
    """
    texts = ["\n\n".join(f"{turn.role}: {_said(turn)}" for turn in c.turns) for c in conversations]
    offsets = tokenizer(texts, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    cut = [text[: spans[:max_length][-1][1]] for text, spans in zip(texts, offsets, strict=True)]
    tokenization = Tokenization(tokenizer, config.question_style, _UNBOUNDED)
    asked = [tokenization.render(_question(text, config)) for text in cut]
    return _table([_first_supervised(one, 1) for one in tokenization.tokenize(asked)])


def _question(text: str, config: ProbeConfig) -> Conversation:
    question = config.question.replace("{example}", text)
    return Conversation((Turn("user", question), Turn("assistant", config.answer)))


def _masked(turn: Turn) -> Turn:
    if turn.role != "user":
        return turn
    return replace(turn, content=mask_key_parts(turn.content), context=mask_key_parts(turn.context))


def _said(turn: Turn) -> str:
    return f"{turn.content}\n\n{turn.context}" if turn.context else turn.content


def _first_supervised(tokens: TokenizedExample, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return ids and mask up to the `count`-th supervised token that has a token before it."""
    supervised = tokens.supervised.copy()
    supervised[0] = False
    places = np.flatnonzero(supervised)
    assert len(places), "an example without a supervised token must not reach a probe"
    end = places[: count][-1] + 1
    return tokens.input_ids[:end], supervised[:end]


def _table(rows: Sequence[tuple[np.ndarray, np.ndarray]]) -> pa.Table:
    """Return a table of input_ids and supervised."""
    return pa.table({
        "input_ids": pa.array([ids for ids, _ in rows], pa.list_(pa.int32())),
        "supervised": pa.array([supervised for _, supervised in rows], pa.list_(pa.bool_())),
    })
