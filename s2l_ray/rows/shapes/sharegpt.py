"""conversations: [{from, value}], as ShareGPT's exports are, or LIMA's texts of user and assistant in turn."""

from collections.abc import Mapping
from typing import Any

from s2l_ray.rows.conversation import Conversation
from s2l_ray.rows.shape import SYSTEM, TOOLS, Shape
from s2l_ray.rows.turns import conversation, turns


class ShareGPT(Shape):
    """A list of turns with from and value (role and content serve too), or of texts."""

    name = "sharegpt"
    required = {"conversations": ("conversations", "conversation")}
    optional = {**SYSTEM, **TOOLS}
    becomes = {"conversations": "a turn for each message, up to the last assistant's"}
    precedence = 3

    def conversation(self, fields: Mapping[str, Any]) -> Conversation:
        """Return the turns up to the last answer."""
        said = turns(fields["conversations"], "conversations")
        return conversation(said, "conversations", system=fields["system"], tools=fields["tools"])


SHAPE = ShareGPT()
