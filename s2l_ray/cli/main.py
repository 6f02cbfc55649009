"""The command `s2l`. Progress goes to stderr; the last line of stdout is one JSON object.

Exit codes: 0, 1 for a failure, 2 for bad input, 130 when stopped with Ctrl-C.
"""

import os
from collections.abc import Callable, Sequence
from typing import Annotated

import typer

from s2l_ray import __version__
from s2l_ray.cli import export, views, work
from s2l_ray.cli.inspect import inspect
from s2l_ray.cli.plan import plan
from s2l_ray.cli.select import select
from s2l_ray.stages.table import STAGES

app = typer.Typer(
    help="Choose the part of an instruction data set worth fine-tuning on (S2L), and fine-tune on it, on Ray.",
    no_args_is_help=True, pretty_exceptions_enable=False,
)


def _version(asked: bool) -> None:
    if asked:
        print(__version__)
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """Take the options that stand before a command."""


OWN: dict[str, Callable[..., None]] = {"trajectories": work.trajectories, "select": select}
"""Stages whose command has options of its own."""

app.command()(work.run)
app.command()(work.init)
app.command()(inspect)
app.command()(plan)
for stage in STAGES:
    if stage.name in OWN:
        app.command(stage.name)(OWN[stage.name])
    else:
        app.command(stage.name, help=f"Run a recipe up to `{stage.name}`: {stage.summary}.")(work.stage_command(stage))
for command in (work.quickstart, work.sweep, work.submit, work.report, export.export, export.merge, export.push,
                views.compare, views.scores, views.failures, views.status, views.selectors, views.recipes):
    app.command()(command)


def _wait_briefly() -> None:
    """Let a thread that waits for another give its core away sooner than OpenMP does, here and in all workers.

    Beside other work, with as many threads as cores, the one that waits keeps the core from the one it waits for, and a
    training takes several times as long. It must be set before libraries are loaded; what the user has set stays.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "10000")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; the entry point of `s2l` and of the jobs."""
    _wait_briefly()
    app(args=None if arguments is None else list(arguments), prog_name="s2l")
