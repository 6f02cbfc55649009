"""Decide whether two final answers are the same answer.

The rules, in the order they are tried, each on answers whose LaTeX has been cleaned:

1. equal after `normalise_answer`: this covers labels ("Entailment." is "entailment"), LaTeX spelling
   (`\\dfrac12` is `\\frac{1}{2}`), and multiple choice ("(B)" is "b" is "B) 12 apples");
2. both numbers, within `numerals.numbers_close`; units, currency, percent and degree signs are dropped, never
   converted, so "50%" is 50 and not 0.5;
3. a choice with its text against that text ("(B) 12" is "12");
4. both lists of the same kind: tuples and intervals element by element in order, with the same brackets;
   `\\{..\\}` sets and bare lists ("1, 3", "x = 1 or x = 3") in any order.

No expression is evaluated, so `2\\sqrt{2}` is not `\\sqrt{8}`, and `x+1` is not `1+x`.
"""

import re
from collections.abc import Callable
from fractions import Fraction

from s2l_ray.metrics.numerals import format_number, numbers_close, parse_number

MAX_CHARS = 1000
"""Answers longer than this (blanks not counted) are compared as plain text, which bounds the work on them."""

_MAX_ELEMENTS = 64

_UNICODE = str.maketrans(
    {
        "\u2212": "-", "\u2013": "-", "\u2014": "-", "\u00b0": " ",
        "\u2018": "'", "\u2019": "'", "\u201c": '"', "\u201d": '"', "\u03c0": "\\pi ", "\u221e": "\\infty ",
        "\u222a": "\\cup ", "\u00d7": "*", "\u00b7": "*", "\u2248": "\\approx ", "\u2044": "/",
        "\u00a3": "", "\u20ac": "", "\u00a5": "", "\u20b9": "",
    }
)  # fmt: skip

_TEXT = r"\\(?:text|mbox|textbf|textit|textrm|textnormal|mathrm|mathbf|mathit|mathsf|operatorname|boxed|fbox)"

# (pattern, replacement) in order; every one is linear on text of at most a few thousand characters.
_LATEX_RULES = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"(?<!\\)\\!|\\(?:left|right)\s*\.|\\(?:left|right|[bB]igg?[lrm]?)(?![A-Za-z])", ""),
        (r"(?<!\\)\\[,;: ]|~|\\(?:displaystyle|limits|q?quad)(?![A-Za-z])", " "),
        (r"\{,\}", ","),
        (r"\\[dtc]frac(?![A-Za-z])", r"\\frac"),
        (r"\\(le|ge|ne)(?![A-Za-z])", r"\\\1q"),
        (r"\\(?:times|cdot)(?![A-Za-z])", "*"),
        (r"\^\s*\{\s*\\circ\s*\}|\^\s*\\circ(?![A-Za-z])|\\degree(?![A-Za-z])", " "),
        # `8\sqrt{3}\text{ square inches}`: text that opens with a blank after something is a unit.
        (rf"(?<=[0-9a-z}}\s])\s*{_TEXT}\s*\{{\s(?!\s*(?:and|or|[ap]\.?m)\b)[A-Za-z.\s]*\}}\s*$", ""),
        (rf"{_TEXT}\s*\{{([^{{}}]*)\}}", r" \1 "),
        (r"(?<!\\)\\[()\[\]]|\\?\$|\\?%", ""),
        (r"\\sqrt(?:\s*([0-9])|\s+([A-Za-z]))", r"\\sqrt{\1\2}"),
        (r"\\frac\s*([0-9])\s*", r"\\frac{\1}"),
        (r"(\\frac\s*\{[^{}]*\})\s*([0-9]|(?<=\s)[A-Za-z])", r"\1{\2}"),
        (r"([\^_])\s*\{\s*([0-9A-Za-z])\s*\}", r"\1\2"),
    )
)

_CASE = re.compile(r"(\\[A-Za-z]+)|[^\\]+|\\")
_LEAD_IN = re.compile(
    r"(?:(?:approximately|approx\.?|about|roughly|around|exactly|nearly|equal to|equals|the|option|choice|"
    r"answer|is|usd|rs\.?)\s+|(?:=|\\approx)\s*)+"
)
_LEFT_SIDE = re.compile(r"(?:[a-z]{1,2}|\\[A-Za-z]+|[0-9+\-*/(). ]+)\s*=\s*(?=\S)")
_NUMBER_IN_PARENS = re.compile(r"\(\s*([+-]?[0-9.]+)\s*\)|(-?)\s*\(\s*([0-9.]+\s*(?:/\s*[0-9.]+\s*)?)\)")

