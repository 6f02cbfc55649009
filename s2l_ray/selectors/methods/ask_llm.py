"""Ask-LLM: a language model says whether an example is worth training on.

Sachdeva et al., "How to Train Data-Efficient LLMs", arXiv 2402.09668.
"""

import numpy as np

from s2l_ray.recipe.selection import SelectionConfig
from s2l_ray.selectors.pool import Pool
from s2l_ray.selectors.selector import Choice, Selector, highest_first
from s2l_ray.tables.needs import Need


class AskLLM(Selector):
    """Highest P("yes" | question about the example): the softmax over the whole vocabulary, of the first token.

    The paper asks about text to pretrain on; `probe.question` puts it for instruction data. Assumes a judge that
    follows instructions (`probe.judge`); the proxy, where none is named, mostly answers at random.
    """

    name = "ask_llm"
    needs = frozenset({Need.JUDGE})

    def select(self, pool: Pool, budget: int, config: SelectionConfig, rng: np.random.Generator) -> Choice:
        """Return the likeliest yes first; probabilities too small for a double still rank, by the loss."""
        losses_N = pool.probes["judge"]
        order = highest_first(-losses_N, budget).positions_B
        return Choice(order, scores_B=np.exp(-losses_N[order]))


SELECTOR = AskLLM()
