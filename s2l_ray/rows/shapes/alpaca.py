"""instruction, input, output, as Alpaca's rows are."""

from collections.abc import Mapping
from typing import Any

from s2l_ray.rows.conversation import Conversation, Turn
from s2l_ray.rows.shape import Shape
from s2l_ray.rows.turns import text


class Alpaca(Shape):
    """One exchange: an instruction with an optional input, and its output."""

    name = "alpaca"
    required = {"instruction": ("instruction",), "output": ("output", "response")}
    optional = {"input": ("input", "context")}
    precedence = 2

    def conversation(self, fields: Mapping[str, Any]) -> Conversation:
        """Return the exchange."""
        instruction = text(fields["instruction"], "instruction")
        context = "" if fields["input"] is None else text(fields["input"], "input", may_be_empty=True)
        return Conversation((Turn("user", instruction, context), Turn("assistant", text(fields["output"], "output"))))


SHAPE = Alpaca()
