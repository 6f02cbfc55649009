"""Bring an answer's many spellings to few: plain LaTeX without markup, in lower case, without lead-in words."""

import re
from collections.abc import Callable

MAX_CHARS = 1000
"""Answers longer than this (blanks not counted) are compared as plain text, which bounds the work on them."""

_UNICODE = str.maketrans(
    {
        "\u2212": "-", "\u2013": "-", "\u2014": "-", "\u00b0": "^\\circ ", "\u00a0": " ", "\u202f": " ", "\u2009": " ",
        "\u2018": "'", "\u2019": "'", "\u201c": '"', "\u201d": '"', "\u03c0": "\\pi ", "\u221e": "\\infty ",
        "\u222a": "\\cup ", "\u2229": "\\cap ", "\u00d7": "*", "\u00b7": "*", "\u22c5": "*", "\u00f7": "/",
        "\u2248": "\\approx ", "\u2044": "/", "\u2215": "/", "\u00b1": "\\pm ", "\u2213": "\\mp ",
        "\u2205": "\\emptyset ",
        "\u2264": "\\leq ", "\u2265": "\\geq ", "\u2260": "\\neq ", "\u2208": "\\in ", "\u03b8": "\\theta ",
        "\u03b1": "\\alpha ", "\u03b2": "\\beta ", "\uff0c": ",", "\uff05": "%",
        "\u00a3": "", "\u20ac": "", "\u00a5": "", "\u20b9": "",
    }
)  # fmt: skip
_FRACTIONS = {
    "\u00bd": (1, 2), "\u2153": (1, 3), "\u2154": (2, 3), "\u00bc": (1, 4), "\u00be": (3, 4), "\u2155": (1, 5),
    "\u2156": (2, 5), "\u2157": (3, 5), "\u2158": (4, 5), "\u2159": (1, 6), "\u215a": (5, 6), "\u215b": (1, 8),
    "\u215c": (3, 8), "\u215d": (5, 8), "\u215e": (7, 8), "\u2150": (1, 7), "\u2151": (1, 9), "\u2152": (1, 10),
}  # fmt: skip
_RAISED = str.maketrans("\u2070\u00b9\u00b2\u00b3\u2074\u2075\u2076\u2077\u2078\u2079\u207b", "0123456789-")
_RAISED_RUN = re.compile(r"[\u2070\u00b9\u00b2\u00b3\u2074-\u2079\u207b]+")
_ROOT_SIGN = re.compile(r"\u221a\s*(?:\(([^()]*)\)|([0-9]+|[A-Za-z]))")

_TEXT = (r"\\(?:text|mbox|textbf|textit|textrm|textnormal|mathrm|mathbf|mathit|mathsf|mathbb|operatorname|boxed|fbox"
         r"|underline|emph)")

# (pattern, replacement) in order; every one is linear on text of at most a few thousand characters.
_LATEX_RULES = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"(?<!\\)\\!|\\(?:left|right)\s*\.|\\(?:left|right|[bB]igg?[lrm]?)(?![A-Za-z])", ""),
        (r"\\(?:text)?color\s*\{[^{}]*\}", ""),
        (r"(?<!\\)\\[,;: ]|~|\\(?:displaystyle|limits|q?quad)(?![A-Za-z])", " "),
        (r"\{,\}", ","),
        (r"\\[dtc]frac(?![A-Za-z])", r"\\frac"),
        (r"\\(le|ge|ne)(?![A-Za-z])", r"\\\1q"),
        (r"\\(?:times|cdot)(?![A-Za-z])", "*"),
        (r"\\(?:varnothing)(?![A-Za-z])", r"\\emptyset"),
        (r"\^\s*\{\s*\\circ\s*\}|\^\s*\\circ(?![A-Za-z])|\\degree(?![A-Za-z])", " "),
        # `8\sqrt{3}\text{ square inches}`: text that opens with a blank after an expression is a unit.
        (rf"(?<=[a-z}}])\s*{_TEXT}\s*\{{\s(?!\s*(?:and|or|[ap]\.?m)\b)[A-Za-z.\s/]*\}}\s*$", ""),
        (rf"{_TEXT}\s*\{{([^{{}}]*)\}}", r" \1 "),
        (r"(?<!\\)\\[()\[\]]|\\?\$", ""),
        (r"\\%", "%"),
        (r"(?<![\\A-Za-z])(sin|cos|tan|cot|sec|csc|log|ln|exp)(?=[\s(]|$)", r"\\\1"),
        (r"\\sqrt(?:\s*([0-9])|\s+([A-Za-z]))", r"\\sqrt{\1\2}"),
        (r"\\frac\s*([0-9])\s*", r"\\frac{\1}"),
        (r"(\\frac\s*\{[^{}]*\})\s*([0-9]|(?<=\s)[A-Za-z])", r"\1{\2}"),
        (r"([\^_])\s*\{\s*([0-9A-Za-z])\s*\}", r"\1\2"),
    )
)

