"""ROUGE-L."""

from functools import cache
from typing import Any

from s2l_ray.metrics.metric import Answer, Metric


class RougeL(Metric):
    """Mean ROUGE-L F1, 0 to 1: longest common subsequence of Porter-stemmed words; 0 if either text has none."""

    name = "rouge_l"

    def score(self, answer: Answer) -> float:
        """Return the F1 of prediction and reference."""
        return rouge_l(answer.prediction, answer.reference)


def rouge_l(prediction: str, reference: str) -> float:
    """Return ROUGE-L's F1 of two texts."""
    return float(_scorer().score(reference, prediction)["rougeL"].fmeasure)


@cache
def _scorer() -> Any:
    from rouge_score.rouge_scorer import RougeScorer  # heavy: its nltk takes seconds

    return RougeScorer(["rougeL"], use_stemmer=True)


METRIC = RougeL()
