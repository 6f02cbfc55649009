"""Whether an answer ends as it should."""

from s2l_ray.metrics.metric import Answer, Metric


class LastWord(Metric):
    """Share of answers whose last word is the reference's, 0 to 1."""

    name = "last_word"

    def score(self, answer: Answer) -> float:
        """Return 1 where they are the same, else 0."""
        return float(answer.prediction.split()[-1:] == answer.reference.split()[-1:])


METRIC = LastWord()
