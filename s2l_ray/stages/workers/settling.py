"""When a proxy's training may end: its points no longer change the clusters."""

from pathlib import Path

import numpy as np
import pyarrow as pa

from s2l_ray.modeling.schedule import Examples, TrainingRun, TrajectoryPoint
from s2l_ray.selectors.stability import have_settled

_NUM_EXAMPLES = 2048
"""Of the pool, evenly by id, whose losses are looked at."""


class SettledClusters:
    """Scores some examples at every point with the weights that are kept of it, and looks at their clusters."""

    def __init__(self) -> None:
        self._losses: dict[int, np.ndarray] = {}

    def is_enough(self, run: TrainingRun, examples: Examples, point: TrajectoryPoint) -> bool:
        """Tell whether the clusters of the points up to this one have settled; the untouched model is none of them."""
        points = [one for one in run.plan.points if 0 < one.step <= point.step]
        for one in points:  # a training that goes on after an interruption has the earlier ones to score, too
            if one.step not in self._losses:
                self._losses[one.step] = _losses_at(run, examples, one)
        return have_settled(np.stack([self._losses[one.step] for one in points], axis=1))


def _losses_at(run: TrainingRun, examples: Examples, point: TrajectoryPoint) -> np.ndarray:
    """Return the losses of the examples that are looked at, (N,) float32, by the weights in the storage."""
    import torch  # heavy, as the next: the driver makes the watch and does without

    from s2l_ray.modeling.batch_size import BatchSize
    from s2l_ray.modeling.losses import LossScorer, fitted_losses
    from s2l_ray.modeling.models import load_model
    from s2l_ray.recipe.model import ModelConfig

    places = np.unique(np.linspace(0, len(examples) - 1, _NUM_EXAMPLES).astype(np.int64))
    rows = sorted((examples[int(place)] for place in places), key=lambda row: len(row["input_ids"]))
    table = pa.table({"input_ids": pa.array([row["input_ids"] for row in rows], pa.list_(pa.int32())),
                      "supervised": pa.array([row["supervised"] for row in rows], pa.list_(pa.bool_())),
                      "num_tokens": pa.array([len(row["input_ids"]) for row in rows], pa.int32())})
    device = torch.device("cuda" if run.use_gpu else "cpu")
    with run.storage.local_folder(f"{run.folder}/{point.folder}") as folder:
        model = load_model(ModelConfig(path=str(Path(folder))), vocab_size=0, seed=0, device=device)
    scorer = LossScorer(model.eval(), "bf16" if run.config.precision == "bf16" else "fp32")
    return fitted_losses([scorer], table, BatchSize("auto", device))[:, 0]
