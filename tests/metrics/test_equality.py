"""Normalising and comparing answers. Run: pytest tests/metrics/test_equality.py"""

import time
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s2l_ray.metrics import symbolic
from s2l_ray.metrics.equality import answers_equal, judge
from s2l_ray.metrics.numerals import parse_number
from s2l_ray.metrics.rules import normalise_answer, verdict
from s2l_ray.metrics.spelling import MAX_CHARS, clean
from s2l_ray.metrics.symbolic import MAX_SECONDS

PIECES = [
    "\\frac", "\\dfrac", "{", "}", "\\text{", "\\left", "\\right", "(", ")", "[", "]", "\\{", "\\}", ",",
    "\\!", "\\,",
    "\\", "$", "%", "1", "12", "3.5", "1,234", "/", "-", "+", "x", "B", "the ", "option ", "=", " ", ".",
    "!", "and ",
    "cm", "\\pi", "\\sqrt", "^", "_", "\\circ", "e", "99", "*10^", "\u03c0", "\u2212", "\u0130", "~",
    "million", "'",
]  # fmt: skip
answer_like_text = st.lists(st.sampled_from(PIECES), max_size=20).map("".join)
any_text = st.one_of(st.text(), answer_like_text)

EQUAL = [
    # numbers: separators, currency, percent, units, zeros
    ("1,234.50", "1234.5"), ("$18.00", "18"), ("18 dollars", "18"), ("\u20ac5", "5"), ("65\\%", "65"),
    ("65%", "65"),
    ("007", "7"), (".5", "0.50"), ("5.", "5"), ("+5", "5"), ("- 5", "-5"), ("\u22125", "-5"), ("(5)", "5"),
    ("5 apples", "5"), ("5cm", "5 cm"), ("25\\text{ cm}^2", "25"), ("60 miles per hour", "60"),
    ("5 m/s", "5"),
    ("8 (bottle caps)", "8"), ("12 t-shirts", "12"), ("90^\\circ", "90"), ("90^{\\circ}", "90 degrees"),
    ("2,\\!880", "2880"), ("34{,}650", "34650"), ("\\$32,\\!348", "32348"), ("3.2 million", "3,200,000"),
    ("about 5", "5"), ("x = 5", "5"), ("4 + 1 = 5", "5"), ("**5**", "5"), ("\\(5\\)", "5"), ("5!", "5"),
    # fractions, powers of ten, tolerance: |2/3 - 0.6666667| = 3.3e-8, and 1e-6 * 2/3 = 6.7e-7
    ("3/4", "0.75"), ("\\frac{3}{4}", "3/4"), ("\\dfrac34", "\\tfrac{3}{4}"),
    ("-\\frac{3}{4}", "\\frac{-3}{4}"),
    ("1 3/4", "1.75"), ("1\\frac{3}{4}", "7/4"), ("-1 3/4", "-1.75"), ("(-4)/(-12)", "1/3"),
    ("-(1/3)", "-1/3"),
    ("1.2e5", "120000"), ("1.2 \\times 10^{5}", "120,000"), ("10^5", "100000"), ("3 x 10^-2", "0.03"),
    ("0.6666667", "2/3"), ("1000000.5", "1000000"), ("1e-12", "1.0e-12"), ("65%", "0.65"), ("half of 0", "half of 0"),
    ("twenty-five", "25"), ("0.1\\overline{6}", "1/6"), ("(1,000)", "1000"), ("\u00bd", "0.5"), ("2\u00bd", "2.5"),
    ("12 kg", "12 kilograms"),
    # multiple choice
    ("(B)", "b"), ("B) 12 apples", "b"), ("B. 12", "(b)"), ("\\text{(C)}", "C"), ("\\textbf{(C)}\\ 5", "c"),
    ("Option B", "B"), ("(B) 12 apples", "12"), ("12", "B) 12"),
    # labels
    ("Entailment.", "entailment"), ("YES!", "yes"), ("the first stop", "First stop"),
    ("\\text{even}", "even"),
    ("4:30 p.m.", "4:30 PM"), ("post-war", "Post war"),
    # truth
    ("yes", "true"), ("No.", "false"),
    # what mathematics says
    ("2\\sqrt{2}", "\\sqrt{8}"), ("x+1", "1+x"), ("(x+1)^2", "x^2+2x+1"), ("7!", "5040"), ("2\\cdot 3", "6"),
    ("\\pm 2", "2, -2"), ("\\log_{2} 8", "3"), ("3+4i", "4i+3"), ("\u221a12", "2\u221a3"), ("(2, \\infty)", "x>2"),
    ("\\emptyset", "\\{\\}"), ("sin(x)", "\\sin x"),
    # lists: ordered in brackets, unordered bare or in braces
    ("(1, 2)", "(1,2)"), ("(0.5, 2.0)", "\\left(\\frac{1}{2}, 2\\right)"), ("[0,25)", "[0, 25)"),
    ("3, -3", "-3, 3"), ("\\{1, 2\\}", "\\{2,1\\}"), ("x=1 or x=3", "1, 3"), ("1, 2, and 3", "3,2,1"),
    ("100, 200, 300", "100, 300, 200"), ("(-\\infty, 2) \\cup (3, \\infty)", "(-\\infty,2)\\cup(3,\\infty)"),
    # LaTeX spelling
    ("\\frac{\\sqrt3}{3}", "\\dfrac{\\sqrt{3}}{3}"), ("2 \\pi + 4", "2\\pi+4"), ("\\pi/2", "\\frac{\\pi}{2}"),
    ("385_{9}", "385_9"), ("x^{2}", "x^2"), ("\\frac12 x", "\\frac{1}{2}x"), ("y = 2x + 3", "2x+3"),
    ("8\\sqrt{3} \\text { square inches}", "8\\sqrt{3}"), ("\u03c0", "\\pi"),
    ("\\begin{pmatrix} 1/5 \\\\ 2 \\end{pmatrix}", "\\begin{pmatrix}\\frac{1}{5}\\\\2\\end{pmatrix}"),
]  # fmt: skip

