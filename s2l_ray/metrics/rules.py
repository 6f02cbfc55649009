"""Our own rules for whether two final answers are the same answer, tried in this order on tidied answers:

1. equal after `normalise_answer`: this covers labels ("Entailment." is "entailment"), LaTeX spelling
   (`\\dfrac12` is `\\frac{1}{2}`), and multiple choice ("(B)" is "b" is "B) 12 apples");
2. both numbers, within `numerals.numbers_close`; a unit is dropped where only one has it, never converted, and two
   measures that differ (5 cm, 5 m) are two answers; where one is a percentage, "50%" is 50 and 0.5;
3. yes is true, no is false;
4. a choice with its text against that text ("(B) 12" is "12");
5. both lists of the same kind: tuples and intervals element by element in order, with the same brackets;
   `\\{..\\}` sets and bare lists ("1, 3", "x = 1 or x = 3") in any order.

No expression is evaluated here: see `symbolic.py`, which is asked where these rules are not sure.
"""

import re

from s2l_ray.metrics.numerals import Quantity, format_number, numbers_close, parse_number, parse_quantity
from s2l_ray.metrics.spelling import FACTORIAL, TRUTH, clean, compact, is_long, tidy, until_stable

_MAX_ELEMENTS = 64

_CHOICE = re.compile(r"\(?\s*([a-z])\s*\)?")
_CHOICE_WITH_TEXT = re.compile(
    r"(?:\(\s*([a-j])\s*\)|([a-j])\s?\)|([a-j])[.:])\s+((?:[^\W_]|\\frac|-\s*[0-9]).*)", re.S
)
_LABEL = re.compile(r"(?:[^\W\d_]|[\s.,;:!?'\"()-])+")
_SLASH = re.compile(
    r"(?<![\w/)])([0-9]+|[0-9]*(?:\\pi|\\sqrt\{[^{}]*\}|(?<!\\)[a-z]))/([0-9]+|\\sqrt\{[^{}]*\})(?![\w/.])"
)
_SEPARATOR = re.compile(r"\s(?:and|or)\s|[,;]|[()\[\]{}]")


_WORD = re.compile(r"(?<![\\A-Za-z])[^\W\d_]{3,}")
_NO_WORDS = frozenset(("and", "or", "ln", "sin", "cos", "tan", "cot", "sec", "csc", "log", "exp", "max", "min",
                       "mod", "lim"))


def normalise_answer(answer: str) -> str:
    """A canonical spelling of `answer`; applying it twice changes nothing.

    Numbers become `p` or `p/q` ("$1,234.50" -> "2469/2"), choices their lower-case letter, labels their
    letters alone ("Not sure!" -> "notsure"), all else LaTeX in lower case without blanks. Never raises.
    """
    return until_stable(_normalise_once, answer)


def verdict(predicted: str, reference: str) -> bool | None:
    """Whether two answers are the same by these rules; None where they are not, but mathematics could say so."""
    normal_predicted, normal_reference = normalise_answer(predicted), normalise_answer(reference)
    first, second = clean(predicted), clean(reference)
    one, other = parse_quantity(first), parse_quantity(second)
    if one is not None and other is not None:
        may_be_factorial = FACTORIAL.search(tidy(predicted)) or FACTORIAL.search(tidy(reference))
        return _quantities_equal(one, other) or (None if may_be_factorial else False)
    if normal_predicted == normal_reference:
        # Two different strings of bare punctuation both normalise to "" and are no match.
        return bool(normal_reference) or predicted.strip() == reference.strip()
    if is_long(predicted) or is_long(reference):
        return False
    if _scalars_equal(first, second) or _choice_text_equal(first, second) or _lists_equal(first, second):
        return True
    return False if _differ_surely(first, second) else None


def _differ_surely(first: str, second: str) -> bool:
    """Tell whether mathematics has nothing to say: to words, lists of numbers, a variable beside none."""
    if is_no_mathematics(first) or is_no_mathematics(second) or _variables_differ(first, second):
        return True
    if _choice(first)[0] and _choice(second)[0]:
        return True
    lists = _elements(first)[1], _elements(second)[1]
    return all(len(elements) > 1 and all(map(parse_quantity, elements)) for elements in lists)


def _variables_differ(first: str, second: str) -> bool:
    """Tell whether one side has variables and the other none; x > 2 may be written as an interval."""
    return bool(_variables(first)) != bool(_variables(second)) and not re.search(r"[<>]|\\[lg]eq", first + second)


def _variables(text: str) -> set[str]:
    """Return the letters of an expression that stand for anything: not i and e, and none of a function's name."""
    words = re.findall(r"[a-z]+", re.sub(r"\\[A-Za-z]+", " ", text))
    return set("".join(word for word in words if word not in _NO_WORDS)) - {"e", "i"}


