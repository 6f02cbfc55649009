"""Find the final answer in a model's response or in a reference rationale, and judge a response by it.

`extract_answer` looks for, in this order:

1. the last `\\boxed{..}` or `\\fbox{..}` whose braces balance (the innermost, if nested), or `\\boxed 5`;
2. the last GSM8K marker `#### x` that stands before a number or on the last line (else it is a heading);
3. the last "answer is x", "answer is: x", "Answer: x", "answer = x", up to the end of the sentence or line;
4. multiple choice: the last "(B)"; or a text that opens with "B)" or "B. ", ends with "(b)", is one letter;
5. the last number, with its sign, separators, fraction, exponent; its unit is left out.
"""

import re
from collections import deque

from s2l_ray.metrics.equality import answers_equal

_BOX_TOKEN = re.compile(
    r"\\(?:boxed|fbox)\s*(?P<box>\{)|\\(?:boxed|fbox)\s+(?P<bare>[\w.,/+-]+)|\\.|[{}]", re.S
)
_MARKER = re.compile(r"(?<!#)####(?!#)[ \t]*")
_MARKED_NUMBER = re.compile(r"[*$\\\u00a3\u20ac\u2212 -]{0,8}\.?[0-9]")
_CUE = re.compile(r"\banswers?[\s*_]*(?:(?:is|are|was)\b|[:=])[\s*_:=]*", re.I)
# A dot ends the sentence before a blank or the end, so not in 3.5 or 2 P.M.; nor does it after a title.
_SENTENCE_END = re.compile(r"(?<!\bMr)(?<!\bMs)(?<!\bMrs)(?<!\bDr)(?<!\bSt)[.?](?:[*_\"')$\]]*(?:\s|$))|\n")
_CHOICE_CAPITAL = re.compile(r"(?<![\w)])\(\s?([A-J])\s?\)")
_CHOICE_AT_START = re.compile(r"\s*(?:\(?([A-Ja-j])\)|([A-J])\.)(?=\s)")
_CHOICE_AT_END = re.compile(r"(?<![\w)])\(\s?([a-j])\s?\)\.?$")
_CHOICE_ALONE = re.compile(r"[\s*]*([A-Ja-j])[\s*.]*")

_INTEGER = r"[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+"
_POWER_OF_TEN = r"\s?(?:\\times|\\cdot|\*|x|\u00d7)\s?10\^(?:-?[0-9]+|\{-?[0-9]+\})"
_EXPONENT = rf"[eE][+-]?[0-9]+(?![0-9A-Za-z])|{_POWER_OF_TEN}"
# A minus counts only where it touches the number and nothing stands before it: `3-4` and `3 - 4` end in 4.
_NUMBER = re.compile(
    r"(?:(?<![\w.)\]}])[-\u2212]\$?)?"
    r"(?:(?:[0-9]+\s?)?\\[dt]?frac\{-?[0-9]+\}\{[0-9]+\}"
    r"|[0-9]{1,4} [0-9]{1,4}/[0-9]{1,4}(?![0-9/])"
    rf"|(?:{_INTEGER})(?:\.[0-9]+)?(?:{_EXPONENT}|\s?/\s?[0-9]+(?![0-9/]))?"
    r"|\.[0-9]+)"
)


def extract_answer(text: str) -> str | None:
    """The final answer of `text`, as written there, by the module's order of precedence, or None.

    Linear in the length of `text`; never raises. A bare label ("entailment") has no mark to be found by and
    gives None: see `response_is_correct`.
    """
    finders = (_boxed, _after_marker, _after_cue, _choice_letter, _last_number)
    return next((answer for answer in (find(text) for find in finders) if answer is not None), None)


def response_is_correct(response: str, reference: str) -> bool:
    """Whether the answer extracted from `response`, or `response` as a whole, equals the reference answer.

    The second way is what scores classification, where a response is just a label: "entailment", "Yes".
    """
    return answers_equal(extract_answer(response), reference) or answers_equal(response, reference)


def _boxed(text: str) -> str | None:
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
    return None if last is None else text[slice(*last)].strip()


def _after_marker(text: str) -> str | None:
    lines = text.rstrip().split("\n")
    for line_number in range(len(lines) - 1, -1, -1):
        line = lines[line_number]
        marker = _last_match(_MARKER, line)
        if marker and (line_number == len(lines) - 1 or _MARKED_NUMBER.match(line, marker.end())):
            return line[marker.end() :].strip(" \t*") or None
    return None


def _after_cue(text: str) -> str | None:
    for cue in reversed(list(_CUE.finditer(text))):
        end = _SENTENCE_END.search(text, cue.end())
        answer = text[cue.end() : end.start() if end else len(text)].strip(" \t*_\"'")
        # Blank after the last cue of a cut-off response: the one before it may have been answered.
        if answer:
            return answer
    return None


def _choice_letter(text: str) -> str | None:
    match = _CHOICE_ALONE.fullmatch(text) or _last_match(_CHOICE_CAPITAL, text)
    # A lower-case "(a)" in the middle of a text counts steps more often than it answers.
    match = match or _CHOICE_AT_START.match(text) or _CHOICE_AT_END.search(text.rstrip()[-8:])
    return next(letter for letter in match.groups() if letter) if match else None


def _last_number(text: str) -> str | None:
    number = _last_match(_NUMBER, text)
    return number[0] if number else None


def _last_match(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    return next(iter(deque(pattern.finditer(text), maxlen=1)), None)
