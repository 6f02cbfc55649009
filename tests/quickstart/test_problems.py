"""The quickstart's word problems: right answers, fixed bytes, unequal skills, a held-out set apart."""

import json
import re
from collections import Counter
from fractions import Fraction

import pytest

from s2l_ray.quickstart.problems import generate, write_files
from s2l_ray.quickstart.skills import SKILLS, THINGS

EQUATION = re.compile(r"(\d+) ([-+*/]) (\d+) = (\d+)")

# The answer from the numbers of the text alone, in the order in which each skill's templates may name them.
ANSWER_FROM_TEXT = {
    "addition": lambda a, b: {a + b},
    "subtraction": lambda a, b: {a - b},
    "multiplication": lambda a, b: {a * b},
    "comparison": lambda a, b: {abs(a - b)},
    "division": lambda a, b: {Fraction(a, b)},
    "change": lambda a, b, paid: {paid - a * b},
    "gain_and_loss": lambda a, b, c: {a + b - c},
    "travel": lambda a, b: {a * b},
    "percent": lambda a, b: {Fraction(a * b, 100)},
    "average": lambda a, b, c: {Fraction(a + b + c, 3)},
    "perimeter": lambda a, b: {2 * (a + b)},
    "left_over": lambda a, b: {a % b},
}


def numbers_in(text: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", text)]


@pytest.fixture(scope="module")
def rows() -> list[dict[str, str]]:
    return generate(3000, seed=1)


def test_answers_follow_from_the_numbers_of_the_text(rows):
    for row in rows:
        numbers = numbers_in(f"{row['instruction']} {row['input']}")
        assert {int(row["answer"])} == ANSWER_FROM_TEXT[row["source"]](*numbers), row


def test_every_equation_of_a_rationale_holds_and_the_last_gives_the_answer(rows):
    operations = {"+": int.__add__, "-": int.__sub__, "*": int.__mul__, "/": Fraction}
    for row in rows:
        equations = EQUATION.findall(row["output"])
        assert all(operations[sign](int(a), int(b)) == int(result) for a, sign, b, result in equations), row
        assert equations[-1][3] == row["answer"]
        assert row["output"].endswith(f"The answer is {row['answer']}.")


def test_answers_are_never_negative(rows):
    assert min(int(row["answer"]) for row in rows) >= 0


def test_ids_and_texts_are_unique(rows):
    assert len({row["id"] for row in rows}) == len(rows)
    assert len({(row["instruction"], row["input"]) for row in rows}) == len(rows)


def test_rows_hold_strings_under_the_six_keys(rows):
    for row in rows:
        assert list(row) == ["id", "instruction", "input", "output", "source", "answer"]
        assert all(isinstance(value, str) for value in row.values())


def test_the_same_seed_gives_the_same_rows_and_another_seed_others():
    assert generate(200, seed=5) == generate(200, seed=5)
    assert generate(200, seed=5) != generate(200, seed=6)


def test_skills_have_very_unequal_shares_that_add_up(rows):
    counts = Counter(row["source"] for row in rows)
    assert sum(skill.share for skill in SKILLS) == pytest.approx(1)
    assert counts == {skill.name: round(3000 * skill.share) for skill in SKILLS}
    assert len(counts) >= 8
    assert max(counts.values()) > 30 * min(counts.values())


def test_large_skills_repeat_sums_under_other_names(rows):
    def distinct_share(skill: str) -> float:
        sums = [re.sub(r"[A-Z][a-z]+\b", "", row["output"]) for row in rows if row["source"] == skill]
        return len(set(sums)) / len(sums)

    assert distinct_share("addition") < 0.6


@pytest.mark.parametrize("num_rows", [12, 30])
def test_balanced_rows_differ_by_at_most_one_between_skills(num_rows):
    counts = Counter(row["source"] for row in generate(num_rows, seed=0, balanced=True))
    assert sum(counts.values()) == num_rows
    assert max(counts.values()) - min(counts.values()) <= 1
    assert len(counts) == len(SKILLS)


@pytest.mark.parametrize("num_rows", [0, -3])
def test_too_few_rows_are_refused_with_the_bound(num_rows):
    with pytest.raises(ValueError, match=f"num_rows={num_rows} must be at least 1"):
        generate(num_rows, seed=0)


def test_a_skill_that_runs_out_of_problems_says_so():
    with pytest.raises(ValueError, match=r"'travel' gave .* distinct problems .* ask for fewer rows"):
        generate(200_000, seed=0, balanced=True)


def test_files_have_the_same_bytes_again_and_share_no_problem(tmp_path):
    for folder in ("first", "second"):
        write_files(tmp_path / folder, num_pool=2000, num_held_out=120, seed=3)
    for name in ("pool.jsonl", "held_out.jsonl"):
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()

    pool, held_out = (
        [json.loads(line) for line in (tmp_path / "first" / name).read_text().splitlines()]
        for name in ("pool.jsonl", "held_out.jsonl")
    )
    assert pool == generate(2000, seed=3)
    assert not {(row["instruction"], row["input"]) for row in pool} & {
        (row["instruction"], row["input"]) for row in held_out
    }
    assert not {row["id"] for row in pool} & {row["id"] for row in held_out}
    assert set(Counter(row["source"] for row in held_out).values()) == {10}


def test_things_are_plurals():
    assert all(thing.endswith("s") for thing in THINGS)
