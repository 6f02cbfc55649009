"""The command `s2l`. Progress goes to stderr; the last line of stdout is one JSON object.

Exit codes: 0, 1 for a failure, 2 for bad input, 130 when stopped with Ctrl-C.
"""

import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from s2l_ray.answering import answering, print_json, print_tables, quiet
from s2l_ray.config import Recipe
from s2l_ray.errors import InputError
from s2l_ray.progress import clock, counts, note
from s2l_ray.recipes import parse_selection, shipped_recipes

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


def _load(source: str, overrides: Overrides) -> Recipe:
    """Load a recipe; the quickstart's data is made on the way."""
    from s2l_ray.quickstart.setting import load_filled

    return load_filled(source, overrides or [])


def _run(recipe: Recipe, until: str, *, export: Path | None = None) -> None:
    # Imported here: `s2l --help` and `s2l recipes` should not wait for torch and Ray.
    from s2l_ray.pipeline import plan_line, run_line
    from s2l_ray.results import collect_results, tables_of

    quiet()
    line = plan_line(recipe, until)
    accounts = run_line(line, shlex.join(["s2l", *sys.argv[1:]]))
    results = collect_results(line, accounts)
    line.storage.write_json(f"{line.folder}/results.json", results)
    print_tables(tables_of(results))
    if export is not None:
        from s2l_ray.stages.trajectories import export_trajectories

        results["export"] = export_trajectories(line.step("trajectories").artifact, export)
        note(f"{results['export']['rows']:,} trajectories: {export}")
    note(f"run folder: {line.storage.uri_of(line.folder)}")
    print_json(results)


@app.command()
def run(recipe: RecipeArgument, overrides: Overrides = None, debug: Debug = False) -> None:
    """Run a recipe from data to metrics; what is finished is reused."""
    with answering(debug):
        _run(_load(recipe, overrides), "evaluate")


def _stage_command(stage: str, summary: str) -> None:
    def command(recipe: RecipeArgument, overrides: Overrides = None, debug: Debug = False) -> None:
        with answering(debug):
            _run(_load(recipe, overrides), stage)

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
    with answering(debug):
        if export is not None:
            _check_export(export)
        _run(_load(recipe, overrides), "trajectories", export=export)


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
    seed: Annotated[int, typer.Option(min=0, help="Seed (with --trajectories).")] = 0,
    output: Annotated[Path, typer.Option(help="Folder to write to (with --trajectories).")] = Path("selection"),
    debug: Debug = False,
) -> None:
    """Run a recipe up to `select`, or select from anybody's trajectories table (no model, no Ray)."""
    with answering(debug):
        settings = [text for text in (recipe, *(overrides or [])) if text]
        if trajectories is None:
            if recipe is None:
                raise InputError("give a recipe, or --trajectories FILE.parquet")
            if drop_non_finite or kind != "nats":
                raise InputError("--kind and --drop-non-finite say how to read --trajectories FILE.parquet: give it")
            _run(_load(recipe, overrides), "select")
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
        print_json({**found, "output": str(output)})


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
    with answering(debug):
        from s2l_ray.comparison import compare_selections
        from s2l_ray.comparison_tables import tables_of

        found = compare_selections(selections, pool)
        print_tables(tables_of(found))
        print_json(found)


@app.command()
def quickstart(overrides: Overrides = None, debug: Debug = False) -> None:
    """See the whole line at work in some minutes on 2 cores: nothing is downloaded."""
    with answering(debug):
        _run(_load("quickstart", overrides), "evaluate")


@app.command()
def sweep(recipe: RecipeArgument, overrides: Overrides = None, debug: Debug = False) -> None:
    """Try selectors, budgets and seeds side by side (the recipe's `sweep`); what they share is computed once."""
    with answering(debug):
        from s2l_ray.sweep.run import run_sweep
        from s2l_ray.sweep.summary import results_of, tables_of

        quiet()
        found = run_sweep(_load(recipe, overrides), shlex.join(["s2l", *sys.argv[1:]]))
        print_tables(tables_of(found))
        note(f"trials: {found.storage.uri_of(found.folder)}/trials.parquet")
        print_json(results_of(found))
        if found.errors:
            note(f"failed: {len(found.errors)} of {len(found.trials)} trials, listed above; run again to try again")
            raise typer.Exit(1)


@app.command()
def status(
    run: Annotated[str, typer.Argument(help="Run folder or name: ./out/runs/NAME, s3://bucket/s2l/runs/NAME.")],
    storage: Annotated[str, typer.Option(help="Storage the run is in, when only its name is given.")] = "./out",
    debug: Debug = False,
) -> None:
    """Print the steps of a run, their state, rows and wall time, and what is left."""
    with answering(debug):
        from s2l_ray.status import split_run, status_of

        found = status_of(*split_run(run, storage))
        for step in found["steps"]:
            rows = counts(step.get("rows", {}))
            seconds = clock(step["wall_s"]) if "wall_s" in step else ""
            print(f"{step['label']:<28} {step['state']:<11} {seconds:>10}  {rows}")
        print(f"left: {', '.join(found['left']) or 'nothing'}")
        print_json(found)


@app.command()
def selectors(debug: Debug = False) -> None:
    """List the selectors and what each needs."""
    with answering(debug):
        from s2l_ray.selectors import SELECTORS

        found = {name: sorted(selector.requires) for name, selector in SELECTORS.items()}
        for name, needs in found.items():
            first = (SELECTORS[name].__doc__ or "").strip().splitlines()[0]
            print(f"{name:<28} {', '.join(needs) or '-':<26} {first}")
        print_json(found)


@app.command()
def recipes(debug: Debug = False) -> None:
    """List the shipped recipes."""
    with answering(debug):
        found = shipped_recipes()
        for name, path in found.items():
            first = path.read_text(encoding="utf-8").splitlines()[0].lstrip("# ")
            print(f"{name:<22} {first}")
        print_json({name: str(path) for name, path in found.items()})


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; the entry point of `s2l` and of the jobs."""
    app(args=None if arguments is None else list(arguments), prog_name="s2l")
