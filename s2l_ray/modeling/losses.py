"""The example loss: mean negative log-likelihood over supervised tokens, in nats."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import torch
from torch.nn import functional

from s2l_ray.modeling.batching import IGNORED, Batch, ExampleTable, plan_batches
from s2l_ray.modeling.cross_entropy import Head, has_plain_head
from s2l_ray.recipe.model import AskedPrecision

if TYPE_CHECKING:
    from transformers import PreTrainedModel  # heavy: most commands start without a model


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
        self._dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        self._head: Head | None = None
        self._is_ready = False

    @torch.inference_mode()
    def example_losses(self, batch: Batch) -> torch.Tensor:
        """Return the losses of a batch: float32 of shape (B,), equal to `model(one_example).loss` for each row."""
        batch = batch.to(self.model.device)
        if not self._is_ready:
            self._prepare(batch)
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
        if self._dtype != torch.float32:
            for module in self.model.base_model.modules():
                if isinstance(module, torch.nn.Linear) and module is not layer:
                    module.to(self._dtype)  # once, instead of at each use
        self._is_ready = True


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
