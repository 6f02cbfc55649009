"""Answers to prompts: the most likely ones, or sampled."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from transformers import DynamicCache, LogitsProcessor, LogitsProcessorList, PreTrainedTokenizerBase

from s2l_ray.modeling.batch_size import BatchSize
from s2l_ray.modeling.batching import plan_batches
from s2l_ray.modeling.models import pad_token_id

if TYPE_CHECKING:
    from transformers import PreTrainedModel  # heavy: most commands start without a model

CPU_PROMPTS = 64
"""Prompts that are answered together on CPUs, where the recipe leaves it open."""
_STRETCH = 16  # tokens after which prompts that are answered leave their batch


@dataclass(frozen=True)
class Sampling:
    """How answers are drawn: each prompt has a seed of its own, so what else is in the batch makes no difference."""

    temperature: float
    seeds: Sequence[int]
    """Of each prompt."""

    def of(self, numbers: Iterable[int]) -> "Sampling":
        """Return that of some of the prompts."""
        return Sampling(self.temperature, [self.seeds[number] for number in numbers])


def fitted_answers(
    model: "PreTrainedModel", tokenizer: PreTrainedTokenizerBase, prompts: Sequence[np.ndarray], max_new_tokens: int,
    asked: int | Literal["auto"], sampling: Sampling | None = None,
) -> list[str]:
    """Return `generate_answers` by batches of prompts of like length: so many, or what a GPU has memory for."""
    order = sorted(range(len(prompts)), key=lambda number: len(prompts[number]))
    lengths_N = np.array([len(prompts[number]) for number in order])

    def answer(spans: Sequence[slice]) -> list[str]:
        found = [text for span in spans for text in
                 generate_answers(model, tokenizer, [prompts[n] for n in order[span]], max_new_tokens,
                         None if sampling is None else sampling.of(order[span]))]
        return [found[place] for place in np.argsort(order)]

    def trial(batch_tokens: int) -> int:
        # The pass over prompts takes more for each token than what is kept of one that is answered with.
        longest = order[-max(1, batch_tokens // int(lengths_N[-1])) :]
        generate_answers(model, tokenizer, [prompts[number] for number in longest], 1)
        return len(longest) * int(lengths_N[-1])

    if asked == "auto" and model.device.type == "cuda":
        full_N = lengths_N + max_new_tokens
        return BatchSize("auto", model.device).run(lambda tokens: answer(plan_batches(full_N, tokens)), trial)
    rows = CPU_PROMPTS if asked == "auto" else asked
    return answer([slice(start, start + rows) for start in range(0, len(order), rows)])


def prompt_length(supervised_T: np.ndarray) -> int:
    """Return how many tokens stand before an example's last supervised stretch, which an answer takes the place of."""
    last = int(np.flatnonzero(supervised_T)[-1])
    before = np.flatnonzero(~supervised_T[: last + 1])
    return int(before[-1]) + 1 if len(before) else 1


@torch.inference_mode()
def generate_answers(
    model: "PreTrainedModel", tokenizer: PreTrainedTokenizerBase, prompts: Sequence[np.ndarray], max_new_tokens: int,
    sampling: Sampling | None = None,
) -> list[str]:
    """Return the model's most likely continuation of each prompt (token ids), or one drawn, without special tokens.

    Prompts are padded on the left, so every answer starts at the same column. Sampling settings and penalties that
    a model's generation_config brings are put out of force. Prompts whose answers have ended are not carried along to
    the end of the longest answer.
    """
    ended = _ended(model, tokenizer, prompts, max_new_tokens, sampling)
    found = dict(pair for rows, made in ended for pair in zip(rows, made, strict=True))
    return tokenizer.batch_decode([found[row] for row in range(len(prompts))], skip_special_tokens=True)


class _Draws(LogitsProcessor):
    """Makes the most likely token one that is drawn: argmax of logits / temperature + Gumbel noise is a draw.

    The noise of each row comes from a generator of its own.
    """

    def __init__(self, sampling: Sampling, device: torch.device) -> None:
        self._temperature = sampling.temperature
        self._generators = [torch.Generator(device).manual_seed(seed) for seed in sampling.seeds]

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        waits_BV = torch.empty_like(scores, dtype=torch.float32)
        for row, generator in enumerate(self._generators):
            waits_BV[row].exponential_(generator=generator)
        return scores.float() / self._temperature - waits_BV.log()

    def keep(self, stays_B: torch.Tensor) -> None:
        """Go on with some of the rows."""
        self._generators = [self._generators[row] for row in stays_B.nonzero()[:, 0].tolist()]


def _ended(
    model: "PreTrainedModel", tokenizer: PreTrainedTokenizerBase, prompts: Sequence[np.ndarray], max_new_tokens: int,
    sampling: Sampling | None,
) -> Iterator[tuple[list[int], list[list[int]]]]:
    """Generate, and give the numbers of prompts whose answers have ended, and these, as they end."""
    pad, end = pad_token_id(tokenizer), tokenizer.eos_token_id
    ids_BT, mask_BT = _left_padded(prompts, pad)
    ids_BT, mask_BT = ids_BT.to(model.device), mask_BT.to(model.device)
    longest, numbers = ids_BT.shape[1], torch.arange(len(prompts))
    cache, draws = None, None if sampling is None else _Draws(sampling, model.device)
    while len(numbers):
        left = longest + max_new_tokens - ids_BT.shape[1]
        made = model.generate(  # type: ignore[operator]
            input_ids=ids_BT, attention_mask=mask_BT, past_key_values=cache, do_sample=False, num_beams=1,
            temperature=None, top_p=None, top_k=None, repetition_penalty=1.0, no_repeat_ngram_size=0,
            logits_processor=LogitsProcessorList([] if draws is None else [draws]),
            max_new_tokens=min(_STRETCH, left), eos_token_id=end, pad_token_id=pad, return_dict_in_generate=True,
        )
        ids_BT, cache = made.sequences, made.past_key_values
        new_BT = ids_BT[:, longest:]
        has_ended_B = (new_BT == end).any(dim=1) | (new_BT.shape[1] == max_new_tokens)
        yield numbers[has_ended_B.cpu()].tolist(), new_BT[has_ended_B].tolist()
        stays_B = ~has_ended_B
        if draws is not None:
            draws.keep(stays_B)
        mask_BT = torch.cat([mask_BT, mask_BT.new_ones(len(ids_BT), ids_BT.shape[1] - mask_BT.shape[1])], dim=1)
        ids_BT, mask_BT, numbers = ids_BT[stays_B], mask_BT[stays_B], numbers[stays_B.cpu()]
        if isinstance(cache, DynamicCache):
            cache.batch_select_indices(stays_B.nonzero()[:, 0])
        else:  # what another kind keeps is made again
            cache = None


def _left_padded(prompts: Sequence[np.ndarray], pad: int) -> tuple[torch.Tensor, torch.Tensor]:
    longest = max(len(prompt) for prompt in prompts)
    ids_BT = torch.full((len(prompts), longest), pad, dtype=torch.long)
    mask_BT = torch.zeros_like(ids_BT)
    for row, prompt in enumerate(prompts):
        ids_BT[row, longest - len(prompt) :] = torch.from_numpy(np.asarray(prompt, dtype=np.int64))
        mask_BT[row, longest - len(prompt) :] = 1
    return ids_BT, mask_BT
