"""Embeddings: the mean of the last hidden state over an example's tokens, at unit length."""

from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from s2l_ray.modeling.batching import Batch

if TYPE_CHECKING:
    from transformers import PreTrainedModel  # heavy: most commands start without a model


@torch.inference_mode()
def mean_embeddings(model: "PreTrainedModel", batch: Batch) -> torch.Tensor:
    """Return float32 embeddings of shape (B, D); padding takes no part (LTD, arXiv 2305.09246: mean pooling)."""
    batch = batch.to(model.device)
    hidden_BTD = model.base_model(
        input_ids=batch.input_ids, attention_mask=batch.attention_mask, use_cache=False
    ).last_hidden_state.float()
    weights_BT1 = batch.attention_mask.unsqueeze(-1).float()
    mean_BD = (hidden_BTD * weights_BT1).sum(dim=1) / weights_BT1.sum(dim=1)
    return functional.normalize(mean_BD, dim=-1)
