"""The commands of `s2l` that do work: runs up to a stage, sweeps, jobs, reports."""

import json
import os
import shlex
import sys
import webbrowser
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from s2l_ray.cli.checkpoints import Checkpoints, with_checkpoints
from s2l_ray.cli.output import exit_codes, print_json, print_tables, quiet, stdout_kept_free
from s2l_ray.errors import InputError
from s2l_ray.progress.notes import CONSOLE, note
from s2l_ray.stages.table import STAGES, Stage
from s2l_ray.submit.packing import MAX_MIB

if TYPE_CHECKING:  # they take a second to load
    from s2l_ray.pipeline.plan import RunPlan
    from s2l_ray.recipe.recipe import Recipe
    from s2l_ray.stages.planning import Step
    from s2l_ray.storage.files import Storage

RecipeArgument = Annotated[
    str, typer.Argument(help="A recipe file, a shipped recipe's name (s2l recipes), or your rows: a file or a folder.")
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY.PATH=VALUE]...", help="Settings that replace the recipe's.", show_default=False),
]
Budget = Annotated[str | None, typer.Option(help="Number of examples to choose, or a fraction.")]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Check everything, say what would run and where, and stop there.")
]
Open = Annotated[bool, typer.Option("--open", help="Write the report of the run and open it in the browser.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]

_LAST = STAGES[-1].name


def load(source: str, overrides: Overrides) -> "Recipe":
    """Load a recipe, or make one for rows; the quickstart's data is made on the way."""
    from s2l_ray.quickstart.setting import load_filled  # heavy: numpy, for the quickstart's word problems
    from s2l_ray.starter.kind import is_data  # heavy: pyarrow

    if is_data(source):
        from s2l_ray.starter.recipe import starter_recipe  # heavy: transformers

        return starter_recipe(source, overrides or [])
    return load_filled(source, overrides or [])


def run_until(
    stage: str, source: str, overrides: Overrides, *, dry: bool, show: bool, report: bool = False,
    export: Path | None = None,
) -> None:
    """Run a recipe up to a stage and print what came of it, or with `dry` what would run."""
    note(f"{source}: planning ...")  # at once: what follows takes a second to load
    run_recipe(stage, lambda: load(source, overrides), dry=dry, show=show, report=report, export=export)


def run_recipe(
    stage: str, load_it: "Callable[[], Recipe]", *, dry: bool, show: bool, report: bool = False,
    export: Path | None = None, facts: "Callable[[RunPlan], dict[str, Any]] | None" = None,
) -> None:
    """Run what is loaded up to a stage; `facts` finds further results of the finished run."""
    from s2l_ray.pipeline.plan import plan_run  # heavy: pydantic and pyarrow, as the next two
    from s2l_ray.pipeline.run import run_plan
    from s2l_ray.results.results import collect_results, tables_of

    quiet()
    plan = plan_run(load_it(), stage)
    if dry:
        _dry_run(plan.steps, plan.recipe, plan.storage)
        return
    with stdout_kept_free():
        done = run_plan(plan, shlex.join(["s2l", *sys.argv[1:]]))
    results = collect_results(plan, done) | (facts(plan) if facts else {})
    plan.storage.write_json(f"{plan.folder}/results.json", results)
    print_tables(tables_of(results))
    if export is not None:
        results["export"] = _export(plan, export)
    folder = plan.storage.uri_of(plan.folder)
    chosen = results["arms"].get(plan.recipe.selection.selector, {})
    if "subset" in chosen:
        note(f"chosen: {chosen['rows']:,} of {results['pool']['examples']:,} rows, in {chosen['subset']}")
        note(f"as your trainer takes them: s2l export {folder} --to trl (or llamafactory, axolotl, ms-swift, ...)")
    note(f"run folder: {folder}")
    if report or show:
        results["report"] = _report([folder], show=show)
    print_json(results)


def _dry_run(steps: "Sequence[Step]", recipe: "Recipe", storage: "Storage") -> None:
    from s2l_ray.pipeline.dry_run import dry_run, table_of  # heavy: pyarrow

    plan = dry_run(steps, recipe, storage)
    print_tables([table_of(plan)])
    print_json(plan)


def _export(plan: "RunPlan", file: Path) -> dict[str, Any]:
    from s2l_ray.stages.trajectories import export_trajectories  # heavy: torch

    found = export_trajectories(plan.step("trajectories").artifact, file)
    note(f"{found['rows']:,} trajectories: {file}")
    return found


def _report(runs: list[str], storage: str = "", output: Path | None = None, *, show: bool) -> str:
    """Write a report, say where it is, and open it if asked to."""
    from s2l_ray.report.build import write_report  # heavy: plotly's page
    from s2l_ray.storage.files import resolve_local  # heavy: pyarrow

    place = write_report(runs, storage, output)
    note(f"report: {place}")
    local = resolve_local(place)
    if show and local is not None:
        webbrowser.open(local.as_uri())
    elif show:
        note("--open: the report is not on this machine; --output FILE writes one that is")
    return place


def run(
    recipe: RecipeArgument,
    overrides: Overrides = None,
    budget: Budget = None,
    target: Annotated[str | None, typer.Option(help="Model to fine-tune: a folder, or its name on the hub.")] = None,
    evaluation: Annotated[
        str | None, typer.Option("--eval", help="Held-out rows, whose loss is measured before and after, or a set: "
                                     "gsm8k, mmlu, ...")
    ] = None,
    dry: DryRun = False,
    show: Open = False,
    debug: Debug = False,
) -> None:
    """Run a recipe, or your rows, from data to metrics and a report of it; what is finished is reused."""
    with exit_codes(debug):
        asked = [] if budget is None else [f"selection.budget={budget}"]
        tasks = []
        if target is not None:
            asked += ["target.model.config=null", "target.model.tokenizer=null",
                      f"target.model.path={json.dumps(target)}"]
        if evaluation is not None:
            tasks = [task_of(evaluation), "evaluation.include_base=true"]
        # Settings of the task come behind it, as in evaluation.tasks.0.metrics=[exact_match].
        run_until(_LAST, recipe, [*tasks, *(overrides or []), *asked], dry=dry, show=show, report=True)


def task_of(evaluation: str) -> str:
    """Return the setting that makes held-out rows, or a set by its name, the evaluation's task."""
    from s2l_ray.recipe.evaluation import PRESETS  # heavy: pydantic

    known = {"name": evaluation, "preset": evaluation}
    task = known if evaluation in PRESETS else {"name": "held_out", "path": evaluation, "metrics": ["loss"]}
    return f"evaluation.tasks={json.dumps([task])}"


def init(
    rows: Annotated[str, typer.Argument(help="Your rows: a file, a folder or a glob.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[data.KEY=VALUE]...", help="How rows are read.", show_default=False)
    ] = None,
    output: Annotated[Path, typer.Option(help="Where the recipe is written.")] = Path("recipe.yaml"),
    storage: Annotated[str, typer.Option(help="Folder for artifacts and runs.")] = "./out",
    debug: Debug = False,
) -> None:
    """Look at your rows and write a recipe for them, with a comment beside every choice."""
    with exit_codes(debug):
        from s2l_ray.starter.recipe import recipe_text  # heavy: pyarrow and tokenizers, as the next
        from s2l_ray.starter.show import findings_table

        if output.exists():
            raise InputError(f"{output} is there already: name another file with --output, or move it away")
        quiet()
        text, found = recipe_text(rows, overrides or [], storage=storage)
        output.write_text(text, encoding="utf-8")
        CONSOLE.print(findings_table(found, rows))
        note(f"written: {output}. Run it with: s2l select {output}, or s2l run {output}")
        print_json({"recipe": str(output)})


def stage_command(stage: Stage) -> Callable[..., None]:
    """Return the command that runs a recipe up to a stage."""

    def command(
        recipe: RecipeArgument, overrides: Overrides = None, dry: DryRun = False, show: Open = False,
        debug: Debug = False,
    ) -> None:
        with exit_codes(debug):
            run_until(stage.name, recipe, overrides, dry=dry, show=show)

    return command


def trajectories(
    recipe: RecipeArgument,
    overrides: Overrides = None,
    checkpoints: Checkpoints = None,
    export: Annotated[
        Path | None, typer.Option(help="Parquet file to write them to, for `s2l select --trajectories`.")
    ] = None,
    dry: DryRun = False,
    show: Open = False,
    debug: Debug = False,
) -> None:
    """Run a recipe up to `trajectories`: every example's loss at every point."""
    with exit_codes(debug):
        if export is not None:
            check_writable(export, "--export")
        asked = with_checkpoints(recipe, checkpoints, overrides)
        run_until("trajectories", recipe, asked, dry=dry, show=show, export=export)


def check_writable(file: Path, option: str) -> None:
    """Refuse a file that cannot be written before hours of work, not after them."""
    try:
        file.absolute().parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{option} {file} cannot be written: {error}") from error
    if file.is_dir() or not os.access(file.absolute().parent, os.W_OK):
        raise InputError(f"{option} {file} must be a file in a folder that you can write to")


def quickstart(
    overrides: Overrides = None, dry: DryRun = False, show: Open = False, debug: Debug = False
) -> None:
    """See the whole line at work in some minutes on 2 cores: nothing is downloaded."""
    with exit_codes(debug):
        run_until(_LAST, "quickstart", overrides, dry=dry, show=show, report=True)


def sweep(
    recipe: RecipeArgument, overrides: Overrides = None, dry: DryRun = False, show: Open = False, debug: Debug = False
) -> None:
    """Try selectors, budgets and seeds side by side (the recipe's `sweep`); what they share is computed once."""
    with exit_codes(debug):
        note(f"{recipe}: planning ...")
        from s2l_ray.sweep.run import plan_sweep, run_sweep  # heavy: Ray, as the next
        from s2l_ray.sweep.summary import results_of, tables_of

        quiet()
        planned = plan_sweep(load(recipe, overrides), shlex.join(["s2l", *sys.argv[1:]]))
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
    with exit_codes(debug):
        from s2l_ray.submit.submit import submit_recipe  # heavy: Ray's client

        found = submit_recipe(recipe, overrides or [], address=address, follow=follow, names=env or [],
                              shared=shared or [], sweep=sweep, max_mib=max_mib)
        print_json(found.record)
        if found.exit_code:
            raise typer.Exit(found.exit_code)


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
    with exit_codes(debug):
        print_json({"report": _report(runs, storage, output, show=show)})
