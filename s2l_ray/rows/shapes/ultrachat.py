"""data: [text, text, ...], as UltraChat's rows are."""

from collections.abc import Mapping
from typing import Any

from s2l_ray.rows.conversation import Conversation
from s2l_ray.rows.shape import SYSTEM, Shape
from s2l_ray.rows.turns import conversation, turns


class UltraChat(Shape):
    """A list of texts, of user and assistant in turn."""

    name = "ultrachat"
    required = {"data": ("data",)}
    optional = {**SYSTEM}
    becomes = {"data": "turns of user and assistant in turn, up to the last assistant's"}
    precedence = 0

    def conversation(self, fields: Mapping[str, Any]) -> Conversation:
        """Return the turns up to the last answer."""
        return conversation(turns(fields["data"], "data"), "data", system=fields["system"])


SHAPE = UltraChat()
