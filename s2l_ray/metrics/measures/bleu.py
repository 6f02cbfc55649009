"""Corpus BLEU.

It is not a mean over examples but a function of counts summed over the corpus. `bleu_statistics` gives those counts
per sentence, tokenised once, so that `bleu_interval` can resample rows of numbers, not texts.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from sacrebleu.metrics.bleu import BLEU

from s2l_ray.metrics.intervals import NUM_RESAMPLES, Estimate, bootstrap_statistic
from s2l_ray.metrics.metric import Metric

_MAX_NGRAM = 4
_HEAD = 2  # hypothesis length, reference length; then _MAX_NGRAM matched and _MAX_NGRAM total n-gram counts


class Bleu(Metric):
    """Corpus BLEU, 0 to 100, one reference each, as sacrebleu's default: 13a tokeniser, 4-grams, smoothed."""

    name = "bleu"
    decimals = 1
    is_per_example = False

    def estimate(self, predictions: pa.Table, rng: np.random.Generator) -> Estimate:
        """Return BLEU of all rows, with a bootstrap over sentences."""
        return bleu_interval(predictions["prediction"].to_pylist(), predictions["reference"].to_pylist(), rng)


def bleu_statistics(predictions: Sequence[str], references: Sequence[str]) -> NDArray[np.int64]:
    """BLEU's sufficient statistics per sentence, shape (N, 10); the sum over any rows scores those sentences.

    Columns: hypothesis length, reference length (tokens), matched 1- to 4-grams, hypothesis 1- to 4-grams.

    Raises
    ------
    ValueError
        If there are no predictions, or not one reference for each.
    """
    if len(predictions) != len(references):
        raise ValueError(
            f"predictions has {len(predictions)} texts, references has {len(references)}; should be equal: "
            "pass one reference per prediction, in the same order."
        )
    if len(predictions) == 0:
        raise ValueError("predictions has 0 texts and should have >= 1: pass at least one example.")
    # effective_order changes the sentence scores, which are not used, and silences a warning about them.
    bleu = BLEU(effective_order=True)
    pairs = zip(predictions, references, strict=True)
    scores = [bleu.sentence_score(prediction, [reference]) for prediction, reference in pairs]
    rows = [[score.sys_len, score.ref_len, *score.counts, *score.totals] for score in scores]
    return np.array(rows, dtype=np.int64)


def bleu_from_sums(sums_D: NDArray[np.int64]) -> float:
    """Corpus BLEU in 0..100 from `bleu_statistics` summed over sentences, shape (10,)."""
    counts = sums_D.tolist()
    score = BLEU.compute_bleu(
        correct=counts[_HEAD : _HEAD + _MAX_NGRAM],
        total=counts[_HEAD + _MAX_NGRAM :],
        sys_len=counts[0],
        ref_len=counts[1],
        smooth_method="exp",
    )
    # The exponential of the mean log precision exceeds 100 in the last bit on a perfect match.
    return min(100.0, float(score.score))


def bleu_interval(
    predictions: Sequence[str],
    references: Sequence[str],
    rng: np.random.Generator,
    num_resamples: int = NUM_RESAMPLES,
) -> Estimate:
    """Corpus BLEU with its 95 % bootstrap interval over sentences. Raises as `bleu_statistics`."""
    return bootstrap_statistic(bleu_statistics(predictions, references), bleu_from_sums, rng, num_resamples)


METRIC = Bleu()
