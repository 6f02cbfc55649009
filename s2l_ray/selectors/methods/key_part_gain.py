"""Key-part information gain: how much the response depends on the instruction's key parts.

He et al., "Don't Half-listen: Capturing Key-part Information in Continual Instruction Tuning" (KPIG), ACL 2025,
arXiv 2403.10056.
"""

import numpy as np

from s2l_ray.recipe.selection import SelectionConfig
from s2l_ray.selectors.pool import Pool
from s2l_ray.selectors.selector import Choice, Selector, highest_first
from s2l_ray.tables.needs import Need


class KeyPartGain(Selector):
    """Highest gain l(y | mask(x)) - l(y | x), in nats a token: the key parts tell the model most about the response.

    KPIG uses the gain to choose what to replay in continual tuning, with key parts named by GPT-4; as a selector for
    one fine-tuning, and with key parts by a rule (see `modeling.key_parts`), it is our own reading, and so is the
    direction: what the key parts say nothing about comes last. An instruction without any word has gain 0. The loss
    is the proxy's at `probe.point`.
    """

    name = "key_part_gain"
    needs = frozenset({Need.WITH_PROMPT, Need.MASKED_PROMPT})

    def select(self, pool: Pool, budget: int, config: SelectionConfig, rng: np.random.Generator) -> Choice:
        """Return the highest gains, the highest first."""
        return highest_first(pool.probes["masked_prompt"] - pool.probes["with_prompt"], budget)


SELECTOR = KeyPartGain()