DIFFERENT = [
    ("5", "6"), ("5", "-5"), ("6.5", "65%"), ("5 cm", "5 m"), ("5 cm", "5 cm^2"), ("(1,000)", "(1, 0)"), ("1e-12", "2e-12"), ("1e-12", "0"),
    ("Treaty of Paris (1783)", "1783"), ("12 apples and 3 pears", "12"), ("\\pm 2", "2"),
    ("371043400", "371043401"), ("0.667", "2/3"), ("1e-6", "0"),
    ("5x", "5"), ("5 x", "5"), ("2ab", "2"), ("36 pi", "36"), ("5 or 6", "5"), ("2:13", "2"), ("3/0", "3"),
    ("B", "C"), ("B", "12"), ("(A) 12", "(B) 12"), ("yes", "no"), ("entailment", "neutral"), ("", "5"),
    ("(1, 2)", "(2, 1)"), ("(1, 2)", "[1, 2]"), ("(0, 1)", "[0, 1)"), ("1, 2", "1, 2, 2"), ("1, 2", "(1, 2)"),
    ("1, 1, 2", "1, 2, 2"), ("...", "!!!"),     ("4 a.m.", "4 p.m."),
    ("1e999999999", "1e999999998"), ("\\frac{1}{2", "1/2"),
]  # fmt: skip


@pytest.mark.parametrize(("first", "second"), EQUAL)
def test_equal_answers(first: str, second: str) -> None:
    assert answers_equal(first, second)
    assert answers_equal(second, first)


@pytest.mark.parametrize(("first", "second"), DIFFERENT)
def test_different_answers(first: str, second: str) -> None:
    assert not answers_equal(first, second)
    assert not answers_equal(second, first)


def test_no_answer_equals_nothing() -> None:
    assert not answers_equal(None, "")
    assert not answers_equal(None, "5")


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("$1,234.50", "2469/2"),  # 1234.5 = 2469/2
        ("-18.00 dollars", "-18"),
        ("B) 12 apples", "b"),
        ("Not sure!", "notsure"),
        ("\\dfrac{9\\pi}{2}", "\\frac{9\\pi}{2}"),
        ("\\pi r^{2}", "\\pi r^2"),
        ("1e400", "1e400"),  # 10^400 is out of range, so it stays text
    ],
)
def test_normal_forms(answer: str, expected: str) -> None:
    assert normalise_answer(answer) == expected


@given(any_text)
@settings(max_examples=400, deadline=None)
def test_normalising_is_idempotent(answer: str) -> None:
    once = normalise_answer(answer)
    assert normalise_answer(once) == once


@given(any_text, any_text)
@settings(max_examples=300, deadline=None)
def test_comparison_never_raises_and_is_symmetric(first: str, second: str) -> None:
    assert verdict(first, second) == verdict(second, first)
    assert verdict(first, first)


@given(st.integers(-(10**12), 10**12), st.integers(1, 10**6))
@settings(max_examples=200, deadline=None)
def test_every_spelling_of_a_fraction_is_the_same_number(numerator: int, denominator: int) -> None:
    value = Fraction(numerator, denominator)
    for spelling in (f"{numerator}/{denominator}", f"\\frac{{{numerator}}}{{{denominator}}}", str(value)):
        assert parse_number(clean(spelling)) == value
        assert normalise_answer(spelling) == str(value)


@given(st.integers(-(10**15), 10**15))
def test_separators_and_units_do_not_change_an_integer(value: int) -> None:
    for spelling in (f"{value:,}", f"{value}.00", f"{value} apples", f"${value:,}$"):
        assert answers_equal(spelling, str(value))
    assert not answers_equal(str(value + 1), str(value))


@pytest.mark.parametrize("power", ["1e999999999", "10^9999", "2*10^{401}", "1e-999999999", "9" * 10**6])
def test_out_of_range_numerals_stay_text(power: str) -> None:
    assert parse_number(power) is None
    assert answers_equal(power, power)


def test_long_answers_are_compared_as_text() -> None:
    long = "12 " * MAX_CHARS
    assert answers_equal(long, long.strip())
    assert not answers_equal(long, long + "1")
    assert normalise_answer(long) == "12" * MAX_CHARS


def test_an_answer_that_takes_for_ever_has_no_verdict_in_time_and_the_next_one_has() -> None:
    started = time.monotonic()
    found = judge("9^(9^9)", "1")
    assert not found.is_equal and "no verdict within" in found.disagreement
    assert time.monotonic() - started < 10 * MAX_SECONDS
    assert judge("x+2", "2+x").is_equal


def test_what_the_judges_do_not_agree_on_is_told() -> None:
    assert judge("x+3", "3+x").disagreement == "our rules: no, math-verify: yes"
    assert judge("72", "72.0").disagreement == judge("Paris", "Rome").disagreement == ""


def test_only_what_may_be_mathematics_is_asked_about(monkeypatch) -> None:
    monkeypatch.setattr(symbolic, "same_value", lambda predicted, reference: pytest.fail(f"{predicted}, {reference}"))
    for first, second in [("5", "6"), ("Paris", "Rome"), ("1783", "Treaty of Paris (1783)"), ("B", "C"), ("2ab", "2")]:
        assert not answers_equal(first, second)
