"""instruction, input, output, as Alpaca's rows are; system and history as LLaMA-Factory's."""

from collections.abc import Mapping
from typing import Any

from s2l_ray.rows.conversation import BadRow, Conversation, Turn
from s2l_ray.rows.missing import is_missing
from s2l_ray.rows.reasons import Reason
from s2l_ray.rows.shape import SYSTEM, TOOLS, Shape
from s2l_ray.rows.turns import conversation, optional_text, text


class Alpaca(Shape):
    """One exchange: an instruction with an optional input, and its output; earlier exchanges in history."""

    name = "alpaca"
    required = {"instruction": ("instruction",), "output": ("output", "response")}
    optional = {"input": ("input", "context"), "history": ("history",), **SYSTEM, **TOOLS}
    becomes = {"instruction": "the last user turn", "output": "the last assistant turn",
               "input": "the context of the last user turn", "history": "the turns before the instruction"}
    precedence = 2

    def conversation(self, fields: Mapping[str, Any]) -> Conversation:
        """Return the earlier exchanges and the last one."""
        instruction, context = text(fields["instruction"], "instruction"), optional_text(fields["input"], "input")
        last = [Turn("user", instruction, context), Turn("assistant", text(fields["output"], "output"))]
        said = [*_earlier(fields["history"]), *last]
        return conversation(said, "the row", system=fields["system"], tools=fields["tools"])


def _earlier(history: Any) -> list[Turn]:
    """Return the turns of a list of [question, answer] pairs."""
    if is_missing(history):
        return []
    turns = []
    for number, pair in enumerate(history if isinstance(history, list) else [history], start=1):
        if not isinstance(pair, list) or len(pair) != 2:
            raise BadRow(Reason.WRONG_TYPE, f"history: entry {number} is no pair of question and answer")
        asked, answer = (text(half, f"history: entry {number}") for half in pair)
        turns += [Turn("user", asked), Turn("assistant", answer)]
    return turns


SHAPE = Alpaca()
