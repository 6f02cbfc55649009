"""How many tokens a scoring batch holds: what the recipe says, or what the device has memory for."""

import logging
from collections.abc import Callable
from typing import Literal, TypeVar

import torch

from s2l_ray.recipe.scoring import CPU_BATCH_TOKENS

_MOST = 131_072  # from here on an H100 gains nothing more (docs/results.md), and less memory is at risk
_SHARE = 0.6  # of what is free: batches differ, and the allocator leaves gaps
_T = TypeVar("_T")
logger = logging.getLogger(__name__)


def tokens_that_fit(free_bytes: int, used_bytes: int, num_tokens: int) -> int:
    """Return the largest power of two of tokens that a share of the free memory holds, within bounds.

    Parameters
    ----------
    used_bytes, num_tokens
        What a trial batch took beside the weights, and its size, padding included.
    """
    fit = _SHARE * free_bytes / max(used_bytes / num_tokens, 1.0)
    return max(CPU_BATCH_TOKENS, min(_MOST, 1 << max(0, int(fit).bit_length() - 1)))


class BatchSize:
    """Tokens of a batch on one device; fewer, for good, once it ran out of memory."""

    def __init__(self, asked: int | Literal["auto"], device: torch.device) -> None:
        self._device = device
        self._is_settled = asked != "auto" or device.type != "cuda"
        self.tokens = CPU_BATCH_TOKENS if asked == "auto" else int(asked)

    def run(self, work: Callable[[int], _T], trial: Callable[[int], int]) -> _T:
        """Return what work makes with batches of this many tokens.

        The first time it is found out what fits: `trial` computes one batch of at most so many tokens, and returns how
        many it had. Batches are halved as long as the device's memory is too small.

        Raises
        ------
        RuntimeError
            It is too small for a batch of one token.
        """
        if not self._is_settled:
            self._is_settled = True
            self._settle(trial)
        return self._within_memory(work)

    def _settle(self, trial: Callable[[int], int]) -> None:
        self._within_memory(trial)  # what is made once, such as the head in its precision, is no batch's
        torch.cuda.reset_peak_memory_stats(self._device)
        before = torch.cuda.memory_allocated(self._device)
        num_tokens = self._within_memory(trial)
        used = torch.cuda.max_memory_allocated(self._device) - before
        cached = torch.cuda.memory_reserved(self._device) - torch.cuda.memory_allocated(self._device)
        self.tokens = tokens_that_fit(torch.cuda.mem_get_info(self._device)[0] + cached, used, num_tokens)

    def _within_memory(self, work: Callable[[int], _T]) -> _T:
        while True:
            try:
                return work(self.tokens)
            except torch.OutOfMemoryError as error:
                if self.tokens == 1:
                    raise RuntimeError(f"one example alone does not fit into the memory of {self._device}: lower "
                                       "data.max_length, or take a smaller model") from error
            self.tokens = max(1, self.tokens // 2)
            logger.warning("out of memory on %s: going on with batches of %d tokens", self._device, self.tokens)
