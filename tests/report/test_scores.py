"""Means, differences and verdicts: hand-made values, and the sentences they become."""

import numpy as np
import pytest

from s2l_ray.metrics.seeds import SeedEstimate
from s2l_ray.report.build import build_page
from s2l_ray.report.scores import Gap, read_scores
from s2l_ray.report.study import read_study


def gap(low, value, high, *, lower_is_better=False, p=0.5):
    return Gap(None, None, SeedEstimate(value, low, high, p, 100, 3), lower_is_better, p)


@pytest.mark.parametrize(
    ("found", "reaches", "worst", "is_better"),
    [
        (gap(-0.03, 0.01, 0.05), True, 0.03, True),  # holds 0; may be 0.03 worse
        (gap(0.02, 0.04, 0.06), True, 0.0, True),  # above full data throughout
        (gap(-0.06, -0.04, -0.02), False, 0.06, False),  # below it throughout
        (gap(-0.03, 0.01, 0.05, lower_is_better=True), True, 0.05, False),  # a loss: 0.05 higher is not excluded
        (gap(0.02, 0.04, 0.06, lower_is_better=True), False, 0.06, False),
        (gap(-0.06, -0.04, -0.02, lower_is_better=True), True, 0.0, True),
    ],
)
def test_reaching_full_data(found, reaches, worst, is_better):
    assert (found.reaches, found.worst, found.is_better) == (reaches, worst, is_better)


def test_the_answer_of_a_run(finished_run):
    study = read_study([finished_run], "")
    scores = read_scores(study)
    assert [(s.point.label, s.estimate.value, s.rows, s.share) for s in scores.scores] == [
        ("s2l", 0.75, 8, 0.2), ("random", 0.25, 8, 0.2), ("full", 0.5, 40, 1.0)]
    (against_random,), against_full = scores.against_random, scores.against_full
    assert against_random.estimate.value == 0.5 and against_random.is_significant
    assert against_random.estimate.num_examples == 40 and against_random.estimate.num_seeds == 1
    assert [(g.ours.label, g.estimate.value) for g in against_full] == [("s2l", 0.25), ("random", -0.25)]
    first, second, third, fourth = build_page(study).sections["answer"].sentences
    assert first == ("The smallest budget at which S2L's interval reaches full data on exact match on problems is "
                     "20\u00a0% of the pool (8 rows).")
    assert second.startswith("There it is 0.750 against 0.500, a difference of +0.250 (95\u00a0% interval +")
    assert second.endswith("40 examples, 1 seed). All of the interval lies on the better side.")
    assert third.startswith("S2L is better than random at 20\u00a0% of the pool (8 rows): +0.500 (95\u00a0% interval ")
    assert fourth.startswith("One seed: ")


def sweep_of(tiny, values):
    """A sweep from {(selector, budget): one list of values for each seed}."""
    trials = [
        tiny.trial(selector, budget, seed, tiny.add_arm(selector, f"{selector}{budget}{seed}", [1, 2, 3, 4], own))
        for (selector, budget), seeds in values.items() for seed, own in enumerate(seeds)
    ]
    return read_study([tiny.write_sweep("swept", trials)], "")


def test_noise_is_no_difference_and_says_how_large_a_loss_it_leaves_open(tiny):
    rng = np.random.default_rng(0)
    same = lambda: [rng.integers(0, 2, 40).tolist() for _ in range(3)]  # noqa: E731
    study = sweep_of(tiny, {("s2l", 0.1): same(), ("random", 0.1): same(), ("full", 1.0): same()})
    scores = read_scores(study)
    assert not scores.against_random[0].is_significant
    text = " ".join(build_page(study).sections["answer"].sentences)
    assert "There is no significant difference between S2L and random at" in text
    assert "A loss is not ruled out: the interval reaches 0." in text
    assert "One seed" not in text


def test_a_selection_that_is_worse_is_called_worse(tiny):
    low, high = [[1, 0, 0, 0] * 10] * 3, [[1, 1, 1, 0] * 10] * 3
    study = sweep_of(tiny, {("s2l", 0.1): low, ("random", 0.1): high, ("full", 1.0): high[:1]})
    text = " ".join(build_page(study).sections["answer"].sentences)
    assert "S2L is worse than random at" in text and "No budget of S2L reaches full data" in text


def test_p_values_are_corrected_over_the_budgets(tiny):
    rng = np.random.default_rng(1)
    draw = lambda rate: [(rng.uniform(size=40) < rate).astype(int).tolist() for _ in range(3)]  # noqa: E731
    study = sweep_of(tiny, {(s, b): draw(r) for b in (0.1, 0.2, 0.3) for s, r in (("s2l", 0.7), ("random", 0.4))})
    gaps = sorted(read_scores(study).against_random, key=lambda g: g.estimate.p)
    assert len(gaps) == 3
    # Holm: the smallest p times 3, the next times 2, the largest as it is, never falling.
    expected, largest = [], 0.0
    for place, found in enumerate(gaps):
        largest = max(largest, min(1.0, found.estimate.p * (3 - place)))
        expected.append(largest)
    assert [found.adjusted_p for found in gaps] == pytest.approx(expected)
    assert "Holm's correction for 3 comparisons" in " ".join(build_page(study).sections["answer"].sentences)


def test_held_out_examples_that_not_every_arm_saw_are_left_out_for_all(tiny, finished_run):
    tiny.add_evaluate("random", "e-random", [1, 0, 0, 0] * 9)  # 36 of the 40
    scores = read_scores(read_study([finished_run], ""))
    assert scores.num_left_out == 4 and {s.estimate.num_examples for s in scores.scores} == {36}
