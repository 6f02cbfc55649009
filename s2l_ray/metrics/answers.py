"""Find the final answer in a model's response or in a reference rationale.

What a model thinks before `</think>` is passed over. Then the last explicit sign of an answer wins, wherever it stands:

1. a `\\boxed{..}` or `\\fbox{..}` whose braces balance (the innermost, if nested), or `\\boxed 5`;
2. GSM8K's marker `#### x` that stands before a number or on the last line (else it is a heading);
3. "answer is x", "answer is: x", "Answer: x", "answer = x", up to the end of the sentence or line.

Without one:

4. multiple choice: "option (B)", "choice C", the last "(B)"; a text that opens with "B)" or "B. ", ends with "(b)", or
   is one letter;
5. the last number, with its sign, separators, fraction, exponent, percent sign; its unit is left out.
"""

import re
from collections import deque
from collections.abc import Callable
from typing import Literal

from s2l_ray.metrics.spelling import TRUTH, tidy

Kind = Literal["number", "choice", "boolean", "expression", "text"]
"""What the gold answer is: what is looked for where the response says more than the answer."""

_THOUGHTS_END = re.compile(r".*</think(?:ing)?>", re.S)
_BOX_TOKEN = re.compile(
    r"\\(?:boxed|fbox)\s*(?P<box>\{)|\\(?:boxed|fbox)\s+(?P<bare>[\w.,/+-]+)|\\.|[{}]", re.S
)
_MARKER = re.compile(r"(?<!#)####(?!#)[ \t]*")
_MARKED_NUMBER = re.compile(r"[*$\\\u00a3\u20ac\u2212 -]{0,8}\.?[0-9]")
_CUE = re.compile(
    r"\b(?:(?:answers?|correct (?:option|choice))(?: to (?:the|this|your) (?:question|problem))?[\s*_]*"
    r"(?:(?:is|are|was|(?:would|should|will|must) be)\b|[:=])|(?:final )?result is\b)[\s*_:=]*", re.I)
# A dot ends the sentence before a blank or the end, so not in 3.5 or 2 P.M.; nor does it after a title.
_SENTENCE_END = re.compile(r"(?<!\bMr)(?<!\bMs)(?<!\bMrs)(?<!\bDr)(?<!\bSt)[.?](?:[*_\"')$\]]*(?:\s|$))|\n")
# What follows an answer to explain it.
_CLAUSE = re.compile(
    r"(?:,?\s+\(?(?:because|since|as (?:it|they|he|she|we|the|there|this)|so that|given that|due to|where|which)\b"
    r"|,\s+(?:so|and so|as|for|while|but|not)\b|;)", re.I)

# After "answer", a capital A before a word is an article.
_CHOICE_NAMED = re.compile(
    r"\b(?:options?|choices?)\s+(?:is\s+|are\s+)?[\"'*_]*(?:\(([A-Ja-j])\)|([A-J])(?![\w']))"
    r"|\banswers?\s+(?:is\s+|are\s+)?[\"'*_]*(?:\(([A-Ja-j])\)|([A-J])(?![\w'])(?!\s+[a-z]))"
    r"|(?<![\w'])([A-J])[\"'*_)]*\s+is\s+(?:the\s+)?(?:correct|right|best|answer)\b"
    r"|\b(?:[Ii]t's|[Ii]t is|[Ss]o|[Tt]hus|[Tt]herefore|[Hh]ence|be),?\s+[\"'*_(]*([A-J])[\"'*_).!]*\s*$")
_CHOICE_CAPITAL = re.compile(r"(?<![\w)])\(\s?([A-J])\s?\)")
_CHOICE_AT_START = re.compile(r"[\s*_]*(?:\(?([A-Ja-j])\)|([A-J])[.:])(?=[\s,;.:*]|$)")
_CHOICE_AT_END = re.compile(r"(?<![\w)])\(\s?([a-j])\s?\)\.?$")
_CHOICE_ALONE = re.compile(r"[\s*_\"'(]*([A-Ja-j])[\s*_\"').]*")
_TRUTH_AT_START = re.compile(r"[\s*_\"'(]*(yes|no|true|false)\b", re.I)
_TRUTH_AT_END = re.compile(r"\b(not\s+)?(yes|no|true|false)[\s*_\"').!]*$", re.I)

