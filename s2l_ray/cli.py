"""The command `s2l`. Progress goes to stderr; the last line of stdout is one JSON object.

Exit codes: 0, 1 for a failure, 2 for bad input, 130 when stopped with Ctrl-C.
"""

import os
import shlex
import sys
import webbrowser
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from s2l_ray.answering import answering, print_json, print_tables, quiet, stdout_kept_free
from s2l_ray.cli_views import Debug, compare, recipes, selectors, status
from s2l_ray.config import Recipe
from s2l_ray.errors import InputError
from s2l_ray.packing import MAX_MIB
from s2l_ray.progress import note
from s2l_ray.recipes import parse_selection

if TYPE_CHECKING:  # the pipeline brings torch and Ray
    from s2l_ray.pipeline import Step
    from s2l_ray.storage import Storage

app = typer.Typer(
    help="Choose the part of an instruction data set worth fine-tuning on (S2L), and fine-tune on it, on Ray.",
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False,
)

RecipeArgument = Annotated[str, typer.Argument(help="A recipe file, or the name of a shipped recipe (s2l recipes).")]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY.PATH=VALUE]...", help="Settings that replace the recipe's.", show_default=False),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Check everything, say what would run and where, and stop there.")
]
Open = Annotated[bool, typer.Option("--open", help="Open the report in the browser.")]


def _load(source: str, overrides: Overrides) -> Recipe:
    """Load a recipe; the quickstart's data is made on the way."""
    from s2l_ray.quickstart.setting import load_filled

    return load_filled(source, overrides or [])


def _run(
    recipe: Recipe, until: str, *, export: Path | None = None, report: bool = False, show: bool = False,
    dry: bool = False,
) -> None:
    # Imported here: `s2l --help` and `s2l recipes` should not wait for torch and Ray.
    from s2l_ray.pipeline import plan_line, run_line
    from s2l_ray.results import collect_results, tables_of

    quiet()
    line = plan_line(recipe, until)
    if dry:
        _dry_run(line.steps, line.recipe, line.storage)
        return
    with stdout_kept_free():
        accounts = run_line(line, shlex.join(["s2l", *sys.argv[1:]]))
    results = collect_results(line, accounts)
    line.storage.write_json(f"{line.folder}/results.json", results)
    print_tables(tables_of(results))
    if export is not None:
        from s2l_ray.stages.trajectories import export_trajectories

        results["export"] = export_trajectories(line.step("trajectories").artifact, export)
        note(f"{results['export']['rows']:,} trajectories: {export}")
    note(f"run folder: {line.storage.uri_of(line.folder)}")
    if report:
        results["report"] = _report([line.storage.uri_of(line.folder)], show=show)
    print_json(results)


def _dry_run(steps: "Sequence[Step]", recipe: Recipe, storage: "Storage") -> None:
    from s2l_ray.plan import dry_run, table_of

    plan = dry_run(steps, recipe, storage)
    print_tables([table_of(plan)])
    print_json(plan)


def _report(runs: list[str], storage: str = "", output: Path | None = None, *, show: bool) -> str:
    """Write a report, say where it is, and open it if asked to."""
    from s2l_ray.report.build import write_report
    from s2l_ray.storage import resolve_local

    place = write_report(runs, storage, output)
    note(f"report: {place}")
    local = resolve_local(place)
    if show and local is not None:
        webbrowser.open(local.as_uri())
    elif show:
        note("--open: the report is not on this machine; --output FILE writes one that is")
    return place


@app.command()
def run(
    recipe: RecipeArgument, overrides: Overrides = None, dry: DryRun = False, show: Open = False, debug: Debug = False
) -> None:
    """Run a recipe from data to metrics and a report of it; what is finished is reused."""
    with answering(debug):
        _run(_load(recipe, overrides), "evaluate", report=True, show=show, dry=dry)


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
def quickstart(overrides: Overrides = None, show: Open = False, debug: Debug = False) -> None:
    """See the whole line at work in some minutes on 2 cores: nothing is downloaded."""
    with answering(debug):
        _run(_load("quickstart", overrides), "evaluate", report=True, show=show)


@app.command()
def sweep(
    recipe: RecipeArgument, overrides: Overrides = None, dry: DryRun = False, show: Open = False, debug: Debug = False
) -> None:
    """Try selectors, budgets and seeds side by side (the recipe's `sweep`); what they share is computed once."""
    with answering(debug):
        from s2l_ray.sweep.run import plan_sweep, run_sweep
        from s2l_ray.sweep.summary import results_of, tables_of

        quiet()
        planned = plan_sweep(_load(recipe, overrides), shlex.join(["s2l", *sys.argv[1:]]))
        if dry:
            _dry_run(planned.all_steps(), planned.recipe, planned.storage)
            return
        with stdout_kept_free():
            found = run_sweep(planned)
        print_tables(tables_of(found))
        note(f"trials: {found.storage.uri_of(found.folder)}/trials.parquet")
        print_json({**results_of(found), "report": _report([found.storage.uri_of(found.folder)], show=show)})
        if found.errors:
            note(f"failed: {len(found.errors)} of {len(found.trials)} trials, listed above; run again to try again")
            raise typer.Exit(1)


@app.command()
def submit(
    recipe: RecipeArgument,
    overrides: Overrides = None,
    address: Annotated[
        str | None, typer.Option(help="URL of the cluster's job server; else RAY_API_SERVER_ADDRESS, else loopback.")
    ] = None,
    follow: Annotated[bool, typer.Option("--follow/--no-follow", help="Show the log, end with its exit code.")] = True,
    env: Annotated[list[str] | None, typer.Option(help="NAME of an environment variable that the job gets.")] = None,
    shared: Annotated[list[Path] | None, typer.Option(help="Folder that every node has under the same path.")] = None,
    sweep: Annotated[bool, typer.Option("--sweep", help="Run `s2l sweep` instead of `s2l run`.")] = False,
    max_mib: Annotated[int, typer.Option(help="Largest working directory, in MiB.")] = MAX_MIB,
    debug: Debug = False,
) -> None:
    """Send a recipe to a Ray cluster as a job, and follow it to its end."""
    with answering(debug):
        from s2l_ray.submit import submit_recipe

        found = submit_recipe(recipe, overrides or [], address=address, follow=follow, names=env or [],
                              shared=shared or [], sweep=sweep, max_mib=max_mib)
        print_json(found.record)
    if found.exit_code:
        raise typer.Exit(found.exit_code)


@app.command()
def report(
    runs: Annotated[list[str], typer.Argument(metavar="RUN...", help="Runs or sweeps of one pool: folders or names.")],
    storage: Annotated[str, typer.Option(help="Storage the runs are in, where only names are given.")] = "./out",
    show: Open = False,
    output: Annotated[
        Path | None, typer.Option(help="File to write; without it report.html in the first run's folder.")
    ] = None,
    debug: Debug = False,
) -> None:
    """Write one HTML file about runs and sweeps: the answer, the budget curve, clusters, what was chosen, the cost."""
    with answering(debug):
        print_json({"report": _report(runs, storage, output, show=show)})


for view in (compare, status, selectors, recipes):
    app.command()(view)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; the entry point of `s2l` and of the jobs."""
    app(args=None if arguments is None else list(arguments), prog_name="s2l")
