"""messages: [{role, content}], as chat models are served."""

from collections.abc import Mapping
from typing import Any

from s2l_ray.rows.conversation import Conversation
from s2l_ray.rows.shape import SYSTEM, TOOLS, Shape
from s2l_ray.rows.turns import conversation, turns


class Messages(Shape):
    """A list of turns with role and content; a content may be a list of {type: text, text} parts."""

    name = "messages"
    required = {"messages": ("messages", "dialogue", "dialog", "chat")}
    optional = {**SYSTEM, **TOOLS}
    becomes = {"messages": "a turn for each message, up to the last assistant's"}
    precedence = 4

    def conversation(self, fields: Mapping[str, Any]) -> Conversation:
        """Return the turns up to the last answer."""
        said = turns(fields["messages"], "messages")
        return conversation(said, "messages", system=fields["system"], tools=fields["tools"])


SHAPE = Messages()
