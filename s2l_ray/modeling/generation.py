"""Greedy answers to prompts."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from s2l_ray.modeling.models import pad_token_id

if TYPE_CHECKING:
    from transformers import PreTrainedModel  # heavy: most commands start without a model


@torch.inference_mode()
def greedy_answers(
    model: "PreTrainedModel",
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[np.ndarray],
    max_new_tokens: int,
) -> list[str]:
    """Return the model's most likely continuation of each prompt (token ids), without special tokens.

    Prompts are padded on the left, so every answer starts at the same column. Sampling settings and penalties that
    a model's generation_config brings are put out of force.
    """
    longest = max(len(prompt) for prompt in prompts)
    ids_BT = torch.full((len(prompts), longest), pad_token_id(tokenizer), dtype=torch.long)
    mask_BT = torch.zeros_like(ids_BT)
    for row, prompt in enumerate(prompts):
        ids_BT[row, longest - len(prompt) :] = torch.from_numpy(np.asarray(prompt, dtype=np.int64))
        mask_BT[row, longest - len(prompt) :] = 1
    output_BT = model.generate(  # type: ignore[operator]
        input_ids=ids_BT.to(model.device), attention_mask=mask_BT.to(model.device), do_sample=False, num_beams=1,
        temperature=None, top_p=None, top_k=None, repetition_penalty=1.0, no_repeat_ngram_size=0,
        max_new_tokens=max_new_tokens,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=pad_token_id(tokenizer),
    )
    return tokenizer.batch_decode(output_BT[:, longest:], skip_special_tokens=True)
