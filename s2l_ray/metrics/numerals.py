"""Read one number, as people write answers, into an exact `Fraction`.

Accepted, with an optional sign and an optional unit after it: `1,234.50`, `.5`, `3/4`, `1 3/4`,
`\\frac{3}{4}`, `1\\frac{3}{4}`, `1.2e5`, `1.2*10^5`, `3.2 million`, `0.1\\overline{6}`, `twenty-five`. Nothing is
evaluated: `2*3` and `\\sqrt{2}` are not numbers here.
"""

import re
from dataclasses import dataclass
from fractions import Fraction

MAX_DIGITS = 400
"""Longest numeral, largest power of ten, largest magnitude (10^400) read as numbers; beyond, it is text."""

RELATIVE_TOLERANCE = Fraction(1, 10**6)

_LIMIT = 10**MAX_DIGITS
_DECIMAL = r"(?:[0-9]{1,3}(?:,[0-9]{3})+(?:\.[0-9]*)?|[0-9]+(?:\.[0-9]*)?|\.[0-9]+)"
_SIGNED = rf"[+-]?\s*{_DECIMAL}"
_POWER = r"10\s*\^\s*\{?\s*(?P<power>[+-]?[0-9]{1,4})\}?(?![0-9.])"

# Each form is tried in turn; whatever follows the match has to read as a unit.
_FORMS = tuple(
    re.compile(r"\s*(?P<sign>[+-]?)\s*" + form)
    for form in (
        rf"(?:(?P<whole>[0-9]+)\s*)?\\frac\s*\{{\s*(?P<over>{_SIGNED})\s*\}}"
        rf"\s*\{{\s*(?P<under>{_SIGNED})\s*\}}",
        rf"(?:(?P<whole>[0-9]+)\s+)?(?P<over>{_DECIMAL})\s*/\s*(?P<under>{_DECIMAL})",
        rf"\(\s*(?P<over>{_SIGNED})\s*\)\s*/\s*\(\s*(?P<under>{_SIGNED})\s*\)",
        r"(?P<decimal>[0-9]*\.[0-9]*)\\(?:overline|bar|dot)\s*\{?(?P<repeating>[0-9]+)\}?",
        rf"(?P<decimal>{_DECIMAL})\s*(?:\*|x)\s*{_POWER}",
        _POWER,
        rf"(?P<decimal>{_DECIMAL})e(?P<power>[+-]?[0-9]{{1,4}})(?![0-9.])",
        rf"(?P<decimal>{_DECIMAL})",
    )
)

