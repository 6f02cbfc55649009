"""question, response, as OpenOrca's rows are, and many sets of questions with an answer or a solution."""

from collections.abc import Mapping
from typing import Any

from s2l_ray.rows.conversation import Conversation, Turn
from s2l_ray.rows.shape import SYSTEM, Shape
from s2l_ray.rows.turns import conversation, text


class QuestionAnswer(Shape):
    """One question and its answer."""

    name = "question_answer"
    required = {"question": ("question", "query", "problem"), "answer": ("response", "answer", "solution")}
    optional = {**SYSTEM}
    precedence = 0

    def conversation(self, fields: Mapping[str, Any]) -> Conversation:
        """Return the exchange."""
        asked, answer = text(fields["question"], "question"), text(fields["answer"], "answer")
        return conversation([Turn("user", asked), Turn("assistant", answer)], "the row", system=fields["system"])


SHAPE = QuestionAnswer()
