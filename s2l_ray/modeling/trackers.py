"""The trackers of a training: the Trainer's own integrations, told where to write and what is trained."""

import contextlib
import json
import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from transformers import Trainer, TrainerCallback, TrainingArguments
from transformers.integrations import TensorBoardCallback

from s2l_ray.modeling.tracked import Tracked
from s2l_ray.storage.environment import environment
from s2l_ray.storage.files import Storage

_UPLOAD_EVERY_S = 60.0
_MAX_PARAMETERS, _MAX_VALUE = 100, 6000  # of mlflow, at once and in letters
_FOREIGN = re.compile(r"[^0-9A-Za-z_\-. :/]")  # to its names


class _Following:
    """What writes to the trackers of one training, on its first process."""

    def __init__(self, about: Tracked, storage: Storage, scratch: Path) -> None:
        self.about, self._storage = about, storage
        self.folder = Path(storage.path()) if storage.is_local else scratch
        """Here are tensorboard/RUN/... and wandb/...; where the storage is elsewhere, until they are uploaded."""

    def variables(self) -> dict[str, str]:
        """Return what the Trainer's integrations read: what the user has set stays, but for what names this run."""
        about = self.about
        usual = {"WANDB_PROJECT": about.project, "WANDB_DIR": str(self.folder), "WANDB_SILENT": "true",
                 "MLFLOW_EXPERIMENT_NAME": about.project}
        own = {"TENSORBOARD_LOGGING_DIR": str(self.folder / "tensorboard" / about.title),
               "WANDB_RUN_ID": about.id, "WANDB_RESUME": "allow"}
        return {**{name: os.environ.get(name, value) for name, value in usual.items()}, **own}

    def follow(self, trainer: Trainer) -> None:
        """Have it tell what is trained, too."""
        trainer.add_callback(_TellFacts(self, trainer))

    def upload(self) -> None:
        """Bring what was written to the storage."""
        if self._storage.is_local:
            return
        for name in ("tensorboard", "wandb"):
            if (self.folder / name).is_dir():
                self._storage.upload_folder(self.folder / name, name)

    def end(self, *, well: bool) -> None:
        """Finish what the integrations leave open: this process may be ended at once."""
        if "wandb" in self.about.trackers:
            import wandb  # optional: Weights & Biases

            if wandb.run is not None:
                wandb.finish(exit_code=0 if well else 1)
        if "mlflow" in self.about.trackers:
            import mlflow  # optional: MLflow

            if mlflow.active_run() is not None:
                mlflow.end_run("FINISHED" if well else "FAILED")
        self.upload()


@contextlib.contextmanager
def following(
    about: Tracked | None, storage: Storage, scratch: Path, arguments: TrainingArguments
) -> Iterator[Callable[[Trainer], None]]:
    """Have the training of the block reported: the Trainer that is made in it with the arguments, and handed over."""
    if about is None:
        yield lambda trainer: None
        return
    made, is_well = _Following(about, storage, scratch), False
    made.folder.mkdir(parents=True, exist_ok=True)
    arguments.report_to, arguments.run_name = list(about.trackers), about.title
    with environment(made.variables()):
        try:
            yield made.follow
            is_well = True
        finally:
            made.end(well=is_well)


class _TellFacts(TrainerCallback):
    """Tells the trackers the recipe and what is trained on, after the integrations have begun."""

    def __init__(self, followed: _Following, trainer: Trainer) -> None:
        self._followed, self._trainer, self._uploaded = followed, trainer, time.monotonic()

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        about = self._followed.about
        for callback in self._trainer.callback_handler.callbacks:
            if isinstance(callback, TensorBoardCallback) and callback.tb_writer is not None:
                for name, value in about.facts.items():
                    shown = json.dumps(value, indent=2, ensure_ascii=False)
                    callback.tb_writer.add_text(name, "".join(f"    {line}\n" for line in shown.splitlines()))
        if "wandb" in about.trackers:
            import wandb  # optional: Weights & Biases

            wandb.config.update(dict(about.facts), allow_val_change=True)
        if "mlflow" in about.trackers:
            import mlflow  # optional: MLflow

            items = [(_FOREIGN.sub("_", name), value[:_MAX_VALUE]) for name, value in about.parameters().items()]
            for start in range(0, len(items), _MAX_PARAMETERS):
                mlflow.log_params(dict(items[start:start + _MAX_PARAMETERS]))

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if time.monotonic() - self._uploaded >= _UPLOAD_EVERY_S:
            self._followed.upload()
            self._uploaded = time.monotonic()
