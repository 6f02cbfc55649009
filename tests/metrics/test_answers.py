"""Extraction of final answers. Run: pytest tests/metrics/test_answers.py"""

import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s2l_ray.metrics.answers import extract_answer
from s2l_ray.metrics.equality import answers_equal
from s2l_ray.metrics.responses import response_is_correct

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data"

# Text made of the pieces the patterns look for finds more than uniformly random text does.
PIECES = [
    "\\boxed{", "\\fbox {", "}", "{", "#### ", "answer is ", "Answer: ", "(B)", "(b)", "B) ", "3.5",
    "1,234", "-", "$",
    "\\frac{1}{2}", "\n", ".", " ", "\\", "1e9", "2/3", "\\boxed 7", "x", "A", "\u00bd", "\ud800",
]  # fmt: skip
answer_like_text = st.lists(st.sampled_from(PIECES), max_size=25).map("".join)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # 1. boxes: last, balanced, innermost; a cut-off or blank box is passed over
        (r"first \boxed{1}, then $\boxed{\frac{3}{4}}$ as wanted.", r"\frac{3}{4}"),
        (r"set \boxed{\{1, 2\}}", r"\{1, 2\}"),
        (r"so \fbox{ 12 }.", "12"),
        (r"\boxed{x = \boxed{3}}", "3"),
        (r"\boxed{8} and then \boxed{9", "8"),
        (r"\boxed{} The answer is 5.", "5"),
        (r"\boxed{4} was my first thought. The answer is 6.", "6"),
        (r"so $\boxed 2$.", "2"),
        (r"{\boxed{4}", "4"),
        # 2. GSM8K's marker
        ("6 + 6 = 12\n#### 12", "12"),
        ("#### $1,200 \n", "$1,200"),
        ("#### -3\nand a tail with 99", "-3"),
        ("so\n#### yes", "yes"),
        ("#### Step one\nWe add 2 and 3.\nThe answer is 5.", "5"),
        ("##### 7 is a heading, 8 is not", "8"),
        # 3. cues: last, up to the end of sentence or line
        ("The answer is 3.5. Check: 7/2 = 3.5", "3.5"),
        ("The answer is 4. No, the answer is 5.", "5"),
        ("Final answer: 1,024 bytes\nDone with 7.", "1,024 bytes"),
        ("answer : c", "c"),
        ("**Answer:** 42", "42"),
        ("The answer is: $x = 5$.", "$x = 5$"),
        ("ANSWER =\n -7", "-7"),
        ("The answer is (b) 12 apples.", "(b) 12 apples"),
        ("The answer is 10. The answer is", "10"),
        ("The answer is Mr. Brown.", "Mr. Brown"),
        ("The answer is 6:55 P.M..", "6:55 P.M."),
        ("Answer Choices: (a) 4 (b) 5\nIt is 7", "7"),
        # 4. multiple choice
        ("I would choose (B) because 3 > 2", "B"),
        ("Not (A) but (C).", "C"),
        ("B) 12 apples", "B"),
        ("D", "D"),
        ("it must be (d).", "d"),
        # 5. the last number
        ("4 + 5 = 9 apples", "9"),
        ("from 10 - 3", "3"),
        ("it fell to -3", "-3"),
        ("range 3-4", "4"),
        ("in all 1,234,567.50 dollars.", "1,234,567.50"),
        ("that leaves 3/4", "3/4"),
        ("that leaves 1 3/4 cups", "1 3/4"),
        (r"leaving $-\frac{3}{4}$", r"-\frac{3}{4}"),
        (r"about 1.2 \times 10^{5} m", r"1.2 \times 10^{5}"),
        ("roughly 6e-3.", "6e-3"),
        ("first (a) 5 then (b) 6, 11 in all", "11"),
        # nothing to find
        ("no idea", None),
        ("", None),
        ("\\boxed{", None),
        ("####", None),
    ],
)
def test_extract_answer(text: str, expected: str | None) -> None:
    assert extract_answer(text) == expected


def test_a_bare_label_is_judged_as_a_whole_response() -> None:
    assert extract_answer("Entailment.") is None
    assert response_is_correct("Entailment.", "entailment")
    assert not response_is_correct("neutral", "entailment")
    assert response_is_correct("So 3 + 4 = 7.\n#### 7", "7.0")
    assert not response_is_correct("", "7")


@given(st.one_of(st.text(), answer_like_text))
@settings(max_examples=300, deadline=None)
def test_extraction_never_raises_and_never_gives_a_blank(text: str) -> None:
    answer = extract_answer(text)
    assert answer is None or (answer.strip() == answer and answer)


@given(answer_like_text, st.integers(-(10**6), 10**6))
@settings(max_examples=200, deadline=None)
def test_a_final_box_always_wins(text: str, value: int) -> None:
    assert extract_answer(f"{text} \\boxed{{{value}}}".replace("\\ ", " ")) == str(value)


@pytest.mark.parametrize(
    "unit",
    ["{", "}", "\\boxed{", "7", "#### ", "#### x\n", "answer is ", "answer is. ", "1/", "123,", "(b) ", "1 "],
)
def test_hostile_input_takes_linear_time(unit: str) -> None:
    text = unit * (300_000 // len(unit))
    started = time.perf_counter()
    answer = extract_answer(text)
    answers_equal(answer, text)
    # A quadratic scan of 300,000 characters takes minutes; a linear one well under a second.
    assert time.perf_counter() - started < 5


@pytest.mark.parametrize("name", ["gsm8k_test", "math_test", "numglue_test", "simuleq_test"])
def test_reference_rationales_yield_their_answer(name: str) -> None:
    path = DATA / f"{name}.parquet"
    parquet = pytest.importorskip("pyarrow.parquet", reason="reading the evaluation files needs pyarrow")
    if not path.exists():
        pytest.skip(f"{path} is absent: the evaluation data is not part of the repository")
    rows = [row for row in parquet.read_table(path).to_pylist() if row["answer"]]
    num_agreeing = sum(answers_equal(extract_answer(row["response"]), row["answer"]) for row in rows)
    assert num_agreeing >= 0.99 * len(rows), f"{num_agreeing} of {len(rows)} rows of {name}"
