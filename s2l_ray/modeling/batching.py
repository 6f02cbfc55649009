"""Token-bounded batches of examples of like length, and their padding."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import ArrayLike

IGNORED = -100
# What starting one more batch costs beside its tokens, in tokens: a pass's calls take some milliseconds, whatever
# the batch holds, and a product of few rows runs below the hardware's rate.
_BATCH_COST = 128


@dataclass(frozen=True)
class Batch:
    """Right-padded examples: ids, mask and labels of shape (B, T); labels are IGNORED where not supervised."""

    input_ids: torch.Tensor
    attention_mask: torch.Tensor
    labels: torch.Tensor
    positions_2P: torch.Tensor
    """Rows and columns of the P places whose next token is supervised, row by row. They are found on the host with the
    batch: to count them on a GPU, the host would have to wait for it."""

    def to(self, device: torch.device) -> "Batch":
        """Return the batch on a device; a copy to a GPU is under way while the host goes on."""
        return Batch(*(onto(tensor, device) for tensor in (
            self.input_ids, self.attention_mask, self.labels, self.positions_2P)))


def onto(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Return a tensor on a device, without waiting for the device."""
    if device.type != "cuda" or tensor.is_cuda:
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def padding_multiple(device: torch.device) -> int:
    """Return what lengths are padded to a multiple of: a GPU loads kernels for every new shape."""
    return 64 if device.type == "cuda" else 1


def padded(lengths: ArrayLike, multiple: int) -> np.ndarray:
    """Return lengths rounded up to a multiple, int64."""
    return -(-np.asarray(lengths, dtype=np.int64) // multiple) * multiple


def plan_batches(lengths_N: np.ndarray, batch_tokens: int) -> list[slice]:
    """Cut consecutive examples into batches of at most `batch_tokens` tokens, padding included, at the least cost.

    The examples should come sorted by length. One example longer than the bound is a batch of its own. The cost of a
    batch is its tokens, padding included, and `_BATCH_COST` more; the cheapest of all cuts is found by dynamic
    programming. The result depends on the lengths alone, so whoever scores a shard makes the same batches.
    """
    lengths = np.asarray(lengths_N, dtype=np.int64)
    cheapest = np.zeros(len(lengths) + 1, dtype=np.int64)  # cost of the first n examples
    first = np.zeros(len(lengths) + 1, dtype=np.int64)  # where the last batch of the first n examples starts
    oldest = 0
    for end in range(1, len(lengths) + 1):
        tokens = np.maximum.accumulate(lengths[oldest:end][::-1])[::-1] * np.arange(end - oldest, 0, -1)
        fitting = min(int(np.searchsorted(-tokens, -batch_tokens)), end - 1 - oldest)
        oldest, tokens = oldest + fitting, tokens[fitting:]
        costs = cheapest[oldest:end] + tokens
        best = int(costs.argmin())
        first[end], cheapest[end] = oldest + best, costs[best] + _BATCH_COST
    batches, end = [], len(lengths)
    while end:
        batches.append(slice(int(first[end]), end))
        end = int(first[end])
    return batches[::-1]


def padded_tokens(lengths_N: np.ndarray, batch_tokens: int, multiple: int = 1) -> int:
    """Return the number of tokens in the batches of `plan_batches`, padding included."""
    lengths = padded(lengths_N, multiple)
    return sum(int(lengths[span].max()) * len(lengths[span]) for span in plan_batches(lengths, batch_tokens))


def collate(
    input_ids: Sequence[np.ndarray], supervised: Sequence[np.ndarray], pad_id: int, multiple: int = 1
) -> Batch:
    """Pad examples on the right into one batch, whose length is a multiple of this."""
    size, longest = len(input_ids), int(padded(max(len(ids) for ids in input_ids), multiple))
    ids_BT = np.full((size, longest), pad_id, dtype=np.int64)
    mask_BT = np.zeros((size, longest), dtype=np.int64)
    labels_BT = np.full((size, longest), IGNORED, dtype=np.int64)
    for row, (ids, chosen) in enumerate(zip(input_ids, supervised, strict=True)):
        ids_BT[row, : len(ids)] = ids
        mask_BT[row, : len(ids)] = 1
        labels_BT[row, : len(ids)] = np.where(chosen, ids, IGNORED)
    positions_2P = np.stack(np.nonzero(labels_BT[:, 1:] != IGNORED))
    return Batch(*(torch.from_numpy(array) for array in (ids_BT, mask_BT, labels_BT, positions_2P)))


def blank_of(position: int) -> int:
    """Return the position of a row's blank in an `ExampleTable`, or of a blank's row."""
    return ~position


class ExampleTable:
    """The token columns of an examples table, with one row at hand as numpy arrays and nothing copied.

    It is a map-style dataset: `transformers.Trainer` samples from it, and workers of one node share the table's
    memory when it lies in Ray's object store. A row has a blank beside it, at `blank_of` its position: the same tokens,
    of which none is supervised.
    """

    def __init__(self, table: pa.Table, order: np.ndarray | None = None) -> None:
        self._blocks = [
            (batch.column("input_ids"), batch.column("supervised"))
            for batch in table.select(["input_ids", "supervised"]).to_batches()
        ]
        sizes = [len(ids) for ids, _ in self._blocks]
        lengths = [ids.value_lengths().to_numpy() for ids, _ in self._blocks]
        self._starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        self._order = np.arange(table.num_rows) if order is None else order
        self.lengths_N = np.concatenate([np.empty(0, dtype=np.int32), *lengths])[self._order]

    def __len__(self) -> int:
        return len(self._order)

    @property
    def largest_id(self) -> int:
        """Return the largest token id of all rows; -1 where there is none."""
        return max(self.distinct_ids, default=-1)

    @property
    def distinct_ids(self) -> set[int]:
        """Return every token id of all rows."""
        return {number for ids, _ in self._blocks for number in pc.unique(ids.flatten()).to_pylist()}

    def __getitem__(self, position: int) -> dict[str, np.ndarray]:
        if position < 0:
            row = self[blank_of(position)]
            return {**row, "supervised": np.zeros_like(row["supervised"])}
        row_number = int(self._order[position])
        block = int(np.searchsorted(self._starts, row_number, side="right")) - 1
        ids, supervised = self._blocks[block]
        offset = row_number - int(self._starts[block])
        return {
            "input_ids": ids[offset].values.to_numpy(),
            "supervised": supervised[offset].values.to_numpy(zero_copy_only=False),
        }

    def batch(self, rows: slice, pad_id: int, multiple: int = 1) -> Batch:
        """Return consecutive rows as one batch, padded to a multiple."""
        items = [self[position] for position in range(*rows.indices(len(self)))]
        return collate([i["input_ids"] for i in items], [i["supervised"] for i in items], pad_id, multiple)


def longest_batch(table: pa.Table, batch_tokens: int, device: torch.device) -> Batch:
    """Return the longest examples of a table as one batch of at most so many tokens, one example at least."""
    lengths_N = table["input_ids"].combine_chunks().value_lengths().to_numpy()
    order, multiple = np.argsort(-lengths_N, kind="stable"), padding_multiple(device)
    longest = int(padded(lengths_N[order[0]], multiple))
    return ExampleTable(table, order).batch(slice(0, max(1, batch_tokens // longest)), pad_id=0, multiple=multiple)
