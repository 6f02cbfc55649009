"""conversations: [{from, value}], as ShareGPT's exports are."""

from collections.abc import Mapping
from typing import Any

from s2l_ray.rows.conversation import Conversation
from s2l_ray.rows.shape import Shape
from s2l_ray.rows.turns import conversation, turns


class ShareGPT(Shape):
    """A list of turns with from and value (role and content serve too)."""

    name = "sharegpt"
    required = {"conversations": ("conversations",)}
    precedence = 3

    def conversation(self, fields: Mapping[str, Any]) -> Conversation:
        """Return the turns up to the last answer."""
        return conversation(turns(fields["conversations"], "conversations"), "conversations")


SHAPE = ShareGPT()
