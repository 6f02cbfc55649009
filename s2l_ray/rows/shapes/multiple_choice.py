"""A question, its choices, and which is right, as MMLU's, ARC's, HellaSwag's, AQuA's and others' rows are."""

from collections.abc import Mapping
from typing import Any

from s2l_ray.rows.choices import ANSWER_COLUMNS, CHOICE_COLUMNS, LETTERS, choices_of
from s2l_ray.rows.conversation import BadRow, Conversation, Turn
from s2l_ray.rows.reasons import Reason
from s2l_ray.rows.shape import SYSTEM, Shape
from s2l_ray.rows.turns import conversation, optional_text, text


class MultipleChoice(Shape):
    """One question with lettered choices; the answer is the right letter, after a rationale where the row has one."""

    name = "multiple_choice"
    required = {"question": ("question", "question_stem", "query", "ctx", "instruction"), "choices": CHOICE_COLUMNS,
                "answer": ANSWER_COLUMNS}
    optional = {"rationale": ("rationale", "explanation", "solution", "response", "output"),
                "context": ("context", "passage", "support"),
                **SYSTEM}
    becomes = {"question": "the user turn", "choices": "lettered lines of the user turn",
               "answer": "the assistant turn: letter and text of the right choice", "context": "part of the user turn",
               "rationale": "the assistant turn's text before the answer"}
    precedence = 0

    def conversation(self, fields: Mapping[str, Any]) -> Conversation:
        """Return the exchange."""
        context = fields["context"] if isinstance(fields["context"], str) else ""
        asked = text(fields["question"], "question")
        rationale = optional_text(fields["rationale"], "rationale")
        found = choices_of({"choices": fields["choices"], "answer": fields["answer"]})
        if found is None:
            raise BadRow(Reason.WRONG_TYPE, f"choices: expected 2 to {len(LETTERS)} texts, with labels or without")
        right = found.index_of(fields["answer"])
        if right is None:
            raise BadRow(Reason.WRONG_TYPE, f"answer: {fields['answer']!r} is none of the {len(found.texts)} choices")
        lettered = [f"({letter}) {choice}" for letter, choice in zip(LETTERS, found.texts, strict=False)]
        answer = f"({LETTERS[right]}) {found.texts[right]}"
        said = f"{rationale}\nThe answer is {answer}" if rationale else answer
        turns = [Turn("user", "\n".join([asked, *lettered]), context), Turn("assistant", said)]
        return conversation(turns, "the row", system=fields["system"])

    def unread(self, fields: Mapping[str, Any]) -> list[str]:
        """Return a context that is no text."""
        return ["context"] * (not isinstance(fields.get("context", ""), str))


SHAPE = MultipleChoice()
