"""Pass rate: what a model solves sometimes, of several sampled answers.

Yu et al., "DAPO: An Open-Source LLM Reinforcement Learning System at Scale", 2025, arXiv 2503.14476 (section 3.2,
dynamic sampling: prompts that are always or never solved teach nothing there); Bae et al., "Online Difficulty Filtering
for Reasoning Oriented Reinforcement Learning", 2025, arXiv 2504.03380 (what is solved half of the time teaches most).
"""

import numpy as np

from s2l_ray.recipe.selection import SelectionConfig
from s2l_ray.selectors.pool import Pool
from s2l_ray.selectors.selector import Choice, Selector, highest_first
from s2l_ray.tables.needs import Need


class PassRate(Selector):
    """Highest p (1 - p), p the share of a model's sampled answers that are right: solved neither always nor never.

    A budget that needs more takes what is never solved, then what is always solved; scores are p (1 - p), then 0 and
    -1. Both papers choose prompts of reinforcement learning, by the model that is trained; that the same rows are those
    to fine-tune on is an assumption of ours. Examples whose answer cannot be checked are no candidates. Equal rates are
    settled by the pool's order: with four answers there are five.
    """

    name = "pass_rate"
    needs = frozenset({Need.PASS_RATES})

    def select(self, pool: Pool, budget: int, config: SelectionConfig, rng: np.random.Generator) -> Choice:
        """Return what is solved sometimes first, the nearest to half of the time before all."""
        rates_N = pool.pass_rates_N
        assert rates_N is not None
        choice = highest_first(np.where(rates_N == 1, -1, rates_N * (1 - rates_N)), budget)
        is_sometimes_N = (rates_N > 0) & (rates_N < 1)
        counts = {"num_sometimes_solved": int(is_sometimes_N.sum()), "num_never_solved": int((rates_N == 0).sum()),
                  "num_always_solved": int((rates_N == 1).sum())}
        others = int((~is_sometimes_N[choice.positions_B]).sum())
        remarks = [f"{others:,} of {budget:,} are always or never solved: only {counts['num_sometimes_solved']:,} "
                   "candidates are solved sometimes, lower the budget or sample more answers"] if others else []
        return Choice(choice.positions_B, scores_B=choice.scores_B, facts={**counts, "remarks": remarks})


SELECTOR = PassRate()
