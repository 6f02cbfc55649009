"""The twelve skills of the quickstart's word problems: their shares, numbers, sentences and worked answers.

The pool imitates what makes real instruction data worth selecting from. A few easy skills fill most of it and
repeat themselves under other names and objects; the hard ones, of two or three sums, are rare.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

NAMES = (
    "Ada", "Ben", "Cora", "Dan", "Eva", "Finn", "Gina", "Hugo", "Iris", "Jack", "Kira", "Leo", "Mia",
    "Noah", "Olga", "Paul", "Rosa", "Sam", "Tina", "Umar", "Vera", "Will", "Yara", "Zoe",
)  # fmt: skip
THINGS = (
    "apples", "beads", "books", "buttons", "cakes", "cards", "coins", "cookies", "cups", "eggs",
    "flowers", "hats", "keys", "lemons", "marbles", "nuts", "pears", "pens", "pencils", "plates",
    "shells", "stamps", "stickers", "toys",
)  # fmt: skip
BOXES = ("bags", "baskets", "boxes", "drawers", "jars", "packs", "shelves", "trays")

Numbers = dict[str, int]


@dataclass(frozen=True, kw_only=True)
class Skill:
    """One kind of problem: how its numbers are drawn, how it is asked, and how it is worked out."""

    name: str
    share: float
    """Fraction of the pool's rows."""
    draw: Callable[[np.random.Generator], Numbers]
    """Draws the numbers that the texts name, `answer` among them."""
    templates: tuple[str, ...]
    """Instructions; the text after a line break, if any, is the row's `input`."""
    rationale: str
    copy_rate: float = 0.0
    """Probability that a row repeats the numbers and the template of an earlier row of its skill."""


def _addition(rng: np.random.Generator) -> Numbers:
    a, b = (int(n) for n in rng.integers(4, 41, size=2))
    return {"a": a, "b": b, "answer": a + b}


def _subtraction(rng: np.random.Generator) -> Numbers:
    a = int(rng.integers(10, 61))
    b = int(rng.integers(3, a - 1))
    return {"a": a, "b": b, "answer": a - b}


def _multiplication(rng: np.random.Generator) -> Numbers:
    a, b = int(rng.integers(2, 10)), int(rng.integers(3, 13))
    return {"a": a, "b": b, "answer": a * b}


def _comparison(rng: np.random.Generator) -> Numbers:
    """Either person may hold more, so the order of the two numbers in the text says nothing."""
    low, high = sorted(int(n) for n in rng.choice(np.arange(4, 51), size=2, replace=False))
    a, b = (low, high) if rng.random() < 0.5 else (high, low)
    return {"a": a, "b": b, "low": low, "high": high, "answer": high - low}


def _division(rng: np.random.Generator) -> Numbers:
    b, answer = int(rng.integers(2, 10)), int(rng.integers(2, 13))
    return {"a": b * answer, "b": b, "answer": answer}


def _change(rng: np.random.Generator) -> Numbers:
    a, b = int(rng.integers(2, 7)), int(rng.integers(2, 10))
    paid = int(rng.choice([note for note in (10, 20, 50, 100) if note > a * b]))
    return {"a": a, "b": b, "cost": a * b, "paid": paid, "answer": paid - a * b}


def _gain_and_loss(rng: np.random.Generator) -> Numbers:
    a, b = (int(n) for n in rng.integers(4, 31, size=2))
    c = int(rng.integers(3, a + b - 1))
    return {"a": a, "b": b, "c": c, "middle": a + b, "answer": a + b - c}


def _travel(rng: np.random.Generator) -> Numbers:
    speed, hours = 10 * int(rng.integers(2, 10)), int(rng.integers(2, 10))
    return {"a": speed, "b": hours, "answer": speed * hours}


def _percent(rng: np.random.Generator) -> Numbers:
    percent = int(rng.choice([10, 20, 25, 50]))
    parts, answer = 100 // percent, int(rng.integers(2, 13))
    return {"a": percent, "b": parts * answer, "parts": parts, "answer": answer}


def _average(rng: np.random.Generator) -> Numbers:
    answer, down, up = int(rng.integers(8, 21)), int(rng.integers(1, 6)), int(rng.integers(0, 6))
    a, b, c = (int(n) for n in rng.permutation([answer - down, answer + up, answer + down - up]))
    return {"a": a, "b": b, "c": c, "middle": a + b, "total": 3 * answer, "answer": answer}


def _perimeter(rng: np.random.Generator) -> Numbers:
    a, b = (int(n) for n in rng.integers(3, 26, size=2))
    return {"a": a, "b": b, "half": a + b, "answer": 2 * (a + b)}


def _left_over(rng: np.random.Generator) -> Numbers:
    b, full = int(rng.integers(3, 10)), int(rng.integers(2, 10))
    answer = int(rng.integers(1, b))
    return {"a": b * full + answer, "b": b, "full": full, "packed": b * full, "answer": answer}


