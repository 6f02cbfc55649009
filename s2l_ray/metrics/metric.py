"""What a metric is: how one answer is judged, how many are summed up, and how its numbers read."""

from abc import ABC
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import pyarrow as pa

from s2l_ray.metrics.intervals import Estimate, mean_interval


@dataclass(frozen=True, slots=True)
class Answer:
    """A generated answer, the reference response, and the gold answer where there is one."""

    prediction: str
    reference: str
    gold: str | None
    accepted: tuple[str, ...] = ()
    """Every answer that is right, where there are several; of multiple choice the letter."""
    choices: tuple[str, ...] = ()
    """Of multiple choice, the texts in order."""


@dataclass(frozen=True, slots=True)
class Score:
    """An answer's value, and what is to be said about how it came to it."""

    value: float
    remark: str = ""


@dataclass(frozen=True, slots=True)
class Options:
    """A question's options, in order."""

    losses: tuple[float, ...]
    """Of each option, the sum of its tokens' losses after the question, in nats."""
    lengths: tuple[int, ...]
    """Characters of each."""
    right: int
    """Which is right, 0 the first."""


class Metric(ABC):
    """A number between models. The docstring's first line of a subclass says what it is, with its unit and range;
    that of one answer is 0 to 1."""

    name: ClassVar[str]
    """As its module is called, and its column in the predictions."""
    needs: ClassVar[Literal["losses", "answers", "options"]] = "answers"
    """What is computed for it: each example's loss, an answer generated to its prompt, or its options' losses."""
    better: ClassVar[Literal["higher", "lower"]] = "higher"
    decimals: ClassVar[int] = 3
    """Digits after the point that people are shown."""
    needs_gold: ClassVar[bool] = False
    """Whether every answer needs a gold answer: rows without one are refused before any work."""
    is_per_example: ClassVar[bool] = True
    """Whether each example has a value; without, only the corpus has one, and no paired difference can be given."""

    def score(self, answer: Answer) -> float:
        """Return the value of one answer, for a metric that needs answers and is per example."""
        raise NotImplementedError(self.name)

    def judge(self, answer: Answer) -> Score:
        """Return the value of one answer with a remark, where there is one to make."""
        return Score(self.score(answer))

    def rank(self, options: Options) -> float:
        """Return the value of one question, for a metric that needs options."""
        raise NotImplementedError(self.name)

    def estimate(self, predictions: pa.Table, rng: np.random.Generator) -> Estimate:
        """Return the metric over the rows of a predictions table with its interval, here a bootstrap of the mean."""
        return mean_interval(predictions[self.name].to_numpy(), rng)

    @property
    def mode(self) -> Literal["max", "min"]:
        """Return what an optimiser does to it."""
        return "max" if self.better == "higher" else "min"
