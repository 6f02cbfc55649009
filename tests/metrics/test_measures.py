"""Every metric: .venv/bin/pytest tests/metrics/test_measures.py"""

import math

import numpy as np
import pyarrow as pa
import pytest
import sacrebleu

from s2l_ray.metrics.measures.bleu import bleu_from_sums, bleu_interval, bleu_statistics
from s2l_ray.metrics.measures.rouge_l import rouge_l
from s2l_ray.recipe.registry import METRICS
from s2l_ray.testing import METRIC_PROMISES

PREDICTIONS = [
    "The patient denies chest pain and fever.",
    "She takes aspirin every day for her heart.",
    "No known drug allergies.",
    "",
    "He was seen in clinic last week, and he felt well.",
]
REFERENCES = [
    "The patient denies fever and chest pain.",
    "She takes aspirin daily for her heart.",
    "No known drug allergies.",
    "Family history is not known.",
    "He felt well when he was seen in clinic last week.",
]


def corpus_bleu(predictions, references):
    return bleu_from_sums(bleu_statistics(predictions, references).sum(axis=0))


def test_rouge_l_by_hand() -> None:
    # Longest common subsequence "a c d": P = 3/4, R = 3/5, F1 = 2 * (9/20) / (27/20) = 2/3.
    assert rouge_l("a b c d", "a c d e f") == pytest.approx(2 / 3)
    assert rouge_l("he was walking", "he was walked") == 1.0  # the stemmer makes both "walk"
    assert rouge_l("", "some text") == 0.0
    assert rouge_l("...", "...") == 0.0  # no words at all


def test_bleu_by_hand() -> None:
    # 5 words against 5, one differs at the end: precisions 4/5, 3/4, 2/3, 1/2, no brevity penalty.
    expected = 100 * (4 / 5 * 3 / 4 * 2 / 3 * 1 / 2) ** 0.25
    assert corpus_bleu(["a b c d e"], ["a b c d f"]) == pytest.approx(expected)
    # 4 words, all right, of 5: every precision 1, brevity penalty exp(1 - 5/4).
    assert corpus_bleu(["a b c d"], ["a b c d e"]) == pytest.approx(100 * math.exp(1 - 5 / 4))
    assert bleu_statistics(["a b c d e"], ["a b c d f"]).tolist() == [[5, 5, 4, 3, 2, 1, 5, 4, 3, 2]]


def test_bleu_bounds() -> None:
    assert corpus_bleu(REFERENCES, REFERENCES) == pytest.approx(100.0)
    assert corpus_bleu(REFERENCES, REFERENCES) <= 100.0
    assert corpus_bleu(["x"], ["y"]) == 0.0
    assert corpus_bleu([""], [""]) == 0.0


def test_summed_statistics_give_sacrebleus_corpus_score() -> None:
    expected = sacrebleu.corpus_bleu(PREDICTIONS, [REFERENCES])
    stats_ND = bleu_statistics(PREDICTIONS, REFERENCES)
    sums = stats_ND.sum(axis=0).tolist()
    assert stats_ND.shape == (5, 10)
    assert sums == [expected.sys_len, expected.ref_len, *expected.counts, *expected.totals]
    assert corpus_bleu(PREDICTIONS, REFERENCES) == pytest.approx(expected.score)
    # Any resample too: rows 0, 0, 4 score as those sentences do.
    rows = [0, 0, 4]
    expected = sacrebleu.corpus_bleu([PREDICTIONS[row] for row in rows], [[REFERENCES[row] for row in rows]])
    assert bleu_from_sums(stats_ND[rows].sum(axis=0)) == pytest.approx(expected.score)


def test_bleu_interval_holds_the_corpus_score_and_is_seeded() -> None:
    estimate = bleu_interval(PREDICTIONS, REFERENCES, np.random.default_rng(0))
    assert estimate.value == pytest.approx(corpus_bleu(PREDICTIONS, REFERENCES))
    assert 0 <= estimate.low < estimate.value < estimate.high <= 100
    assert estimate.n == 5
    assert estimate == bleu_interval(PREDICTIONS, REFERENCES, np.random.default_rng(0))


def test_bleu_refuses_unequal_or_empty_input() -> None:
    with pytest.raises(ValueError, match=r"predictions has 1 texts, references has 2"):
        corpus_bleu(["a"], ["a", "b"])
    with pytest.raises(ValueError, match=r"predictions has 0 texts"):
        bleu_interval([], [], np.random.default_rng(0))


# --- what every metric promises ----------------------------------------------------------------------


@pytest.mark.parametrize("promise", METRIC_PROMISES, ids=lambda promise: promise.__name__)
@pytest.mark.parametrize("name", METRICS.own)
def test_ours_keep_every_promise_that_is_asked_of_others(name, promise):
    promise(METRICS.find(name))


@pytest.mark.parametrize("name", [name for name in METRICS.own if METRICS.find(name).is_per_example])
def test_over_examples_it_is_their_mean(name):
    rows = pa.table({name: [0.0, 1.0, 1.0, 0.0, 1.0]})
    assert METRICS.find(name).estimate(rows, np.random.default_rng(0)).value == pytest.approx(0.6)


@pytest.mark.parametrize("name", METRICS.own)
def test_an_optimiser_goes_where_it_is_better(name):
    metric = METRICS.find(name)
    assert metric.mode == {"higher": "max", "lower": "min"}[metric.better]
