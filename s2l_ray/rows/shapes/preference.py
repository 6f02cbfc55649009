"""prompt, chosen, rejected, as preference data are: what was chosen is learned. Taken only where it is asked for."""

from collections.abc import Mapping
from typing import Any

from s2l_ray.rows.conversation import Conversation, Turn
from s2l_ray.rows.shape import SYSTEM, TOOLS, Shape
from s2l_ray.rows.turns import conversation, text, turns


class Preference(Shape):
    """A prompt and the answer that was chosen, as texts or as messages; or all messages in `chosen`."""

    name = "preference"
    required = {"chosen": ("chosen",)}
    optional = {"prompt": ("prompt", "question", "instruction"), **SYSTEM, **TOOLS}
    becomes = {"prompt": "the user turn, or a turn for each message; nothing where `chosen` holds all messages",
               "chosen": "the assistant turn, or a turn for each message, up to the last assistant's"}
    precedence = 0
    is_found = False

    def conversation(self, fields: Mapping[str, Any]) -> Conversation:
        """Return the prompt and the chosen answer."""
        prompt, chosen = fields["prompt"], fields["chosen"]
        if isinstance(chosen, str):
            said = [Turn("user", text(prompt, "prompt")), Turn("assistant", text(chosen, "chosen"))]
        else:
            said = turns(chosen, "chosen")
            if prompt is not None and all(turn.role == "assistant" for turn in said):
                before = [Turn("user", prompt)] if isinstance(prompt, str) else turns(prompt, "prompt")
                said = [*before, *said]
        return conversation(said, "prompt and chosen", system=fields["system"], tools=fields["tools"])


SHAPE = Preference()
