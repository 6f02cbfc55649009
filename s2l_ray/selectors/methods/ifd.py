"""IFD: how little the instruction helps the model to write the response.

Li et al., "Superfiltering: Weak-to-Strong Data Filtering for Fast Instruction-Tuning", ACL 2024, arXiv 2402.00530.
"""

import numpy as np

from s2l_ray.recipe.selection import SelectionConfig
from s2l_ray.selectors.pool import Pool
from s2l_ray.selectors.selector import Choice, Selector, highest_first
from s2l_ray.tables.needs import Need


class IFD(Selector):
    """Highest instruction-following difficulty below 1: IFD = PPL(y | x) / PPL(y) = exp(l(y | x) - l(y)).

    Near 1 the instruction hardly helps, so there is most to learn; at 1 and above it misleads, and the paper drops
    such pairs. A budget that needs them takes them last, the nearest to 1 first: their score is 1 - IFD, which is
    not positive. The paper scores with a small pretrained model as it is (`probe.point: initial`). What it leaves
    open: PPL(y) is of the supervised tokens alone after a beginning-of-sequence token, the same tokens in both.
    """

    name = "ifd"
    needs = frozenset({Need.WITH_PROMPT, Need.WITHOUT_PROMPT})

    def select(self, pool: Pool, budget: int, config: SelectionConfig, rng: np.random.Generator) -> Choice:
        """Return the highest IFD below 1 first, then what is nearest to 1 from above."""
        with np.errstate(over="ignore"):  # a ratio beyond the largest double is infinite, and comes last as such
            ratios_N = np.exp(pool.probes["with_prompt"] - pool.probes["without_prompt"])
        num_misleading = int((ratios_N >= 1).sum())
        choice = highest_first(np.where(ratios_N < 1, ratios_N, 1 - ratios_N), budget)
        return Choice(choice.positions_B, scores_B=choice.scores_B, facts={"num_misleading": num_misleading})


SELECTOR = IFD()
