"""The command `s2l`. Progress goes to stderr; the last line of stdout is one JSON object.

Exit codes: 0, 1 for a failure, 2 for bad input, 130 when stopped with Ctrl-C.
"""

import contextlib
import json
import logging
import os
import shlex
import sys
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from s2l_ray.config import Recipe
from s2l_ray.errors import InputError
from s2l_ray.progress import clock, counts, note
from s2l_ray.recipes import load_recipe, parse_selection, shipped_recipes

app = typer.Typer(
    help="Choose the part of an instruction data set worth fine-tuning on (S2L), and fine-tune on it, on Ray.",
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False,
)

RecipeArgument = Annotated[str, typer.Argument(help="A recipe file, or the name of a shipped recipe (s2l recipes).")]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY.PATH=VALUE]...", help="Settings that replace the recipe's.", show_default=False),
]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


@contextlib.contextmanager
def _answering(debug: bool) -> Iterator[None]:
    """Turn errors into one message and an exit code."""
    try:
        yield
    except KeyboardInterrupt:
        note("stopped. Finished work is kept: run the same command again to go on.")
        raise typer.Exit(130) from None
    except Exception as error:
        if debug:
            traceback.print_exc()
        cause = _input_error(error)
        if cause is not None:
            note(f"error: {cause}")
            raise typer.Exit(2) from None
        note(f"failed: {type(error).__name__}: {_last_line(error)}")
        if not debug:
            note("Run again with --debug for the traceback; finished work is kept and will be reused.")
        raise typer.Exit(1) from None


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


def _last_line(error: BaseException) -> str:
    """Return an error's message without the worker's traceback that Ray puts before it."""
    text = str(error).strip()
    if "Traceback (most recent call last)" not in text and "ray::" not in text:
        return text
    lines = [line for line in text.splitlines() if line and not line.startswith((" ", "Traceback"))]
    return lines[-1].partition(": ")[2] or lines[-1] if lines else text


def _print_json(content: Any) -> None:
    print(json.dumps(content, sort_keys=True), flush=True)


def _print_tables(tables: list[Table]) -> None:
    console = Console(width=None if sys.stdout.isatty() else 140)
    for table in tables:
        console.print(table)


def _run(recipe: Recipe, until: str, *, export: Path | None = None) -> None:
    # Imported here: `s2l --help` and `s2l recipes` should not wait for torch and Ray.
    from s2l_ray.pipeline import plan_line, run_line
    from s2l_ray.results import collect_results, tables_of

    _quiet()
    line = plan_line(recipe, until)
    accounts = run_line(line, shlex.join(["s2l", *sys.argv[1:]]))
    results = collect_results(line, accounts)
    line.storage.write_json(f"{line.folder}/results.json", results)
    _print_tables(tables_of(results))
    if export is not None:
        from s2l_ray.stages.trajectories import export_trajectories

        results["export"] = export_trajectories(line.step("trajectories").artifact, export)
        note(f"{results['export']['rows']:,} trajectories: {export}")
    note(f"run folder: {line.storage.uri_of(line.folder)}")
    _print_json(results)


def _quiet() -> None:
    """Keep libraries from talking over the progress; warnings that matter come as errors or in our own words."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    os.environ.setdefault("RAY_DATA_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    for name in ("ray", "ray.data", "ray.train"):
        logging.getLogger(name).setLevel(logging.ERROR)


@app.command()
def run(recipe: RecipeArgument, overrides: Overrides = None, debug: Debug = False) -> None:
    """Run a recipe from data to metrics; what is finished is reused."""
    with _answering(debug):
        _run(load_recipe(recipe, overrides or []), "evaluate")


def _stage_command(stage: str, summary: str) -> None:
    def command(recipe: RecipeArgument, overrides: Overrides = None, debug: Debug = False) -> None:
        with _answering(debug):
            _run(load_recipe(recipe, overrides or []), stage)

    app.command(stage, help=f"Run a recipe up to `{stage}`: {summary}")(command)


_stage_command("prepare", "rows to tokenised examples, bad rows set aside.")
_stage_command("proxy", "the small model's training, recorded at its trajectory points.")


@app.command()
def trajectories(
    recipe: RecipeArgument,
    overrides: Overrides = None,
    export: Annotated[
        Path | None, typer.Option(help="Parquet file to write them to, for `s2l select --trajectories`.")
    ] = None,
    debug: Debug = False,
) -> None:
    """Run a recipe up to `trajectories`: every example's loss at every point."""
    with _answering(debug):
        if export is not None:
            _check_export(export)
        _run(load_recipe(recipe, overrides or []), "trajectories", export=export)


def _check_export(file: Path) -> None:
    """Refuse a file that cannot be written before hours of work, not after them."""
    try:
        file.absolute().parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--export {file} cannot be written: {error}") from error
    if file.is_dir() or not os.access(file.absolute().parent, os.W_OK):
        raise InputError(f"--export {file} must be a file in a folder that you can write to")


_stage_command("embed", "a vector for every example, with what it needs.")


