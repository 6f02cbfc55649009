"""What a command gives: progress and errors to stderr, tables and one JSON object to stdout, an exit code."""

import contextlib
import json
import logging
import os
import sys
import traceback
import warnings
from collections.abc import Iterator
from typing import Any

import typer
from rich.console import Console
from rich.table import Table

from s2l_ray.cli.extras import missing_extra
from s2l_ray.errors import InputError
from s2l_ray.progress.notes import note


@contextlib.contextmanager
def exit_codes(debug: bool) -> Iterator[None]:
    """Turn errors into one message and an exit code; what the package logs is said like progress."""
    logging.getLogger("s2l_ray").handlers = [_Noting()]
    try:
        yield
    except typer.Exit:  # a command's own verdict, which has said why
        raise
    except KeyboardInterrupt:
        note("stopped. Finished work is kept: run the same command again to go on.")
        raise typer.Exit(130) from None
    except Exception as error:
        if debug:
            note(traceback.format_exc().rstrip())
        cause = _input_error(error) or missing_extra(error)
        if cause is not None:
            note(f"error: {cause}")
            raise typer.Exit(2) from None
        note(f"failed: {_summary(error)}")
        if not debug:
            note("Run again with --debug for the traceback; finished work is kept and will be reused.")
        raise typer.Exit(1) from None


class _Noting(logging.Handler):
    """Shows what is logged as notes."""

    def emit(self, record: logging.LogRecord) -> None:
        note(record.getMessage())


def _input_error(error: BaseException | None) -> InputError | None:
    """Return the user's mistake behind an error, also where Ray wrapped it on its way from a worker."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, InputError):
            return InputError(_last_line(error))
        inner = getattr(error, "cause", None)
        error = inner if isinstance(inner, BaseException) else error.__cause__
    return None


def _summary(error: BaseException) -> str:
    """Return an error's kind and message; of Ray Data's wrapper around a worker's error, that error's."""
    links = str(error).split("The above exception was the direct cause of the following exception:")
    if "UserCodeException" in type(error).__name__ and len(links) > 1:
        lines = links[-2].strip().splitlines()
        after_traceback = max((i for i, line in enumerate(lines) if line.startswith("    ")), default=-1) + 1
        return lines[min(after_traceback, len(lines) - 1)]
    return f"{type(error).__name__}: {_last_line(error)}"


def _last_line(error: BaseException) -> str:
    """Return an error's message without the worker's traceback that Ray puts before it."""
    text = str(error).strip()
    if "Traceback (most recent call last)" not in text and "ray::" not in text:
        return text
    lines = [line for line in text.splitlines() if line and not line.startswith((" ", "Traceback"))]
    return lines[-1].partition(": ")[2] or lines[-1] if lines else text


def print_json(content: Any) -> None:
    print(json.dumps(content, sort_keys=True), flush=True)


def stdout_console() -> Console:
    """Return a console for results, as wide as the terminal; a pipe gets a fixed width."""
    return Console(width=None if sys.stdout.isatty() else 140, highlight=False)


def print_tables(tables: list[Table]) -> None:
    console = Console(width=None if sys.stdout.isatty() else 140)
    for table in tables:
        console.print(table)


@contextlib.contextmanager
def stdout_kept_free() -> Iterator[None]:
    """Send to stderr what libraries print while the block runs: stdout is for results."""
    with contextlib.redirect_stdout(sys.stderr):
        yield


def quiet() -> None:
    """Keep libraries from talking over the progress; warnings that matter come as errors or in our own words."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    os.environ.setdefault("RAY_DATA_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    warnings.filterwarnings("ignore", category=FutureWarning)  # between libraries, about what we do not call
    for name in ("ray", "ray.data", "ray.train", "bitsandbytes"):
        logging.getLogger(name).setLevel(logging.ERROR)
