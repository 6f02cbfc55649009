"""The commands of `s2l` that hand a finished selection on: to a trainer, to the hub."""

import tempfile
from pathlib import Path
from typing import Annotated, Literal

import typer

from s2l_ray.cli.output import exit_codes, print_json, quiet
from s2l_ray.cli.work import Debug
from s2l_ray.errors import InputError
from s2l_ray.progress.notes import note
from s2l_ray.recipe.registry import TRAINERS
from s2l_ray.results.record import find_record, fine_tuned

Run = Annotated[
    str, typer.Argument(help="Run or sweep: its folder (./out/runs/NAME) or name; or a selection (./out/select/...).")
]
RunName = Annotated[str, typer.Argument(help="Run or sweep: its folder (./out/runs/NAME), or its name.")]
StorageOption = Annotated[str, typer.Option(help="Storage the run is in, when only its name is given.")]
Arm = Annotated[
    str | None, typer.Option(help="A control of the run, or a trial of the sweep, instead of the run's own selection.")
]
_NAMES = ", ".join(name.replace("_", "-") for name in TRAINERS.own)  # to look for others' would slow all commands


def export(
    run: Run,
    to: Annotated[str, typer.Option(help=f"The trainer: {_NAMES}; or one of another package.")],
    arm: Arm = None,
    output: Annotated[Path | None, typer.Option(help="Folder to write, else ./export/NAME-TRAINER.")] = None,
    leave_out: Annotated[
        bool, typer.Option("--leave-out", help="Leave out rows that its layout has no place for, and say how many.")
    ] = False,
    storage: StorageOption = "./out",
    debug: Debug = False,
) -> None:
    """Write a selection as a trainer reads it, with a config, and print the command that starts it."""
    with exit_codes(debug):
        trainer = TRAINERS.find(to.replace("-", "_"))
        from s2l_ray.export.selection import find_selection  # heavy: pyarrow, as the next
        from s2l_ray.export.writing import NO_MODEL, export_selection

        chosen = find_selection(run, storage, arm)
        folder = output or Path("export") / f"{chosen.name}-{trainer.name.replace('_', '-')}"
        found = export_selection(chosen, trainer, folder, leave_out=leave_out)
        for what, rows in found.changed.items():
            note(f"{what} ({rows:,} rows)")
        for what, rows in found.left_out.items():
            note(f"left out, since {trainer.title} has no place for {what}: {rows:,} rows")
        if found.model == NO_MODEL:
            note(f"no model of a name is known of this selection: put yours in the config in the place of {NO_MODEL}")
        if found.model is None:
            note("the config names a model of the trainer's own: the run's target is none of its models")
        note(f"{found.rows:,} rows for {trainer.title}: {folder}. Start with:")
        print(found.command)
        print_json({"folder": str(folder), "rows": found.rows, "command": found.command,
                    "changed": dict(found.changed), "left_out": dict(found.left_out)})


def merge(
    run: RunName,
    arm: Arm = None,
    output: Annotated[Path | None, typer.Option(help="Folder to write, else ./NAME-merged.")] = None,
    precision: Annotated[
        Literal["base", "fp32"], typer.Option(help="Of the weights: the base's own, or fp32, which rounds nothing.")
    ] = "base",
    storage: StorageOption = "./out",
    debug: Debug = False,
) -> None:
    """Write a run's fine-tuned adapters, merged into their base model, as one model folder."""
    with exit_codes(debug):
        from s2l_ray.pipeline.merge import write_merged_target  # heavy: torch

        quiet()
        record = find_record(run, storage)
        folder = output or Path(f"{record.name}-merged")
        found = write_merged_target(record.storage, fine_tuned(record, arm), folder, precision)
        note(f"{found['base']} and its adapters, {found['num_weights']:,} weights in {found['dtype']}: {folder}")
        if found["dtype"] != "float32":
            note(f"{found['dtype']} rounds away what adapters change by less than it can tell apart, so answers may "
                 "differ from those that were evaluated: --precision fp32 keeps all of it, in twice the room")
        print_json({"folder": str(folder), **found})


def push(
    run: Run,
    to: Annotated[str, typer.Option(metavar="OWNER/NAME", help="The data set on the hub; made where it is not there.")],
    arm: Arm = None,
    private: Annotated[bool, typer.Option("--private", help="Only you and those you let in can see it.")] = False,
    dry: Annotated[
        bool, typer.Option("--dry-run", help="Write the folder, say what would be sent, and send nothing.")
    ] = False,
    output: Annotated[Path | None, typer.Option(help="Folder to keep what is sent in, else none is kept.")] = None,
    storage: StorageOption = "./out",
    debug: Debug = False,
) -> None:
    """Send the chosen rows to the Hugging Face hub, with a card that says how they were chosen."""
    with exit_codes(debug), tempfile.TemporaryDirectory(prefix="s2l-push-") as temporary:
        if to.count("/") != 1 or not all(to.split("/")):
            raise InputError(f"--to {to!r} must be OWNER/NAME, as data sets are called on the hub")
        from s2l_ray.export.card import write_subset  # heavy: pyarrow, as the next
        from s2l_ray.export.selection import find_selection
        from s2l_ray.storage.hub import push_dataset

        quiet()
        folder = output or Path(temporary) / "subset"
        files = write_subset(find_selection(run, storage, arm), to, folder)
        sizes = {name: (folder / name).stat().st_size for name in files}
        for name, size in sizes.items():
            note(f"{'would send' if dry else 'sending'} {name}: {size:,} bytes")
        if dry:
            print((folder / "README.md").read_text(encoding="utf-8"))
        address = None if dry else push_dataset(folder, to, private=private)
        note(f"nothing was sent to {to}" if dry else f"sent: {address}")
        print_json({"to": to, "url": address, "files": sizes, **({"folder": str(output)} if output else {})})