def is_no_mathematics(text: str) -> bool:
    """Tell whether an answer is a choice or words, which mathematics would take apart: Treaty of Paris (1783)."""
    words = [word for word in _WORD.findall(text) if word not in _NO_WORDS]
    return bool(words) or not text or bool(_choice(text)[0] and _choice(text)[1]) or not re.search(r"[0-9a-z\\]", text)


def _quantities_equal(first: Quantity, second: Quantity) -> bool:
    """Tell whether two numbers are the same; 50% is 50, and 0.5."""
    measures = {first.measure, second.measure} - {""}
    if len(measures) == 2:
        return False
    if numbers_close(first.value, second.value):
        return True
    if measures != {"%"} or first.measure == second.measure:
        return False
    percent, plain = (first, second) if first.measure == "%" else (second, first)
    return numbers_close(percent.value / 100, plain.value)


def _normalise_once(text: str) -> str:
    text = clean(text)
    if is_long(text):
        return compact(text)
    number = parse_number(text)
    if number is not None:
        return format_number(number)
    letter, _ = _choice(text)
    if letter:
        return letter
    if _LABEL.fullmatch(text) and re.search(r"[^\W\d_]{2}", text):
        letters = re.sub(r"[\W\d_]", "", text)
        return TRUTH.get(letters, letters) if letters in TRUTH or len(letters) > 2 else compact(text)
    text = re.sub(r"(?<=[a-z])\.(?![0-9])", "", text)
    # A command keeps one blank before a letter: `\pi r` must not become the command `\pir`.
    text = re.sub(r"(\\[A-Za-z]+)\s+(?=[A-Za-z])|\s+", lambda match: f"{match[1]} " if match[1] else "", text)
    return _SLASH.sub(r"\\frac{\1}{\2}", text)


def _choice(text: str) -> tuple[str, str]:
    """Letter and text of a multiple-choice answer; ("", "") where `text` is not one."""
    alone = _CHOICE.fullmatch(text)
    if alone:
        return alone[1], ""
    with_text = _CHOICE_WITH_TEXT.fullmatch(text)
    if with_text:
        return with_text[1] or with_text[2] or with_text[3], with_text[4]
    return "", ""


def _scalars_equal(first: str, second: str) -> bool:
    return _same(_reading(first), _reading(second))


def _reading(text: str) -> tuple[str, Quantity | None]:
    return normalise_answer(text), parse_quantity(clean(text))


def _same(first: tuple[str, Quantity | None], second: tuple[str, Quantity | None]) -> bool:
    if first[1] is not None and second[1] is not None:
        return _quantities_equal(first[1], second[1])
    return first[0] == second[0]


def _choice_text_equal(first: str, second: str) -> bool:
    (first_letter, first_text), (second_letter, second_text) = _choice(first), _choice(second)
    if bool(first_letter) == bool(second_letter):
        return False
    return _scalars_equal(first_text, second) if first_letter else _scalars_equal(first, second_text)


def _lists_equal(first: str, second: str) -> bool:
    first_kind, first_elements = _elements(first)
    second_kind, second_elements = _elements(second)
    if first_kind != second_kind or len(first_elements) != len(second_elements) or len(first_elements) < 2:
        return False
    readings = [_reading(element) for element in first_elements]
    remaining = [_reading(element) for element in second_elements]
    if first_kind != "set":
        return all(_same(a, b) for a, b in zip(readings, remaining, strict=True))
    if len(readings) > _MAX_ELEMENTS:
        return False
    for reading in readings:
        match = next((index for index, other in enumerate(remaining) if _same(reading, other)), None)
        if match is None:
            return False
        del remaining[match]
    return True


def _elements(text: str) -> tuple[str, list[str]]:
    """Kind of list ("()", "[)", .., or "set" for braces and bare lists) and its elements at the top level."""
    text = text.strip()
    kind = "set"
    if text.startswith("\\{") and text.endswith("\\}"):
        text = text[2:-2]
    elif text[:1] in ("(", "[", "{") and text[-1:] in (")", "]", "}") and _closes_at_end(text):
        kind = "set" if text[0] == "{" else text[0] + text[-1]
        text = text[1:-1]
    elements, depth, start = [], 0, 0
    for match in _SEPARATOR.finditer(text):
        if match[0] in "([{":
            depth += 1
        elif match[0] in ")]}":
            depth -= 1
        elif depth == 0:
            elements.append(text[start : match.start()])
            start = match.end()
    elements.append(text[start:])
    # "1, 2, and 3" leaves a blank element between the comma and the word.
    return kind, [element.strip() for element in elements if element.strip()]


def _closes_at_end(text: str) -> bool:
    """Whether the last character closes the bracket that opens `text`: in `(1, 2)`, not in `(1) + (2)`."""
    depth = 0
    for position, character in enumerate(text):
        depth += (character in "([{") - (character in ")]}")
        if depth == 0:
            return position == len(text) - 1
    return False
