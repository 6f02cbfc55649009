"""The folder that one trainer reads: a selection's rows in its layout, with a config."""

import shutil
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from s2l_ray.errors import InputError
from s2l_ray.export.selection import Selection
from s2l_ray.export.trainer import Trainer, Training
from s2l_ray.recipe.data import DataConfig
from s2l_ray.recipe.model import ModelConfig
from s2l_ray.recipe.training import TargetConfig
from s2l_ray.rows.conversation import Conversation

NO_MODEL = "PUT-YOUR-MODEL-HERE"


@dataclass
class Export:
    """What was written, and what of the rows was not."""

    folder: Path
    command: str
    rows: int = 0
    model: str | None = None
    """Of its config; None where the config does not name one of the run's."""
    changed: Counter[str] = field(default_factory=Counter)
    """Rows by what of them is written otherwise, or is no part of a conversation."""
    left_out: Counter[str] = field(default_factory=Counter)
    """Rows that were left out, by what the layout has no place for; a row may lack several."""


def export_selection(selection: Selection, trainer: Trainer, output: Path, *, leave_out: bool = False) -> Export:
    """Write a selection in a trainer's layout; the folder appears whole or not at all.

    Parameters
    ----------
    leave_out
        Leave out rows that the layout has no place for, instead of refusing them.

    Raises
    ------
    InputError
        The folder holds something already, a row cannot be expressed, or too few are left.
    """
    training = training_of(selection)
    with new_folder(output) as folder:
        export = Export(output, trainer.command(output), model=training.model if trainer.needs_model else None)
        trainer.write(_rows(selection, trainer, export, leave_out=leave_out), folder)
        if export.rows < trainer.min_rows:
            raise InputError(f"{trainer.title} takes at least {trainer.min_rows} rows, these are {export.rows}: "
                             "choose more with --budget, or another trainer")
        for name, text in trainer.files(training_of(selection, export.rows)).items():
            (folder / name).write_text(text, encoding="utf-8")
    return export


def _rows(selection: Selection, trainer: Trainer, export: Export, *, leave_out: bool) -> Iterator[dict[str, Any]]:
    """Yield the rows in the layout; counts in `export` what happens to them."""
    first: tuple[int, str] | None = None
    for number, (conversation, unread) in enumerate(selection.conversations(), start=1):
        lacking = trainer.lacks(conversation)
        if lacking:
            export.left_out.update(lacking)
            first = first or (number, _place(conversation))
            continue
        export.changed.update(trainer.changes(conversation))
        export.changed.update(f"{name} is no part of the conversation and stays behind" for name in unread)
        export.rows += 1
        yield trainer.row(conversation)
    if first is not None and not leave_out:
        what = "; ".join(f"{part} ({count:,} rows)" for part, count in export.left_out.items())
        raise InputError(f"{trainer.title} has no place for: {what}. First: row {first[0]} of subset.jsonl, answered "
                         f"{first[1]}. Export to another trainer, or leave these rows out with --leave-out")


def _place(conversation: Conversation) -> str:
    return repr(conversation.turns[-1].content[:60])


def training_of(selection: Selection, num_rows: int = 0) -> Training:
    """Return what is trained: the run's target, or the defaults where none is known that is pretrained.

    Settings for fresh weights, such as their learning rate, would spoil a pretrained model.
    """
    length = DataConfig.recorded(selection.pool["identity"], "max_length")
    if selection.recipe is None or selection.recipe.target.model.path is None:
        return Training(NO_MODEL, TargetConfig(model=ModelConfig(path=NO_MODEL), epochs=3), length, 0, num_rows)
    target = selection.recipe.target
    assert target.model.path is not None
    return Training(target.model.path, target, length, selection.recipe.target_seed, num_rows)


@contextmanager
def new_folder(output: Path) -> Iterator[Path]:
    """Yield a folder to fill, which takes the place of `output` if the block ends well.

    Raises
    ------
    InputError
        There is something in `output`, or it cannot be made.
    """
    try:
        if output.exists() and (not output.is_dir() or any(output.iterdir())):
            raise InputError(f"--output {output} is there already and is not an empty folder: name another one")
        output.absolute().parent.mkdir(parents=True, exist_ok=True)
        hidden = output.absolute().parent / f".{output.name}.{uuid.uuid4().hex}"
        hidden.mkdir()
    except OSError as error:
        raise InputError(f"--output {output} cannot be made: {error}") from error
    try:
        yield hidden
        if output.exists():
            output.rmdir()
        hidden.rename(output)
    except BaseException:
        shutil.rmtree(hidden, ignore_errors=True)
        raise
