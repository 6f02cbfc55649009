"""What a selector can ask for beside the ids: a table that a stage makes, or a column."""

from enum import StrEnum


class Need(StrEnum):
    """The value is the name of the table, or what messages call it."""

    TRAJECTORIES = "trajectories"
    """Every example's loss at every point: stage trajectories."""
    EMBEDDINGS = "embeddings"
    """A vector for every example: stage embed."""
    REPRESENTATIONS = "representations"
    """A vector for every example and for every one of `selection.task_examples`: stage embed."""
    WITH_PROMPT = "with_prompt"
    """The loss of the example as it is: stage probe, as the next three."""
    WITHOUT_PROMPT = "without_prompt"
    """The loss of the response alone."""
    MASKED_PROMPT = "masked_prompt"
    """The loss of the response after a prompt whose key parts are masked."""
    PASS_RATES = "pass_rates"
    """The share of a model's sampled answers to every example that are right: stage sample."""
    JUDGE = "judge"
    """The loss of a judge's yes to a question about the example."""
    SOURCES = "sources"
    """The source of every example."""
    LENGTHS = "lengths"
    """Supervised tokens of every example."""
    SCORES = "scores"
    """A score of every example, from a file: selection.scores."""


PROBES = (Need.WITH_PROMPT, Need.WITHOUT_PROMPT, Need.MASKED_PROMPT, Need.JUDGE)
"""Further losses of each example, a table each."""

VECTORS = frozenset({Need.EMBEDDINGS, Need.REPRESENTATIONS})
"""A vector of each example."""
