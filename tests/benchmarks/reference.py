"""How others score examples: what the engine is measured and checked against."""

import numpy as np
import pyarrow as pa
import torch
from torch.nn import functional
from transformers import PreTrainedModel

from s2l_ray.modeling.batching import IGNORED, ExampleTable


@torch.inference_mode()
def one_by_one(model: PreTrainedModel, table: pa.Table) -> np.ndarray:
    """Return losses as S2L's authors record them."""
    rows = ExampleTable(table)
    losses = []
    for row in range(len(rows)):
        batch = rows.batch(slice(row, row + 1), pad_id=0).to(model.device)
        losses.append(model(input_ids=batch.input_ids, labels=batch.labels).loss.item())
    return np.array(losses, dtype=np.float32)


@torch.inference_mode()
def padded(model: PreTrainedModel, table: pa.Table) -> np.ndarray:
    """Return losses by batches of 16 with full logits."""
    rows = ExampleTable(table)
    losses = []
    for first in range(0, len(rows), 16):
        batch = rows.batch(slice(first, first + 16), pad_id=0).to(model.device)
        logits_BTV = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask).logits[:, :-1].float()
        labels_BT = batch.labels[:, 1:]
        token_BT = functional.cross_entropy(logits_BTV.transpose(1, 2), labels_BT, reduction="none")
        losses.append((token_BT.sum(1) / (labels_BT != IGNORED).sum(1)).cpu().numpy())
    return np.concatenate(losses)