@app.command()
def select(
    recipe: Annotated[str | None, typer.Argument(help="A recipe, unless --trajectories is given.")] = None,
    overrides: Overrides = None,
    trajectories: Annotated[
        Path | None, typer.Option(help="Parquet with example_id and losses (or loss_0, loss_1, ...).")
    ] = None,
    kind: Annotated[str, typer.Option(help="What the losses are: nats or perplexity (with --trajectories).")] = "nats",
    drop_non_finite: Annotated[
        bool, typer.Option("--drop-non-finite", help="Leave out rows with NaN or infinite losses, and list them.")
    ] = False,
    embeddings: Annotated[Path | None, typer.Option(help="Parquet with example_id and embedding.")] = None,
    selector: Annotated[str, typer.Option(help="Which selector (with --trajectories).")] = "s2l",
    budget: Annotated[str, typer.Option(help="Number of examples, or a fraction (with --trajectories).")] = "0.11",
    seed: Annotated[int, typer.Option(help="Seed (with --trajectories).")] = 0,
    output: Annotated[Path, typer.Option(help="Folder to write to (with --trajectories).")] = Path("selection"),
    debug: Debug = False,
) -> None:
    """Run a recipe up to `select`, or select from anybody's trajectories table (no model, no Ray)."""
    with _answering(debug):
        settings = [text for text in (recipe, *(overrides or [])) if text]
        if trajectories is None:
            if recipe is None:
                raise InputError("give a recipe, or --trajectories FILE.parquet")
            if drop_non_finite or kind != "nats":
                raise InputError("--kind and --drop-non-finite say how to read --trajectories FILE.parquet: give it")
            _run(load_recipe(recipe, overrides or []), "select")
            return
        from s2l_ray.stages.select import select_from_file

        config = parse_selection([f"selection.selector={selector}", f"selection.budget={budget}", *settings])
        found = select_from_file(
            trajectories, config, seed if config.seed is None else config.seed, output,
            embeddings=embeddings, kind=kind, drop_non_finite=drop_non_finite,  # type: ignore[arg-type]
        )
        if found["num_dropped"]:
            note(f"{found['num_dropped']:,} rows without finite losses left out: {output / 'quarantine.parquet'}")
        note(f"{found['budget']:,} of {found['num_candidates']:,} examples chosen by {found['selector']}: {output}")
        _print_json({**found, "output": str(output)})


_stage_command("finetune", "the target on the selection and its controls.")
_stage_command("evaluate", "held-out metrics of each fine-tuned target.")


@app.command()
def compare(
    selections: Annotated[list[str], typer.Argument(help="Two or more selection.parquet files, or their folders.")],
    pool: Annotated[
        Path | None, typer.Option(help="Parquet of the pool: example_id, source, num_supervised_tokens, losses.")
    ] = None,
    debug: Debug = False,
) -> None:
    """Compare selections of one pool: what they share, against chance, and what each is made of."""
    with _answering(debug):
        from s2l_ray.comparison import compare_selections
        from s2l_ray.comparison_tables import tables_of

        found = compare_selections(selections, pool)
        _print_tables(tables_of(found))
        _print_json(found)


@app.command()
def quickstart(overrides: Overrides = None, debug: Debug = False) -> None:
    """See the whole line at work in some minutes on 2 cores: nothing is downloaded."""
    with _answering(debug):
        from s2l_ray.quickstart.setting import quickstart_recipe

        _run(quickstart_recipe(overrides or []), "evaluate")


@app.command()
def status(
    run: Annotated[str, typer.Argument(help="Run folder or name: ./out/runs/NAME, s3://bucket/s2l/runs/NAME.")],
    storage: Annotated[str, typer.Option(help="Storage the run is in, when only its name is given.")] = "./out",
    debug: Debug = False,
) -> None:
    """Print the steps of a run, their state, rows and wall time, and what is left."""
    with _answering(debug):
        from s2l_ray.status import split_run, status_of

        found = status_of(*split_run(run, storage))
        for step in found["steps"]:
            rows = counts(step.get("rows", {}))
            seconds = clock(step["wall_s"]) if "wall_s" in step else ""
            print(f"{step['label']:<28} {step['state']:<11} {seconds:>10}  {rows}")
        print(f"left: {', '.join(found['left']) or 'nothing'}")
        _print_json(found)


@app.command()
def selectors(debug: Debug = False) -> None:
    """List the selectors and what each needs."""
    with _answering(debug):
        from s2l_ray.selectors import SELECTORS

        found = {name: sorted(selector.requires) for name, selector in SELECTORS.items()}
        for name, needs in found.items():
            first = (SELECTORS[name].__doc__ or "").strip().splitlines()[0]
            print(f"{name:<28} {', '.join(needs) or '-':<26} {first}")
        _print_json(found)


@app.command()
def recipes(debug: Debug = False) -> None:
    """List the shipped recipes."""
    with _answering(debug):
        found = shipped_recipes()
        for name, path in found.items():
            first = path.read_text(encoding="utf-8").splitlines()[0].lstrip("# ")
            print(f"{name:<22} {first}")
        _print_json({name: str(path) for name, path in found.items()})


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; the entry point of `s2l` and of the jobs."""
    app(args=None if arguments is None else list(arguments), prog_name="s2l")