SKILLS = (
    Skill(
        name="addition",
        share=0.34,
        draw=_addition,
        copy_rate=0.5,
        templates=(
            "{name} has {a} {things}. {name} buys {b} more {things}. How many {things} does {name} have now?",
            "{name} has {a} {things} and {other} has {b} {things}. How many {things} do they have together?",
            (
                "There are {a} {things} on a table. {name} puts {b} more {things} there. "
                "How many {things} are there now?"
            ),
            (
                "{name} found {a} {things} on Monday and {b} {things} on Tuesday. "
                "How many {things} did {name} find in all?"
            ),
        ),
        rationale="We add: {a} + {b} = {answer}. The answer is {answer}.",
    ),
    Skill(
        name="subtraction",
        share=0.22,
        draw=_subtraction,
        copy_rate=0.5,
        templates=(
            (
                "{name} has {a} {things}. {name} gives {b} {things} to {other}. "
                "How many {things} does {name} have left?"
            ),
            "{name} had {a} {things} and lost {b} of them. How many {things} are left?",
            "There are {a} {things} in a shop. {b} {things} are sold. How many {things} remain?",
        ),
        rationale="We take away: {a} - {b} = {answer}. The answer is {answer}.",
    ),
    Skill(
        name="multiplication",
        share=0.14,
        draw=_multiplication,
        copy_rate=0.4,
        templates=(
            "{name} has {a} {boxes}. Each holds {b} {things}. How many {things} does {name} have?",
            "There are {a} {boxes} with {b} {things} in each. How many {things} are there in total?",
            "{name} fills {a} {boxes} and puts {b} {things} in every one. How many {things} is that?",
        ),
        rationale="We multiply: {a} * {b} = {answer}. The answer is {answer}.",
    ),
    Skill(
        name="comparison",
        share=0.08,
        draw=_comparison,
        copy_rate=0.3,
        templates=(
            "{name} has {a} {things} and {other} has {b} {things}. How big is the difference?",
            "{name} sold {a} {things}. {other} sold {b} {things}. By how many {things} do they differ?",
        ),
        rationale="The larger is {high}: {high} - {low} = {answer}. The answer is {answer}.",
    ),
    Skill(
        name="division",
        share=0.06,
        draw=_division,
        templates=(
            "{name} shares {a} {things} equally among {b} friends. How many {things} does each friend get?",
            "{a} {things} are split evenly into {b} {boxes}. How many {things} go in each?",
        ),
        rationale="We divide: {a} / {b} = {answer}. The answer is {answer}.",
    ),
    Skill(
        name="change",
        share=0.045,
        draw=_change,
        templates=(
            (
                "{name} buys {a} {things} at {b} dollars each and pays with {paid} dollars. "
                "How much change is due?"
            ),
            (
                "One of the {things} costs {b} dollars. {name} takes {a} and pays {paid} dollars. "
                "What is the change?"
            ),
        ),
        rationale="The cost is {a} * {b} = {cost}. Then {paid} - {cost} = {answer}. The answer is {answer}.",
    ),
    Skill(
        name="gain_and_loss",
        share=0.035,
        draw=_gain_and_loss,
        templates=(
            (
                "{name} has {a} {things}, buys {b} more and gives {c} to {other}. "
                "How many {things} does {name} have at last?"
            ),
            (
                "A shop had {a} {things}. It got {b} new {things} and sold {c}. "
                "How many {things} does the shop have?"
            ),
        ),
        rationale="First {a} + {b} = {middle}. Then {middle} - {c} = {answer}. The answer is {answer}.",
    ),
    Skill(
        name="travel",
        share=0.025,
        draw=_travel,
        templates=(
            "{name} drives at {a} miles per hour for {b} hours. How far does {name} get?",
            "A train runs {b} hours at {a} miles per hour. How many miles does it cover?",
        ),
        rationale="The distance is {a} * {b} = {answer}. The answer is {answer}.",
    ),
    Skill(
        name="percent",
        share=0.02,
        draw=_percent,
        templates=(
            "{name} has {b} {things}, and {a} percent of them are red. How many {things} are red?",
            "What is {a} percent of the {b} {things} that {name} owns?",
        ),
        rationale="That is one part in {parts}: {b} / {parts} = {answer}. The answer is {answer}.",
    ),
    Skill(
        name="average",
        share=0.015,
        draw=_average,
        templates=(
            "{name} counted {things} on three days. What is the average?\n{a}, {b}, {c}",
            "Three friends have {a}, {b} and {c} {things}. How many {things} do they have on average?",
        ),
        rationale=(
            "{a} + {b} = {middle}. {middle} + {c} = {total}. {total} / 3 = {answer}. The answer is {answer}."
        ),
    ),
    Skill(
        name="perimeter",
        share=0.012,
        draw=_perimeter,
        templates=(
            "{name} walks once around a garden {a} feet long and {b} feet wide. How many feet is that?",
            "A fence goes around the yard of {name}, {a} feet by {b} feet. How long is the fence?",
        ),
        rationale="Two sides are {a} + {b} = {half}. All are {half} * 2 = {answer}. The answer is {answer}.",
    ),
    Skill(
        name="left_over",
        share=0.008,
        draw=_left_over,
        templates=(
            "{name} packs {a} {things} into {boxes} of {b}. How many {things} are left over?",
            "{a} {things} go into full {boxes} of {b} {things}. How many {things} remain outside?",
        ),
        rationale=(
            "{full} are full: {full} * {b} = {packed}. {a} - {packed} = {answer}. The answer is {answer}."
        ),
    ),
)