_CHOICE = re.compile(r"\(?\s*([a-z])\s*\)?")
_CHOICE_WITH_TEXT = re.compile(
    r"(?:\(\s*([a-j])\s*\)|([a-j])\s?\)|([a-j])[.:])\s+((?:[^\W_]|\\frac|-\s*[0-9]).*)", re.S
)
_LABEL = re.compile(r"(?:[^\W\d_]|[\s.,;:!?'\"()-])+")
_SLASH = re.compile(
    r"(?<![\w/)])([0-9]+|[0-9]*(?:\\pi|\\sqrt\{[^{}]*\}|(?<!\\)[a-z]))/([0-9]+|\\sqrt\{[^{}]*\})(?![\w/.])"
)
_SEPARATOR = re.compile(r"\s(?:and|or)\s|[,;]|[()\[\]{}]")


def normalise_answer(answer: str) -> str:
    """A canonical spelling of `answer`; applying it twice changes nothing.

    Numbers become `p` or `p/q` ("$1,234.50" -> "2469/2"), choices their lower-case letter, labels their
    letters alone ("Not sure!" -> "notsure"), all else LaTeX in lower case without blanks. Never raises.
    """
    return _until_stable(_normalise_once, answer)


def answers_equal(predicted: str | None, reference: str) -> bool:
    """Whether `predicted` is the reference answer, by the module's rules; None (no answer found) never is."""
    if predicted is None:
        return False
    normal_predicted, normal_reference = normalise_answer(predicted), normalise_answer(reference)
    if normal_predicted == normal_reference:
        # Two different strings of bare punctuation both normalise to "" and are no match.
        return bool(normal_reference) or predicted.strip() == reference.strip()
    if max(len(_compact(predicted)), len(_compact(reference))) > MAX_CHARS:
        return False
    first, second = clean(predicted), clean(reference)
    return _scalars_equal(first, second) or _choice_text_equal(first, second) or _lists_equal(first, second)


def clean(answer: str) -> str:
    """Lower case, few LaTeX spellings, no markup, no lead-in words ("about"), no `x =`; blanks are kept."""
    return _until_stable(_clean_once, answer)


def _until_stable(step: Callable[[str], str], text: str) -> str:
    # Repeating until nothing changes is what makes the result idempotent. Every pass unwraps at least one
    # level, and MAX_CHARS bounds the levels; the cap only guards against rules that undo each other.
    for _ in range(MAX_CHARS):
        changed = step(text)
        if changed == text:
            return text
        text = changed
    return _compact(text)


def _compact(text: str) -> str:
    return "".join(text.split())


def _clean_once(text: str) -> str:
    if len(_compact(text)) > MAX_CHARS:
        return _compact(text)
    text = " ".join(text.translate(_UNICODE).split())
    for pattern, replacement in _LATEX_RULES:
        text = pattern.sub(replacement, text)
    text = _CASE.sub(lambda match: match[1] or match[0].lower(), text)
    text = text.strip(" *_`\"'").rstrip(".,;:!?")
    for pattern in (_LEAD_IN, _LEFT_SIDE):
        match = pattern.match(text)
        text = text[match.end() :] if match else text
    in_parens = _NUMBER_IN_PARENS.fullmatch(text)
    return (in_parens[1] or in_parens[2] + in_parens[3].strip()) if in_parens else text


def _normalise_once(text: str) -> str:
    text = clean(text)
    if len(_compact(text)) > MAX_CHARS:
        return _compact(text)
    number = parse_number(text)
    if number is not None:
        return format_number(number)
    letter, _ = _choice(text)
    if letter:
        return letter
    if _LABEL.fullmatch(text) and re.search(r"[^\W\d_]{3}", text):
        return re.sub(r"[\W\d_]", "", text)
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


def _reading(text: str) -> tuple[str, Fraction | None]:
    return normalise_answer(text), parse_number(clean(text))


def _same(first: tuple[str, Fraction | None], second: tuple[str, Fraction | None]) -> bool:
    if first[1] is not None and second[1] is not None:
        return numbers_close(first[1], second[1])
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
