"""The choices of a multiple-choice row, and which is right, in the ways that published sets write them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from s2l_ray.rows.missing import is_missing

LETTERS = "ABCDEFGHIJ"
"""Of choices, in order; no question of more choices is read."""
CHOICE_COLUMNS = ("choices", "options", "endings", "answer_choices")
ANSWER_COLUMNS = ("answerKey", "answer_key", "answer_idx", "answer_index", "correct", "correct_answer", "answer",
                  "label", "gold", "target")
_LETTERED = re.compile(r"\s*\(?([A-J])\s?[).:]\s*(?=\S)")


@dataclass(frozen=True, slots=True)
class Choices:
    """The texts in order, the labels that the row gives them, and the column that says which is right."""

    texts: tuple[str, ...]
    labels: tuple[str, ...]
    answer_column: str

    def index_of(self, value: Any) -> int | None:
        """Return which choice a row's answer means: by its label, its text, or its number (0 is the first)."""
        if isinstance(value, bool) or is_missing(value):
            return None
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        said = str(value).strip()
        for names in (self.labels, self.texts) if not isinstance(value, int) else (self.labels,):
            if said in names:
                return names.index(said)
        letter = said.strip("().: ").upper()
        if len(letter) == 1 and letter in LETTERS[: len(self.texts)]:
            return LETTERS.index(letter)
        return int(said) if said.isdecimal() and int(said) < len(self.texts) else None


def choices_of(row: Mapping[str, Any]) -> Choices | None:
    """Return the choices of a row, None where it has none with an answer beside them."""
    column = next((name for name in CHOICE_COLUMNS if not is_missing(row.get(name))), None)
    answer = next((name for name in ANSWER_COLUMNS if not is_missing(row.get(name))), None)
    if column is None or answer is None:
        return None
    found = _texts_and_labels(row[column])
    if found is None:
        return None
    texts, labels = found
    return Choices(texts, labels, answer) if 2 <= len(texts) <= len(LETTERS) and all(texts) else None


def _texts_and_labels(value: Any) -> tuple[tuple[str, ...], tuple[str, ...]] | None:
    """Read a list of texts, {text: [...], label: [...]}, {A: ..., B: ...}, or a list of {label, text}."""
    if isinstance(value, dict):
        texts, labels = value.get("text"), value.get("label")
        if not isinstance(texts, list):
            texts, labels = list(value.values()), list(value)
    elif isinstance(value, list) and value and all(isinstance(one, dict) for one in value):
        texts, labels = [one.get("text") for one in value], [one.get("label") for one in value]
    else:
        texts, labels = value, None
    if not isinstance(texts, list) or any(isinstance(text, (dict, list)) or is_missing(text) for text in texts):
        return None
    plain = [str(text).strip() for text in texts]
    lettered = [_LETTERED.match(text) for text in plain]
    if all(match and match[1] == letter for match, letter in zip(lettered, LETTERS, strict=False)):
        plain = [text[match.end() :] for text, match in zip(plain, lettered, strict=True) if match]
    has_labels = isinstance(labels, list) and len(labels) == len(plain) and not any(map(is_missing, labels))
    return tuple(plain), tuple(str(label).strip() for label in labels) if has_labels and labels else ()
