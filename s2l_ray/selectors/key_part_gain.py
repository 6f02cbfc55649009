"""Key-part information gain: how much the response depends on the instruction's key parts.

He et al., "Don't Half-listen: Capturing Key-part Information in Continual Instruction Tuning" (KPIG), ACL 2025,
arXiv 2403.10056.
"""

from typing import ClassVar

import numpy as np

from s2l_ray.selection_config import SelectionConfig
from s2l_ray.selectors.pool import Choice, Pool, highest_first


class KeyPartGain:
    """Highest gain l(y | mask(x)) - l(y | x), in nats a token: the key parts tell the model most about the response.

    KPIG uses the gain to choose what to replay in continual tuning, with key parts named by GPT-4; as a selector for
    one fine-tuning, and with key parts by a rule (see `modeling.key_parts`), it is our own reading, and so is the
    direction: what the key parts say nothing about comes last. An instruction without any word has gain 0. The loss
    is the proxy's at `probe.point`.
    """

    name: ClassVar[str] = "key_part_gain"
    requires: ClassVar[frozenset[str]] = frozenset({"with_prompt", "masked_prompt"})
    parameters: ClassVar[frozenset[str]] = frozenset()
    is_nested: ClassVar[bool] = True

    def select(self, pool: Pool, budget: int, config: SelectionConfig, rng: np.random.Generator) -> Choice:
        """Return the highest gains, the highest first."""
        return highest_first(pool.probes["masked_prompt"] - pool.probes["with_prompt"], budget)
