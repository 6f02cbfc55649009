"""prompt and completion, as texts or as lists of messages."""

from collections.abc import Mapping
from typing import Any

from s2l_ray.rows.conversation import BadRow, Conversation, Turn
from s2l_ray.rows.reasons import Reason
from s2l_ray.rows.shape import SYSTEM, TOOLS, Shape
from s2l_ray.rows.turns import conversation, text, turns


class PromptCompletion(Shape):
    """One exchange of two texts, or two lists of {role, content} that follow each other."""

    name = "prompt_completion"
    required = {"prompt": ("prompt", "inputs", "user"),
                "completion": ("completion", "response", "output", "targets", "assistant")}
    optional = {**SYSTEM, **TOOLS}
    becomes = {"prompt": "the user turn, or a turn for each message",
               "completion": "the assistant turn, or a turn for each message, up to the last assistant's"}
    precedence = 1

    def conversation(self, fields: Mapping[str, Any]) -> Conversation:
        """Return the exchange, or the turns of both lists up to the last answer."""
        prompt, completion = fields["prompt"], fields["completion"]
        beside = {"system": fields["system"], "tools": fields["tools"]}
        if isinstance(prompt, list) and isinstance(completion, list):
            answers = turns(completion, "completion")
            if not any(turn.role == "assistant" for turn in answers):
                raise BadRow(Reason.MISSING_FIELD, "completion has no assistant turn")
            return conversation(turns(prompt, "prompt") + answers, "prompt and completion", **beside)
        if isinstance(prompt, list) or isinstance(completion, list):
            raise BadRow(Reason.WRONG_TYPE, "prompt and completion must both be texts or both be message lists")
        asked, answer = text(prompt, "prompt"), text(completion, "completion")
        return conversation([Turn("user", asked), Turn("assistant", answer)], "the row", **beside)


SHAPE = PromptCompletion()
