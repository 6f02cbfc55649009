"""Embeddings: the mean of the last hidden state over an example's tokens, at unit length."""

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import torch
from torch.nn import functional

from s2l_ray.modeling.batching import Batch, ExampleTable, longest_batch, padded, padding_multiple, plan_batches

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


def table_embeddings(model: "PreTrainedModel", table: pa.Table, batch_tokens: int) -> np.ndarray:
    """Return the embeddings of a table of examples, (N, D) float32; by length, so that little is padded.

    On a GPU they are waited for once.
    """
    rows, multiple = ExampleTable(table), padding_multiple(model.device)
    spans = plan_batches(padded(table["num_tokens"].to_numpy(), multiple), batch_tokens)
    found = [mean_embeddings(model, rows.batch(span, pad_id=0, multiple=multiple)) for span in spans]
    return np.asarray(torch.cat(found).cpu().numpy())


def longest_embeddings(model: "PreTrainedModel", table: pa.Table, batch_tokens: int) -> int:
    """Embed one batch of the longest examples, for a trial of the memory; returns its tokens, padding included."""
    batch = longest_batch(table, batch_tokens, model.device)
    mean_embeddings(model, batch)
    return batch.input_ids.numel()
