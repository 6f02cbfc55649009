"""Several examples in one row of a training batch, in the place that padding would take, kept apart by their positions.

A model of transformers that is given positions and no mask takes each position 0 for the start of another sequence, and
lets no token see the sequence before (`transformers.masking_utils`). Whether a model really does is tried.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch

from s2l_ray.modeling.batching import IGNORED, Batch, padded


def rows_of(lengths: Sequence[int]) -> list[list[int]]:
    """Return which examples share a row as long as the longest of them: first fit, the longest first."""
    longest = max(lengths)
    rows: list[list[int]] = []
    room: list[int] = []
    for number in sorted(range(len(lengths)), key=lambda n: -lengths[n]):
        place = next((row for row, left in enumerate(room) if left >= lengths[number]), None)
        if place is None:
            place = len(rows)
            rows.append([])
            room.append(longest)
        rows[place].append(number)
        room[place] -= lengths[number]
    return rows


def pack(
    input_ids: Sequence[np.ndarray], supervised: Sequence[np.ndarray], pad_id: int, multiple: int = 1
) -> tuple[Batch, torch.Tensor]:
    """Return examples as one batch of fewer rows, and each token's position in its own example, (B, T).

    An example's first token is no label: the token before it is another's. What is left of a row is padding, which
    stands for an example of its own that nothing is learned from.
    """
    lengths = [len(ids) for ids in input_ids]
    rows = rows_of(lengths)
    shape = (len(rows), int(padded(max(lengths), multiple)))
    ids_BT, labels_BT = np.full(shape, pad_id, dtype=np.int64), np.full(shape, IGNORED, dtype=np.int64)
    mask_BT, positions_BT = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.int64)
    for row, numbers in enumerate(rows):
        start = 0
        for number in numbers:
            span = slice(start, start + lengths[number])
            ids_BT[row, span] = input_ids[number]
            labels_BT[row, span] = np.where(supervised[number], input_ids[number], IGNORED)
            labels_BT[row, start] = IGNORED
            mask_BT[row, span] = 1
            positions_BT[row, span] = np.arange(lengths[number])
            start = span.stop
        positions_BT[row, start:] = np.arange(shape[1] - start)
    learned_2P = np.stack(np.nonzero(labels_BT[:, 1:] != IGNORED))
    batch = Batch(*(torch.from_numpy(array) for array in (ids_BT, mask_BT, labels_BT, learned_2P)))
    return batch, torch.from_numpy(positions_BT)


@torch.no_grad()
def keeps_apart(logits_of: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> bool:
    """Tell whether a model sees nothing of the examples before in a row: two rows of two, of which one changes.

    Parameters
    ----------
    logits_of
        Of ids and positions, (B, T) each, to logits (B, T, V).
    """
    positions_BT = torch.arange(4).repeat(2)[None].repeat(2, 1)
    ids_BT = torch.tensor([[0, 1, 2, 3, 8, 9, 10, 11], [11, 10, 9, 8, 3, 2, 1, 0]])
    others_BT = ids_BT.clone()
    others_BT[:, :4] = torch.tensor([[4, 5, 6, 7], [7, 6, 5, 4]])
    before, after = (logits_of(ids, positions_BT)[:, 4:].float() for ids in (ids_BT, others_BT))
    # Nearly all models come to the same bits. Experts that get another number of tokens round their products otherwise.
    return torch.allclose(before, after, rtol=0, atol=1e-6 * max(1.0, float(before.abs().max())))
