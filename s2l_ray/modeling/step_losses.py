"""The loss of every step of a training, kept beside the Trainer's log, which has the mean of many."""

from collections.abc import Sequence
from typing import Any

import torch
from transformers import TrainerCallback

from s2l_ray.modeling.training import SupervisedTrainer

STEP_LOSSES = "step_losses"


class KeepStepLosses(TrainerCallback):
    """Notes each step's loss and learning rate in the history, which goes with every checkpoint.

    A GPU's losses are fetched, and those of all processes brought together, where the Trainer logs or saves, so no
    step waits for it. Callbacks that ask for a checkpoint come before this one.
    """

    def __init__(self, trainer: SupervisedTrainer) -> None:
        self._trainer = trainer
        self._losses: list[torch.Tensor] = []
        self._rates: list[float] = []

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._rates.append(float(self._trainer._get_learning_rate()))

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._losses.append(self._trainer.take_step_loss())
        if control.should_log or control.should_save or control.should_training_stop:
            of_all = self._trainer.accelerator.gather(torch.stack(self._losses).float()[None])
            state.log_history.append({"step": state.global_step, STEP_LOSSES: of_all.mean(0).tolist(),
                                      "learning_rates": self._rates})
            self._losses, self._rates = [], []


def curve_of(history: Sequence[dict[str, Any]], total_steps: int) -> dict[str, list[Any]]:
    """Return {"step", "loss", "learning_rate", "grad_norm"} of all steps by a training's history.

    The norm is None where the Trainer logged none; all is for the steps before an older program's checkpoint.
    """
    steps = range(1, total_steps + 1)
    losses: dict[int, float] = {}
    rates: dict[int, float] = {}
    for entry in history:
        if STEP_LOSSES in entry:
            first = entry["step"] - len(entry[STEP_LOSSES]) + 1
            losses |= dict(enumerate(entry[STEP_LOSSES], first))
            rates |= dict(enumerate(entry["learning_rates"], first))
    norms = {entry["step"]: entry["grad_norm"] for entry in history if "grad_norm" in entry}
    return {"step": list(steps), "loss": [losses.get(step) for step in steps],
            "learning_rate": [rates.get(step) for step in steps], "grad_norm": [norms.get(step) for step in steps]}
