"""question, response, as OpenOrca's rows are, and many sets of questions with an answer or a solution."""

from collections.abc import Mapping
from typing import Any

from s2l_ray.rows.conversation import Conversation, Turn
from s2l_ray.rows.missing import is_missing
from s2l_ray.rows.shape import SYSTEM, Shape
from s2l_ray.rows.turns import conversation, text


class QuestionAnswer(Shape):
    """One question and its answer: a text, a number, true or false; of several accepted answers the first."""

    name = "question_answer"
    required = {"question": ("question", "query", "problem", "input"),
                "answer": ("response", "answer", "solution", "generated_solution", "output", "answers")}
    optional = {"context": ("context", "passage"), **SYSTEM}
    becomes = {"question": "the user turn", "answer": "the assistant turn; of several the first",
               "context": "part of the user turn"}
    precedence = -1

    def conversation(self, fields: Mapping[str, Any]) -> Conversation:
        """Return the exchange."""
        context = fields["context"] if isinstance(fields["context"], str) else ""
        asked = text(fields["question"], "question")
        answers = accepted_answers(fields["answer"])
        said = [Turn("user", asked, context), Turn("assistant", text(answers[0] if answers else "", "answer"))]
        return conversation(said, "the row", system=fields["system"])

    def unread(self, fields: Mapping[str, Any]) -> list[str]:
        """Return what holds accepted answers that are not learned, and a context that is no text."""
        several = ["answer beside the first"] if len(accepted_answers(fields["answer"])) > 1 else []
        return several + ["context"] * (not isinstance(fields.get("context", ""), str))


def accepted_answers(value: Any) -> list[Any]:
    """Return the answers that a field holds: one, a list, SQuAD's {text: [...]}, or TriviaQA's {value, aliases}.

    Numbers and truth values are given as text.
    """
    if isinstance(value, dict):
        texts = value.get("text")
        value = texts if isinstance(texts, list) else [value.get("value"), *(value.get("aliases") or ())]
    given = [one for one in (value if isinstance(value, list) else [value]) if not is_missing(one)]
    if any(isinstance(one, (list, dict)) for one in given):
        return given
    return list(dict.fromkeys(map(_as_text, given)))


def _as_text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


SHAPE = QuestionAnswer()
