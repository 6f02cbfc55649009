"""The example loss: mean negative log-likelihood over supervised tokens, in nats."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import torch
from torch.nn import functional

from s2l_ray.modeling.batch_size import BatchSize
from s2l_ray.modeling.batching import (
    Batch,
    ExampleTable,
    longest_batch,
    onto,
    padded,
    padding_multiple,
    plan_batches,
)
from s2l_ray.modeling.cross_entropy import Head, has_plain_head
from s2l_ray.modeling.models import DTYPES
from s2l_ray.recipe.model import AskedPrecision

if TYPE_CHECKING:
    from transformers import PreTrainedModel  # heavy: most commands start without a model

_ALL_WEIGHTS_IN_BF16 = ("cuda",)
"""Devices where bf16 holds all weights in bf16, so that nothing is cast in the loop; a CPU's results keep the norms and
embeddings of fp32, which autocast brings to it."""


class LossScorer:
    """Scores batches with one model.

    The language-model head runs only where a token is supervised and tile by tile, so logits of shape (B, T, V) never
    exist; and no attention mask is given, since padding on the right comes after every token that counts and a causal
    model does not look ahead. That is the model's own computation only if it is causal and its head a plain
    projection; some models scale or cap their logits afterwards. So the first batch is computed both ways, and where
    they differ the model's own logits are used throughout.
    """

    def __init__(self, model: "PreTrainedModel", precision: AskedPrecision = "fp32") -> None:
        """Take the model over: in bf16 its weights are brought to it.

        Parameters
        ----------
        precision
            fp32 or bf16; what auto means is decided before (`settle_precision`), by whoever names the result.
        """
        assert precision != "auto", precision
        self.model = model.eval()
        self._dtype = DTYPES[precision]
        self._head: Head | None = None
        self._casts = self._dtype != torch.float32
        self._is_ready = False

    @torch.inference_mode()
    def example_losses(self, batch: Batch) -> torch.Tensor:
        """Return the losses of a batch: float32 of shape (B,), equal to `model(one_example).loss` for each row.

        The batch is on the host. On a GPU nothing is waited for: the losses are on their way when this returns.
        """
        device = self.model.device
        counts_B = torch.bincount(batch.positions_2P[0], minlength=len(batch.labels)).double()
        assert bool((counts_B > 0).all()), "an example without a supervised token must not reach scoring"
        batch = batch.to(device)
        if not self._is_ready:
            self._prepare(batch)
        rows, columns = batch.positions_2P
        with torch.autocast(device.type, self._dtype, enabled=self._casts):
            token_losses = self._token_losses(batch, rows, columns)
        sums_B = torch.zeros(len(batch.labels), dtype=torch.float64, device=device)
        sums_B.index_add_(0, rows, token_losses.double())
        return (sums_B / onto(counts_B, device)).float()

    def _token_losses(self, batch: Batch, rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
        targets = batch.labels[rows, columns + 1]
        if self._head is not None:
            return self._head.token_losses(self._hidden(batch)[rows, columns], targets)
        logits_BTV = self.model(input_ids=batch.input_ids, attention_mask=batch.attention_mask).logits
        return functional.cross_entropy(logits_BTV[rows, columns].float(), targets, reduction="none")

    def _hidden(self, batch: Batch) -> torch.Tensor:
        return self.model.base_model(input_ids=batch.input_ids, use_cache=False).last_hidden_state

    def _prepare(self, batch: Batch) -> None:
        """Find out whether the head is plain, then bring the weights of products to the precision of products."""
        layer, ends = self.model.get_output_embeddings(), [0, len(batch.input_ids) - 1]  # the shorter is padded
        if has_plain_head(self.model, batch.input_ids[ends], batch.attention_mask[ends]):
            self._head = Head.of(layer, self._dtype)
        if self._casts and self._head is not None and self.model.device.type in _ALL_WEIGHTS_IN_BF16:
            # The weights alone: buffers such as the frequencies of rotary positions need their fp32.
            for weight in self.model.base_model.parameters():
                weight.data = weight.data.to(self._dtype)
            self._casts = False
        elif self._casts:
            for module in self.model.base_model.modules():
                if isinstance(module, torch.nn.Linear) and module is not layer:
                    module.to(self._dtype)  # once, instead of at each use
        self._is_ready = True


def table_losses(scorers: Sequence[LossScorer], table: pa.Table, batch_tokens: int) -> np.ndarray:
    """Return the losses of a table of examples (input_ids, supervised) under several models, (N, C) float32.

    Batches are of like length and fixed by the table, whoever scores it. On a GPU the losses are waited for once.
    """
    device = scorers[0].model.device
    multiple = padding_multiple(device)
    lengths_N = table["input_ids"].combine_chunks().value_lengths().to_numpy()
    order = np.argsort(lengths_N, kind="stable")
    rows = ExampleTable(table, order)
    found: list[torch.Tensor] = []
    for span in plan_batches(padded(lengths_N[order], multiple), batch_tokens):
        batch = rows.batch(span, pad_id=0, multiple=multiple)  # padding is masked, so any id serves
        found.append(torch.stack([scorer.example_losses(batch) for scorer in scorers], dim=1))
    losses_NC = np.empty((table.num_rows, len(scorers)), dtype=np.float32)
    losses_NC[order] = torch.cat(found).cpu().numpy()
    return losses_NC


def fitted_losses(scorers: Sequence[LossScorer], table: pa.Table, size: BatchSize) -> np.ndarray:
    """Return `table_losses` by batches that the device has memory for."""

    def trial(tokens: int) -> int:
        batch = longest_batch(table, tokens, scorers[0].model.device)
        for scorer in scorers:
            scorer.example_losses(batch)
        return batch.input_ids.numel()

    return size.run(lambda tokens: table_losses(scorers, table, tokens), trial)
