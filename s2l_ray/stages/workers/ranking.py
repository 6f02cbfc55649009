"""Losses of the options of multiple-choice rows, each in the place of the row's own answer."""

import sys
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
from transformers import PreTrainedTokenizerBase

from s2l_ray.metrics.metric import Options
from s2l_ray.modeling.losses import LossScorer, table_losses
from s2l_ray.modeling.tokenization import Piece, Tokenization, TokenizedExample
from s2l_ray.rows.choices import LETTERS
from s2l_ray.rows.shape import to_conversation
from s2l_ray.stages.tasks import Task

_LETTERED = "multiple_choice"
"""The shape whose answers give the letter with the text; in rows of another shape an option is its text alone."""
_TOKENS = pa.schema([("input_ids", pa.list_(pa.int32())), ("supervised", pa.list_(pa.bool_()))])


def rank_options(
    scorer: LossScorer, tokenizer: PreTrainedTokenizerBase, rows: Iterable[Mapping[str, Any]], task: Task,
    batch_tokens: int,
) -> list[Options]:
    """Return the options of each row with their losses, all rows' options scored together."""
    data, shape = task.data, task.examples.manifest()["format"]
    tokenization = Tokenization(tokenizer, data.prompt_style, sys.maxsize, data.template_date, data.template_name)
    questions, pieces = [], []
    for row in rows:
        gold = task.gold_of(row)
        options = [f"({letter}) {text}" if shape == _LETTERED else text
                   for letter, text in zip(LETTERS, gold.choices, strict=False)]
        conversation = to_conversation(row, shape, data.columns, data.roles)
        *before, last = conversation.turns
        questions.append(([len(option) for option in options], LETTERS.index(gold.accepted[0])))
        for option in options:
            asked = replace(conversation, turns=(*before, replace(last, content=option, is_learned=True)))
            pieces.append(_option_alone(tokenization.render(asked), option))
    examples = [_cut_from_the_left(one, data.max_length) for one in tokenization.tokenize(pieces)]
    table = pa.table([[one.input_ids for one in examples], [one.learned for one in examples]], schema=_TOKENS)
    counts_N = np.array([one.learned.sum() for one in examples])
    sums = iter((table_losses([scorer], table, batch_tokens)[:, 0].astype(np.float64) * counts_N).tolist())
    return [Options(tuple(next(sums) for _ in lengths), tuple(lengths), right) for lengths, right in questions]


def _option_alone(pieces: list[Piece], option: str) -> list[Piece]:
    """Return the pieces with nothing supervised but the option's own text, without what ends it."""
    *before, last = [replace(piece, spans=(), is_end_learned=False) for piece in pieces]
    begin, end = pieces[-1].spans[-1]
    said = option.strip()
    at = last.text.find(said, begin, end)
    span = (begin, at + len(said) if at >= 0 else end)
    return [*before, replace(last, spans=(span,))]


def _cut_from_the_left(example: TokenizedExample, max_length: int) -> TokenizedExample:
    """Return what is left where the question is too long: its end, so that every option is whole."""
    return TokenizedExample(example.input_ids[-max_length:], example.supervised[-max_length:], example.full_length)