TRUTH = {"yes": "yes", "true": "yes", "no": "no", "false": "no"}
"""Truth values as people write them -> one of them."""

_CASE = re.compile(r"(\\[A-Za-z]+)|[^\\]+|\\")
_LEAD_IN = re.compile(
    r"(?:(?:approximately|approx\.?|about|roughly|around|exactly|nearly|equal to|equals|the|option|choice|"
    r"answer|is|usd|rs\.?)\s+|(?:=|\\approx)\s*)+", re.I
)
_LEFT_SIDE = re.compile(r"(?:(?:[A-Za-z]{1,2}|\\[A-Za-z]+|[0-9+\-*/(). ]+)\s*=|[A-Za-z]\s*\\in(?![A-Za-z]))\s*(?=\S)")
_RIGHT_SIDE = re.compile(r"(?<=[0-9})])\s*=\s*[A-Za-z]$")
FACTORIAL = re.compile(r"[0-9a-z)]!$")
"""What ends like this may be a factorial, or an exclamation."""
_NUMBER_IN_PARENS = re.compile(
    r"\(\s*([+-]?(?:[0-9]{1,3}(?:,[0-9]{3})+(?:\.[0-9]*)?|[0-9.]+))\s*\)|(-?)\s*\(\s*([0-9.]+\s*(?:/\s*[0-9.]+\s*)?)\)")
_IN_BRACES = re.compile(r"\{([^{},]*)\}")


def tidy(answer: str) -> str:
    """Return the answer in few LaTeX spellings, its case kept: no markup, no lead-in words ("about"), no `x =`."""
    return until_stable(_tidy_once, answer)


def clean(answer: str) -> str:
    """Return the tidied answer in lower case, commands apart, without exclamation marks at its end; blanks are kept."""
    return until_stable(lambda text: lowered(_tidy_once(text)).rstrip("!"), answer)


def lowered(text: str) -> str:
    """Return a text in lower case, LaTeX's commands as they are."""
    return _CASE.sub(lambda match: match[1] or match[0].lower(), text)


def compact(text: str) -> str:
    """Return a text without its white space."""
    return "".join(text.split())


def is_long(text: str) -> bool:
    """Tell whether an answer is beyond what is looked into."""
    return len(compact(text)) > MAX_CHARS


def until_stable(step: Callable[[str], str], text: str) -> str:
    """Return a text that a step changes no more."""
    # Repeating until nothing changes is what makes the result idempotent. Every pass unwraps at least one
    # level, and MAX_CHARS bounds the levels; the cap only guards against rules that undo each other.
    for _ in range(MAX_CHARS):
        changed = step(text)
        if changed == text:
            return text
        text = changed
    return compact(text)


def _tidy_once(text: str) -> str:
    if is_long(text):
        return compact(text)
    text = _from_unicode(text)
    for pattern, replacement in _LATEX_RULES:
        text = pattern.sub(replacement, text)
    text = text.strip(" *_`\"'").rstrip(".,;:?")
    text = text if FACTORIAL.search(text) else text.rstrip("!")
    text = _RIGHT_SIDE.sub("", text)
    for pattern in (_LEAD_IN, _LEFT_SIDE):
        match = pattern.match(text)
        text = text[match.end() :] if match else text
    in_parens = _NUMBER_IN_PARENS.fullmatch(text)
    if in_parens:
        return in_parens[1] or in_parens[2] + in_parens[3].strip()
    in_braces = _IN_BRACES.fullmatch(text)
    return in_braces[1].strip() if in_braces else text


def _from_unicode(text: str) -> str:
    for sign, (over, under) in _FRACTIONS.items():
        text = re.sub(rf"([0-9])\s*{sign}", rf"\1 {over}/{under}", text).replace(sign, f"{over}/{under}")
    text = _RAISED_RUN.sub(lambda match: f"^{{{match[0].translate(_RAISED)}}}", text)
    text = _ROOT_SIGN.sub(lambda match: f"\\sqrt{{{match[1] or match[2]}}}", text)
    return " ".join(text.translate(_UNICODE).split())