_INTEGER = r"[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+"
_POWER_OF_TEN = r"\s?(?:\\times|\\cdot|\*|x|\u00d7)\s?10\^(?:-?[0-9]+|\{-?[0-9]+\})"
_EXPONENT = rf"[eE][+-]?[0-9]+(?![0-9A-Za-z])|\^(?:-?[0-9]+|\{{-?[0-9]+\}})|{_POWER_OF_TEN}"
# A minus counts only where it touches the number and nothing stands before it: `3-4` and `3 - 4` end in 4.
_NUMBER = re.compile(
    r"(?:(?<![\w.)\]}])[-\u2212]\$?)?"
    r"(?:(?:[0-9]+\s?)?\\[dt]?frac\{-?[0-9]+\}\{[0-9]+\}"
    r"|[0-9]{1,4} [0-9]{1,4}/[0-9]{1,4}(?![0-9/])"
    rf"|(?:{_INTEGER})(?:\.[0-9]+)?(?:{_EXPONENT}|\s?/\s?[0-9]+(?![0-9/]))?"
    r"|\.[0-9]+)(?:\s?\\?%)?"
)
_BEFORE_NUMBER = re.compile(
    r"(?:(?:about|approximately|roughly|around|exactly|only|just|rs\.?|usd)\s+|[\s*_$\\(\u00a3\u20ac~=])*", re.I)


def extract_answer(text: str, kind: Kind | None = None) -> str | None:
    """The final answer of `text`, or None: as written there, or with a kind, what of it is of that kind.

    Linear in the length of `text`; never raises. A bare label ("entailment") has no sign to be found by and
    gives None.
    """
    said = spoken(text)
    given = _explicit(said)
    if kind is None:
        return given or _choice_letter(said) or _last_number(said)
    return _OF_KIND[kind](given, said)


def spoken(text: str) -> str:
    """Return what a response says once it has thought: after the last `</think>`, nothing if the thought never ends."""
    end = _THOUGHTS_END.match(text)
    if end:
        return text[end.end() :]
    return text.partition("<think>")[0]


def without_reasons(answer: str) -> str:
    """Return an answer without what explains it: `5 because two and three make five` is 5."""
    clause = _CLAUSE.search(answer)
    return answer[: clause.start()].strip(" \t*_\"',") if clause and clause.start() else answer


def boxed_answer(text: str) -> str | None:
    """Return what the last box holds."""
    found = _boxed(text)
    return found and found[1]


def marked_answer(text: str) -> str | None:
    """Return what follows GSM8K's marker `####`."""
    found = _after_marker(text)
    return found and found[1]


def stated_answer(text: str) -> str | None:
    """Return what is stated as the answer, after "the answer is"."""
    found = _after_cue(text)
    return found and found[1]


def _explicit(text: str) -> str | None:
    """Return the answer that is called one last: in a box, after a marker or a cue."""
    found = [sign for sign in (_boxed(text), _after_marker(text), _after_cue(text)) if sign is not None]
    return max(found)[1] if found else None


def _boxed(text: str) -> tuple[int, str] | None:
    # One pass with a stack: looking for each box's end on its own would be quadratic on a million `\boxed{`.
    open_braces: list[tuple[int, bool]] = []
    last: tuple[int, int] | None = None
    for token in _BOX_TOKEN.finditer(text):
        if token["bare"] is not None:
            span = token.span("bare")
        elif token["box"] is not None or token[0] == "{":
            open_braces.append((token.end(), token["box"] is not None))
            continue
        elif token[0] == "}" and open_braces:
            start, is_box = open_braces.pop()
            if not is_box:
                continue
            span = start, token.start()
        else:
            continue
        # Boxes close inside out: the one that opens last wins. A blank one is no answer.
        if (last is None or span[0] > last[0]) and text[slice(*span)].strip():
            last = span
    return None if last is None else (last[0], text[slice(*last)].strip())


