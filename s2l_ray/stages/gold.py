"""Where a task's gold answers come from: found from the columns of its rows, or named by the recipe.

A preset is a way to read the gold answer of a row; `find_rule` takes the first that fits all rows.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, get_args

from s2l_ray.errors import InputError
from s2l_ray.metrics.answers import (
    boxed_answer,
    extract_answer,
    marked_answer,
    stated_answer,
    without_separators,
)
from s2l_ray.metrics.spelling import TRUTH
from s2l_ray.recipe.evaluation import GoldName
from s2l_ray.rows.choices import LETTERS, choices_of
from s2l_ray.rows.missing import is_missing
from s2l_ray.rows.shapes.question_answer import accepted_answers

_COLUMNS = ("final_answer", "expected_answer", "answer", "answers", "gold", "target")
_MAX_TEXT = 200  # characters of an answer; what is longer holds the answer among others
RESPONSE = "the response"
"""Instead of a column: the text that the row would teach."""


@dataclass(frozen=True, slots=True)
class Gold:
    """The accepted answers of a row, any of which is right, and the texts of its choices where it has some."""

    accepted: tuple[str, ...]
    choices: tuple[str, ...] = ()


class NoGoldError(Exception):
    """A row has no gold answer that the preset could read; says why."""


@dataclass(frozen=True)
class GoldRule:
    """How the gold answers of a task are read: a preset, and the column that it reads."""

    preset: str
    column: str
    examples: tuple[str, ...] = field(default=(), compare=False)

    def read(self, row: Mapping[str, Any], response: str) -> Gold:
        """Return a row's gold answer.

        Raises
        ------
        NoGoldError
            The column is empty, or holds nothing that the preset reads.
        """
        value = response if self.column == RESPONSE else row.get(self.column)
        if is_missing(value):
            raise NoGoldError(f"{self.column} is missing or empty")
        return _PRESETS[self.preset][1](value, row)

    @property
    def description(self) -> str:
        """Return what it is, in words."""
        return f"gold answers: {_PRESETS[self.preset][0]} {self.column}, such as {', '.join(self.examples)}"


def find_rule(rows: Sequence[tuple[Mapping[str, Any], str]], preset: GoldName, column: str | None) -> GoldRule:
    """Return how gold answers are read, from the (row, response) of a task.

    Raises
    ------
    InputError
        The column that is asked for is not there.
    """
    place = column or _column_of([row for row, _ in rows])
    names: list[str] = [preset] if preset != "auto" else list(_PRESETS)
    if column is not None and not any(column in row for row, _ in rows):
        there = ", ".join(dict.fromkeys(name for row, _ in rows for name in row))
        raise InputError(f"answer_column={column!r}: the task's rows have no such column; they have {there}")
    for name in names:
        given = _golds(GoldRule(name, place), rows)
        is_short = given is not None and place != RESPONSE and max(map(len, given)) <= _MAX_TEXT
        if given is not None and (is_short or name != "text" or name == preset):
            return GoldRule(name, place, tuple(dict.fromkeys(given))[:3])
    return GoldRule(names[-1], place)


def check_rows(rule: GoldRule, rows: Iterable[tuple[str, Mapping[str, Any], str]], task: str) -> None:
    """Refuse a task of which a row has no gold answer: of (place, row, response), the first one is named.

    Raises
    ------
    InputError
        A row has none.
    """
    for place, row, response in rows:
        try:
            rule.read(row, response)
        except NoGoldError as error:
            raise InputError(
                f"task {task}: {place} has no gold answer ({_PRESETS[rule.preset][0]} {rule.column}): {error}. Fill it "
                "in, leave the row out, or say with answer_column and gold where the answers are"
            ) from error


def checked_by(rule: GoldRule, row: Mapping[str, Any], response: str, asked: GoldName) -> Gold | None:
    """Return the answer of a row of a pool that a generated one can be checked by; None for one of free text.

    Where nobody said how answers are written and they stand in the responses, each in its way, one has to be marked as
    the answer (####, boxed, "the answer is"): the last number of any text is none.
    """
    if rule.preset == "last" and rule.column == RESPONSE and asked == "auto" and not (
            marked_answer(response) or boxed_answer(response) or stated_answer(response)):
        return None
    try:
        gold = rule.read(row, response)
    except NoGoldError:
        return None
    return gold if max(map(len, gold.accepted)) <= _MAX_TEXT else None


def _golds(rule: GoldRule, rows: Sequence[tuple[Mapping[str, Any], str]]) -> list[str] | None:
    """Return the rows' first accepted answers, None where the preset does not fit a row that holds anything."""
    found = []
    for row, response in rows:
        value = response if rule.column == RESPONSE else row.get(rule.column)
        if is_missing(value):
            continue
        try:
            found.append(rule.read(row, response).accepted[0])
        except NoGoldError:
            return None
    return found or None


def _column_of(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the column that holds gold answers: that of the right choice, or one that is called so."""
    for row in rows:
        found = choices_of(row)
        if found is not None:
            return found.answer_column
    filled = [name for name in _COLUMNS if any(not is_missing(row.get(name)) for row in rows)]
    empty = [name for name in _COLUMNS if any(name in row for row in rows)]
    return next(iter([*filled, *empty]), RESPONSE)


def _choice(value: Any, row: Mapping[str, Any]) -> Gold:
    found = choices_of(row)
    if found is None:
        raise NoGoldError("there are no choices beside it")
    right = found.index_of(value)
    if right is None:
        raise NoGoldError(f"{value!r} is none of the {len(found.texts)} choices")
    return Gold((LETTERS[right],), found.texts)


def _list(value: Any, row: Mapping[str, Any]) -> Gold:
    """Read a list of accepted answers: plain, SQuAD's {text: [...]}, or TriviaQA's {value, aliases}."""
    if not isinstance(value, (list, dict)):
        raise NoGoldError("it is no list of accepted answers")
    texts = [_plain(one) for one in accepted_answers(value)]
    if not texts:
        raise NoGoldError("none of the accepted answers holds anything")
    return Gold(tuple(texts))


def _boolean(value: Any, row: Mapping[str, Any]) -> Gold:
    truth = TRUTH.get(str(value).strip().lower())
    if truth is None:
        raise NoGoldError(f"{value!r} is neither true nor false, yes nor no")
    return Gold((truth,))


def _by(find: Callable[[str], str | None], what: str) -> Callable[[Any, Mapping[str, Any]], Gold]:
    def read(value: Any, row: Mapping[str, Any]) -> Gold:
        answer = find(value) if isinstance(value, str) else None
        if answer is None:
            raise NoGoldError(f"there is no {what} in {str(value)[-80:]!r}")
        return Gold((answer,))

    return read


def _text(value: Any, row: Mapping[str, Any]) -> Gold:
    return Gold((_plain(value),))


def _plain(value: Any) -> str:
    if isinstance(value, (dict, list)):
        raise NoGoldError(f"{str(value)[:80]} is no text or number")
    return str(value).strip()


def _last(value: Any, row: Mapping[str, Any]) -> Gold:
    """Read the answer of a rationale: what is extracted from a model's response too, else all of it, as a label is."""
    return Gold((extract_answer(_plain(value)) or _plain(value),))


_PRESETS: dict[str, tuple[str, Callable[[Any, Mapping[str, Any]], Gold]]] = {
    "choice": ("the choice that is named by", _choice),
    "list": ("any of the list in", _list),
    "boolean": ("yes or no from", _boolean),
    "gsm8k": ("what follows #### in", _by(lambda text: without_separators(marked_answer(text)),
                                          "#### followed by an answer")),
    "boxed": ("what is boxed in", _by(boxed_answer, "\\boxed{...}")),
    "stated": ("what is stated as the answer in", _by(stated_answer, '"the answer is ..."')),
    "text": ("all of", _text),
    "last": ("the last answer or number of", _last),
}
"""Each preset in words, and how it reads a value beside the rest of its row; auto takes the first that fits."""
assert {"auto", *_PRESETS} == set(get_args(GoldName))
