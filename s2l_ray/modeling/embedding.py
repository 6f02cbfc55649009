"""Embeddings: a mean of the last hidden state over an example's tokens, at unit length."""

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import torch
from torch.nn import functional

from s2l_ray.modeling.batch_size import BatchSize
from s2l_ray.modeling.batching import Batch, ExampleTable, longest_batch, padded, padding_multiple, plan_batches
from s2l_ray.recipe.scoring import Pooling

if TYPE_CHECKING:
    from transformers import PreTrainedModel  # heavy: most commands start without a model


@torch.inference_mode()
def mean_embeddings(model: "PreTrainedModel", batch: Batch, pooling: Pooling = "mean") -> torch.Tensor:
    """Return float32 embeddings of shape (B, D); padding takes no part.

    The mean is LTD's (arXiv 2305.09246). In the weighted one the token at place t of T counts t / (1 + ... + T): under
    causal attention the later ones have seen more (SGPT, arXiv 2202.08904, section 3.1.1; RDS+, arXiv 2503.01807).
    """
    batch = batch.to(model.device)
    hidden_BTD = model.base_model(
        input_ids=batch.input_ids, attention_mask=batch.attention_mask, use_cache=False
    ).last_hidden_state.float()
    weights_BT1 = batch.attention_mask.unsqueeze(-1).float()
    if pooling == "weighted_mean":
        weights_BT1 = weights_BT1 * weights_BT1.cumsum(dim=1)
    mean_BD = (hidden_BTD * weights_BT1).sum(dim=1) / weights_BT1.sum(dim=1)
    return functional.normalize(mean_BD, dim=-1)


def fitted_embeddings(
    model: "PreTrainedModel", table: pa.Table, size: BatchSize, pooling: Pooling = "mean"
) -> np.ndarray:
    """Return the embeddings of examples sorted by length, (N, D) float32, by batches that the device has memory for.

    On a GPU they are waited for once.
    """
    rows, multiple = ExampleTable(table), padding_multiple(model.device)

    def embed(batch_tokens: int) -> np.ndarray:
        spans = plan_batches(padded(table["num_tokens"].to_numpy(), multiple), batch_tokens)
        found = [mean_embeddings(model, rows.batch(span, pad_id=0, multiple=multiple), pooling) for span in spans]
        return np.asarray(torch.cat(found).cpu().numpy())

    def trial(batch_tokens: int) -> int:
        batch = longest_batch(table, batch_tokens, model.device)
        mean_embeddings(model, batch)
        return batch.input_ids.numel()

    return size.run(embed, trial)
