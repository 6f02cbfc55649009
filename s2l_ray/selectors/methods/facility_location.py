"""Facility location: the examples that together are most similar to all the rest.

f(S) = sum_i max_{j in S} s_ij, maximised greedily (Nemhauser et al. 1978; lazily, Minoux 1978). Used for data selection
by Wei et al., "Submodularity in Data Subset Selection and Active Learning", ICML 2015.
"""

from typing import Any

import numpy as np

from s2l_ray.numerics.facility import lazy_greedy
from s2l_ray.numerics.neighbours import nearest_neighbours
from s2l_ray.recipe.selection import SelectionConfig
from s2l_ray.selectors.pool import Pool
from s2l_ray.selectors.selector import Choice, Selector
from s2l_ray.tables.needs import Need

_MOST_FOUND = 0.8


class FacilityLocation(Selector):
    """Adds again and again the example that raises f most, with s = (1 + cosine) / 2 between nearest neighbours.

    Assumes that an example is served by its nearest chosen neighbour; dense regions count by their size, so it seeks
    typical examples where k-center seeks extremes. At least (1 - 1/e) of the best f. Nested; the score is the gain.
    The seed plays no part up to 20,000 examples: their neighbours are exact, above that they come from k-means cells
    (`nearest_neighbours`), and the finding `neighbour_recall` is the measured share of the true ones among them.

    Our choices: s is 0 beyond an example's `num_neighbours` nearest (at most the pool; above 20,000 examples 4096), and
    ties go to the first in the pool's order. Once all are served no example adds anything and the rest follows in that
    order, so if all embeddings are equal, the order is the pool's wherever `num_neighbours` reaches.

    Why not apricot 0.6.1: it takes sparse input and runs with numpy 2, but needs numba and nose, compiles for seconds
    at each start, and sums a candidate's own neighbours where f wants those that it is a neighbour of.
    """

    name = "facility_location"
    needs = frozenset({Need.EMBEDDINGS})
    parameters = frozenset({"num_neighbours"})
    takes_seed = True

    def select(self, pool: Pool, budget: int, config: SelectionConfig, rng: np.random.Generator) -> Choice:
        """Return the examples in the order of their gains."""
        assert pool.embeddings_ND is not None
        neighbours = nearest_neighbours(pool.embeddings_ND, min(config.num_neighbours, len(pool)), rng)
        chosen = lazy_greedy(neighbours, budget)
        share = float(chosen.gains_B.sum()) / len(pool)
        facts: dict[str, Any] = {"mean_similarity": round(share, 4), "neighbour_recall": round(neighbours.recall, 3)}
        if neighbours.recall < _MOST_FOUND:
            facts["remarks"] = [f"{neighbours.recall:.0%} of the examples' nearest neighbours were found, since their "
                                "embeddings form few clusters: a rougher choice than of up to 20,000 examples"]
        return Choice(chosen.positions_B, scores_B=chosen.gains_B, facts=facts)


SELECTOR = FacilityLocation()
