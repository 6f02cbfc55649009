"""The example loss: mean negative log-likelihood over supervised tokens, in nats."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import torch
from torch.nn import functional
from transformers import PreTrainedModel

from s2l_ray.modeling.batching import IGNORED, Batch, ExampleTable, plan_batches

# Bytes of logits that exist at one time. Measured with one thread of an EPYC 9005 and 50,304 tokens: blocks of
# 412 MB pass 2,900 positions a second, of 26 MB 5,000, since they stay in the cache.
_HEAD_BYTES = 26_000_000


class LossScorer:
    """Scores batches with one model.

    The language-model head runs only where a token is supervised, in blocks, so the full (B, T, V) logits never
    exist. That is the model's own computation only if its head is a plain projection; some models scale or cap
    their logits afterwards, so the first batch is computed both ways and the faster one kept if they agree.
    """

    def __init__(self, model: PreTrainedModel, precision: str = "fp32") -> None:
        self.model = model.eval()
        self._dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        self._plain_head: bool | None = None

    @torch.inference_mode()
    def example_losses(self, batch: Batch) -> torch.Tensor:
        """Return the losses of a batch: float32 of shape (B,), equal to `model(one_example).loss` for each row."""
        batch = batch.to(self.model.device)
        if self._plain_head is None:
            self._plain_head = self._head_is_plain(batch)
        targets_BT = batch.labels[:, 1:]
        rows, columns = torch.nonzero(targets_BT != IGNORED, as_tuple=True)
        with torch.autocast(self.model.device.type, self._dtype, enabled=self._dtype != torch.float32):
            token_losses = self._token_losses(batch, rows, columns)
        sums_B = torch.zeros(len(targets_BT), dtype=torch.float64, device=self.model.device)
        counts_B = torch.zeros_like(sums_B)
        sums_B.index_add_(0, rows, token_losses.double())
        counts_B.index_add_(0, rows, torch.ones_like(token_losses, dtype=torch.float64))
        assert bool((counts_B > 0).all()), "an example without a supervised token must not reach scoring"
        return (sums_B / counts_B).float()

    def _token_losses(self, batch: Batch, rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
        targets = batch.labels[rows, columns + 1]
        if not self._plain_head:
            logits_BTV = self.model(input_ids=batch.input_ids, attention_mask=batch.attention_mask).logits
            return functional.cross_entropy(logits_BTV[rows, columns].float(), targets, reduction="none")
        hidden = self._hidden(batch)[rows, columns]
        head = self.model.get_output_embeddings()
        size = max(1, _HEAD_BYTES // (4 * head.weight.shape[0]))
        blocks = zip(hidden.split(size), targets.split(size), strict=True)
        return torch.cat([functional.cross_entropy(head(h).float(), t, reduction="none") for h, t in blocks])

    def _hidden(self, batch: Batch) -> torch.Tensor:
        body = self.model.base_model
        return body(input_ids=batch.input_ids, attention_mask=batch.attention_mask, use_cache=False).last_hidden_state

    def _head_is_plain(self, batch: Batch) -> bool:
        if self.model.get_output_embeddings() is None or self.model.base_model is self.model:
            return False
        first = Batch(batch.input_ids[:1], batch.attention_mask[:1], batch.labels[:1])
        ours = self.model.get_output_embeddings()(self._hidden(first))
        theirs = self.model(input_ids=first.input_ids, attention_mask=first.attention_mask).logits
        return ours.shape == theirs.shape and torch.allclose(ours, theirs, rtol=1e-4, atol=1e-4)


def table_losses(scorers: Sequence[LossScorer], table: pa.Table, batch_tokens: int) -> np.ndarray:
    """Return the losses of a table of examples (input_ids, supervised) under several models, (N, C) float32.

    Batches are of like length and fixed by the table, whoever scores it.
    """
    lengths_N = table["input_ids"].combine_chunks().value_lengths().to_numpy()
    order = np.argsort(lengths_N, kind="stable")
    rows = ExampleTable(table, order)
    losses_NC = np.empty((table.num_rows, len(scorers)), dtype=np.float32)
    for span in plan_batches(lengths_N[order], batch_tokens):
        batch = rows.batch(span, pad_id=0)  # padding is masked, so any id serves
        for column, scorer in enumerate(scorers):
            losses_NC[order[span], column] = scorer.example_losses(batch).cpu().numpy()
    return losses_NC
