"""RDS+: what is nearest to solved examples of the tasks wanted, each in its turn.

Ivison et al., "Large-Scale Data Selection for Instruction Tuning", 2025, arXiv 2503.01807 (section 3).
"""

import math
from collections.abc import Iterator

import numpy as np

from s2l_ray.recipe.selection import SelectionConfig
from s2l_ray.selectors.pool import Pool
from s2l_ray.selectors.selector import Choice, Selector, highest_first
from s2l_ray.tables.needs import Need

_SAME = 0.99999
"""Cosine from which on two examples are taken to be one text: what batches of other shapes change is less."""
_TOGETHER = 32
"""Rankings that are made in one product of matrices."""


class Representation(Selector):
    """Highest cosine to a solved example, by turns: each example of the task takes its next nearest, again and again.

    Vectors are means of the last hidden states, the token at place t weighted by t. Of several tasks, each takes turns
    by the highest cosine to any of its examples, so that no task's scale of cosines decides. Who comes upon an example
    that is taken already loses that turn, as in the authors' code (hamishivi/automated-instruction-selection). The
    paper's model is the target before training: name it in `embedding.model`; null takes the finished proxy. The score
    is the cosine by which an example was taken. Equal cosines are settled by the pool's order.
    """

    name = "representation"
    needs = frozenset({Need.REPRESENTATIONS})
    parameters = frozenset({"task_examples"})

    def select(self, pool: Pool, budget: int, config: SelectionConfig, rng: np.random.Generator) -> Choice:
        """Return the examples in the order in which they are taken."""
        rows_ND = pool.embeddings_ND
        assert rows_ND is not None and pool.tasks
        num_rankings = len(pool.tasks) if len(pool.tasks) > 1 else len(pool.tasks[0])
        depth = math.ceil(budget / num_rankings)
        while True:
            turns = [highest_first(scores_N, depth) for scores_N in _rankings(rows_ND, pool.tasks)]
            positions = np.stack([turn.positions_B for turn in turns], axis=1).ravel()  # turn by turn
            taken, firsts = np.unique(positions, return_index=True)
            if len(taken) >= budget:
                break
            depth = min(len(pool), 2 * depth)
        scores = np.stack([np.asarray(turn.scores_B) for turn in turns], axis=1).ravel()
        firsts = np.sort(firsts)[:budget]
        same = np.unique(positions[scores >= _SAME])
        remarks = [f"{len(same):,} examples of the pool are among selection.task_examples too, so they were nearest; "
                   "selection.forbidden leaves some out"] if len(same) else []
        facts = {"num_turns": num_rankings, "num_same_as_a_task_example": len(same), "remarks": remarks}
        return Choice(positions[firsts], scores_B=scores[firsts], facts=facts)


def _rankings(rows_ND: np.ndarray, tasks: tuple[np.ndarray, ...]) -> Iterator[np.ndarray]:
    """Yield the pool's cosines (N,) to each example of one task, or of several to each task's nearest example."""
    if len(tasks) == 1:
        for start in range(0, len(tasks[0]), _TOGETHER):
            yield from np.ascontiguousarray((rows_ND @ tasks[0][start : start + _TOGETHER].T).T)
        return
    for rows_MD in tasks:
        best_N = np.full(len(rows_ND), -np.inf, dtype=np.float32)
        for start in range(0, len(rows_MD), _TOGETHER):
            np.maximum(best_N, (rows_ND @ rows_MD[start : start + _TOGETHER].T).max(axis=1), out=best_N)
        yield best_N


SELECTOR = Representation()