def _after_marker(text: str) -> tuple[int, str] | None:
    end = len(text.rstrip())
    is_last = True
    for marker in reversed(list(_MARKER.finditer(text, 0, end))):
        line_end = text.find("\n", marker.end(), end)
        stop = end if line_end < 0 else line_end
        if (is_last and line_end < 0) or _MARKED_NUMBER.match(text, marker.end()):
            answer = text[marker.end() : stop].strip(" \t*\r")
            return (marker.end(), answer) if answer else None
        is_last = False
    return None


def _after_cue(text: str) -> tuple[int, str] | None:
    for cue in reversed(list(_CUE.finditer(text))):
        end = _SENTENCE_END.search(text, cue.end())
        answer = text[cue.end() : end.start() if end else len(text)].strip(" \t*_\"'")
        # Blank after the last cue of a cut-off response: the one before it may have been answered.
        if answer:
            return cue.end(), answer
    return None


def _number(given: str | None, said: str) -> str | None:
    """Return the number that an explicit answer opens with, else its last, else that of the text."""
    if given is None:
        return without_separators(_last_number(said))
    clause = tidy(without_reasons(given).rpartition("=")[2])
    opening = _NUMBER.match(clause, _BEFORE_NUMBER.match(clause).end())  # type: ignore[union-attr]
    number = opening[0] if opening else _last_number(clause)
    return without_separators(number) or clause or None


def without_separators(number: str | None) -> str | None:
    """Return a number without separators of thousands, dollar signs, and blanks around a percent sign."""
    return None if number is None else re.sub(r"(?<=[0-9]),(?=[0-9]{3})|\s+(?=%)|\\(?=%)|\$", "", number)


def _choice(given: str | None, said: str) -> str | None:
    letter = None
    if given is not None:
        clause = without_reasons(given)
        letter = _letter_of(_CHOICE_ALONE.fullmatch(clause) or _CHOICE_AT_START.match(clause)) or _choice_letter(clause)
    letter = letter or _choice_letter(said)
    return letter.upper() if letter else None


def _boolean(given: str | None, said: str) -> str | None:
    for text in filter(None, (given if given is None else tidy(given), said)):
        opening = _TRUTH_AT_START.match(text)
        if opening:
            return TRUTH[opening[1].lower()]
        closing = _TRUTH_AT_END.search(text[-200:])
        if closing:
            found = TRUTH[closing[2].lower()]
            return {"yes": "no", "no": "yes"}[found] if closing[1] else found
    return None


def _expression(given: str | None, said: str) -> str | None:
    return (tidy(without_reasons(given)) or None) if given is not None else _last_number(said)


def _text(given: str | None, said: str) -> str | None:
    return given if given is not None else said.strip() or None


_OF_KIND: dict[Kind, Callable[[str | None, str], str | None]] = {
    "number": _number, "choice": _choice, "boolean": _boolean, "expression": _expression, "text": _text,
}


def _choice_letter(text: str) -> str | None:
    match = _CHOICE_ALONE.fullmatch(text) or _last_match(_CHOICE_NAMED, text) or _last_match(_CHOICE_CAPITAL, text)
    # A lower-case "(a)" in the middle of a text counts steps more often than it answers.
    return _letter_of(match or _CHOICE_AT_START.match(text) or _CHOICE_AT_END.search(text.rstrip()[-8:]))


def _letter_of(match: re.Match[str] | None) -> str | None:
    return next(letter for letter in match.groups() if letter) if match else None


def _last_number(text: str) -> str | None:
    number = _last_match(_NUMBER, text)
    return number[0] if number else None


def _last_match(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    return next(iter(deque(pattern.finditer(text), maxlen=1)), None)