_SCALES = {"hundred": 10**2, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_SHORT_UNITS = re.compile(
    "cm|mm|km|ft|in|yd|mi|kg|mg|gm|lbs?|oz|ml|cl|dl|kl|hrs?|min|sec|ms|mph|kph|kmh|sq|cu|usd|gb|mb|kb|"
    "hz|khz|mhz|kw|mw|kj|cal|atm|mol|pts|gal|of"
)
_LETTER_UNITS = frozenset("mgshljnwvkcf")
_NOT_UNIT = re.compile(r"\b(?:and|or|to|plus|minus|over|choose|mod|pi|sin|cos|tan|csc|cot|log|ln|exp|sqrt)\b")
_UNIT = re.compile(r"(?P<gap>\s*)[-(]?(?P<words>[a-z][a-z\s.,;:'()/-]*)(?:\^?\s*\{?[23]\}?)?\)?\s*")


_MEASURES = {
    "%": "percent", "m": "meter meters metre metres", "cm": "centimeter centimeters centimetre centimetres",
    "mm": "millimeter millimeters millimetre millimetres", "km": "kilometer kilometers kilometre kilometres",
    "ft": "foot feet", "in": "inch inches", "yd": "yard yards", "mi": "mile miles", "kg": "kilogram kilograms",
    "g": "gram grams gm", "mg": "milligram milligrams", "lb": "lbs pound pounds", "oz": "ounce ounces",
    "l": "liter liters litre litres", "ml": "milliliter milliliters millilitre millilitres", "h": "hr hrs hour hours",
    "min": "minute minutes mins", "s": "sec second seconds", "ms": "millisecond milliseconds", "day": "days",
    "week": "weeks", "month": "months", "year": "years", "cent": "cents", "dollar": "dollars usd",
    "mph": "", "km/h": "kph kmh",
}  # fmt: skip
MEASURES = {name: unit for unit, names in _MEASURES.items() for name in (unit, *names.split())}
"""A measure's names -> one of them: what differs here is another quantity, whatever the number."""

_ONES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
         "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen")
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_WORDS = {word: number for number, word in enumerate(_ONES)} | {word: 10 * n for n, word in enumerate(_TENS, start=2)}
_IN_WORDS = re.compile(rf"\s*(?P<first>{'|'.join(_WORDS)})(?:[\s-](?P<second>{'|'.join(_ONES[1:10])}))?(?![a-z])")


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number, and the measure that it counts: "" where there is none or an unknown one ("5 apples")."""

    value: Fraction
    measure: str


def parse_number(text: str) -> Fraction | None:
    """The number `text` consists of, or None, as `parse_quantity`."""
    found = parse_quantity(text)
    return None if found is None else found.value


def parse_quantity(text: str) -> Quantity | None:
    """The quantity `text` consists of, or None. `text` is lower case and cleaned of LaTeX (`spelling.clean`).

    A unit is one or more words after the number: any word of three letters or more that stands apart
    (`5 apples`), one of four or more that does not (`5apples`), or a known short one (`5 cm`, `5cm`, `5 m`).
    So `5x`, `5 x`, `2ab` stay algebra. A unit is never converted: `5 km` reads as 5.
    """
    # The bound keeps every pattern below, and int(), away from hostile lengths.
    if len(text) > 4 * MAX_DIGITS:
        return None
    words = _IN_WORDS.match(text)
    if words and _is_in_words(words):
        text = f"{_WORDS[words['first']] + _WORDS.get(words['second'] or '', 0)}{text[words.end():]}"
    for form in _FORMS:
        match = form.match(text)
        if match is None:
            continue
        scale = _unit_scale(text[match.end() :])
        if scale is None:
            continue
        value = _value_of(match.groupdict())
        if value is not None:
            value *= scale
            fits = abs(value.numerator) < _LIMIT and value.denominator < _LIMIT
            return Quantity(value, _measure_of(text[match.end() :])) if fits else None
    return None


def _is_in_words(words: re.Match[str]) -> bool:
    """Tell whether words are one number: twenty-five and five, not five five."""
    return words["second"] is None or words["first"] in _TENS


def _measure_of(tail: str) -> str:
    first = re.match(r"\s*[-(]?(km/h|%|[a-z]+)\s*(?:\^?\{?([23])\}?)?", tail)
    measure = MEASURES.get(first[1], "") if first else ""
    return f"{measure}^{first[2]}" if first and measure and first[2] else measure


def format_number(value: Fraction) -> str:
    """`-7` for a whole number, else `p/q` in lowest terms; `parse_number` reads it back to the same value."""
    return str(value)


def numbers_close(first: Fraction, second: Fraction) -> bool:
    """Whether two answers are the same number.

    Two whole numbers must be identical (371,043,400 is not 371,043,401). Otherwise they may differ by 1e-6 of
    the larger magnitude: 1e-12 is not 2e-12.
    """
    if first.denominator == 1 and second.denominator == 1:
        return first == second
    return abs(first - second) <= RELATIVE_TOLERANCE * max(abs(first), abs(second))


def _value_of(parts: dict[str, str | None]) -> Fraction | None:
    sign = -1 if parts.get("sign") == "-" else 1
    if parts.get("over") is not None:
        over, under = _decimal(parts["over"]), _decimal(parts["under"])
        if over is None or not under:
            return None
        if parts.get("whole") is None:
            return sign * over / under
        whole = _decimal(parts["whole"])
        # A mixed number is a whole part and a plain positive fraction; `3 -1/2` is not one.
        if whole is None or over < 0 or under < 0:
            return None
        return sign * (whole + over / under)
    decimal = Fraction(1) if parts.get("decimal") is None else _decimal(parts["decimal"])
    power = int(parts.get("power") or 0)
    if decimal is None or abs(power) > MAX_DIGITS:
        return None
    repeating = (parts.get("repeating") or "")[:MAX_DIGITS]
    if repeating:
        places = len((parts["decimal"] or "").partition(".")[2])
        decimal += Fraction(int(repeating), (10 ** len(repeating) - 1) * 10**places)
    return sign * decimal * Fraction(10) ** power


def _decimal(numeral: str | None) -> Fraction | None:
    digits = re.sub(r"[\s,]", "", numeral or "").rstrip(".")
    digits = "0" if not digits and "." in (numeral or "") else digits
    return Fraction(digits) if 0 < len(digits) <= MAX_DIGITS + 2 else None


def _unit_scale(tail: str) -> int | None:
    """1 where `tail` is blank or a unit, 10^6 for `million` and so on, None where it is anything else."""
    if tail.strip() in ("", "%"):
        return 1
    match = _UNIT.fullmatch(tail)
    if match is None:
        return None
    words, apart = match["words"].strip(" )"), bool(match["gap"])
    if _NOT_UNIT.search(words):
        return None
    # The first word decides, and its longest run of letters: `t-shirts` is a unit, `x-y` is not.
    first = re.split(r"[^a-z'-]", words, maxsplit=1)[0]
    if first in _SCALES:
        return _SCALES[first]
    if _SHORT_UNITS.fullmatch(first) or max(map(len, re.split("['-]", first))) >= (3 if apart else 4):
        return 1
    is_letter_unit = first in _LETTER_UNITS and apart and words[1:2] in ("", "/")
    return 1 if is_letter_unit else None
