"""`s2l select`: by a recipe, or from anybody's table of trajectories."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from s2l_ray.cli.checkpoints import Checkpoints, with_checkpoints
from s2l_ray.cli.output import exit_codes, print_json
from s2l_ray.cli.work import Budget, Debug, DryRun, Open, Overrides, run_recipe, run_until
from s2l_ray.errors import InputError
from s2l_ray.progress.notes import note

_FROM_FILE = "with --trajectories"


def select(
    recipe: Annotated[
        str | None, typer.Argument(help="A recipe, or your rows (a file, a folder), unless --trajectories is given.")
    ] = None,
    overrides: Overrides = None,
    trajectories: Annotated[
        Path | None, typer.Option(help="Parquet with example_id and losses (or loss_0, loss_1, ...).")
    ] = None,
    kind: Annotated[str | None, typer.Option(help=f"What the losses are: nats or perplexity ({_FROM_FILE}).")] = None,
    drop_non_finite: Annotated[
        bool, typer.Option("--drop-non-finite", help=f"Leave out rows with NaN or infinite losses ({_FROM_FILE}).")
    ] = False,
    embeddings: Annotated[Path | None, typer.Option(help=f"Parquet of example_id, embedding ({_FROM_FILE}).")] = None,
    task_embeddings: Annotated[
        Path | None, typer.Option(help=f"Parquet with embedding, and task where of several ({_FROM_FILE}).")
    ] = None,
    task_examples: Annotated[
        str | None, typer.Option(help="Solved examples of the task wanted: what is nearest to them is chosen (RDS+).")
    ] = None,
    selector: Annotated[str | None, typer.Option(help="Which selector; `s2l selectors` lists them.")] = None,
    budget: Budget = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of clustering and sampling.")] = None,
    checkpoints: Checkpoints = None,
    extend: Annotated[
        str | None, typer.Option(metavar="RUN", help="A finished run, whose selection grows by the given rows without "
                                 "another training; what it chose stays chosen.")
    ] = None,
    rows: Annotated[
        str | None, typer.Option(help=f"Your rows, of which the chosen ones are written, too ({_FROM_FILE}).")
    ] = None,
    id_column: Annotated[
        str | None, typer.Option(help="Column of these rows that holds example_id, where it is not found by itself.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help=f"Folder to write to, else ./selection ({_FROM_FILE}).")
    ] = None,
    dry: DryRun = False,
    show: Open = False,
    debug: Debug = False,
) -> None:
    """Choose from your rows, by a recipe or without one; or from anybody's trajectories table (no model, no Ray)."""
    with exit_codes(debug):
        given = {"selector": selector, "budget": budget, "seed": seed}
        asked = [f"selection.{key}={value}" for key, value in given.items() if value is not None]
        if task_examples is not None:
            asked += _for_a_task(task_examples, selector)
        if trajectories is not None:
            _refuse_beside_a_table(task_examples, checkpoints, extend, of_a_run=dry or show)
            settings = [*asked, *(text for text in (recipe, *(overrides or [])) if text)]
            beside = {"embeddings": embeddings, "task_embeddings": task_embeddings}
            return _from_file(trajectories, settings, kind or "nats", drop_non_finite, beside,
                              output or Path("selection"), rows, id_column)
        if recipe is None:
            raise InputError("give a recipe, or --trajectories FILE.parquet")
        _refuse({"--kind": kind, "--drop-non-finite": drop_non_finite, "--embeddings": embeddings,
                 "--task-embeddings": task_embeddings, "--output": output, "--rows": rows, "--id-column": id_column})
        if extend is not None:
            told = {"--checkpoints": checkpoints, "--task-examples": task_examples}
            return _extend(extend, recipe, overrides or [], given, told, dry=dry, show=show)
        run_until("select", recipe, [*with_checkpoints(recipe, checkpoints, overrides), *asked], dry=dry, show=show)


def _refuse_beside_a_table(
    task_examples: str | None, checkpoints: str | None, extend: str | None, *, of_a_run: bool
) -> None:
    """Refuse the options that --trajectories leaves nothing to do."""
    if task_examples is not None:
        raise InputError("--task-examples goes through a model: with --trajectories give --task-embeddings")
    if checkpoints is not None:
        raise InputError("--checkpoints and --trajectories both say where the losses come from: give one")
    if extend is not None:
        raise InputError("--extend is about a run, which has its own losses: leave --trajectories out")
    if of_a_run:
        raise InputError("--dry-run and --open are about a recipe's run: leave them out with --trajectories")


def _extend(
    run: str, more: str, overrides: list[str], given: Mapping[str, object], useless: Mapping[str, object], *,
    dry: bool, show: bool,
) -> None:
    """Grow a run's selection by more rows."""
    from s2l_ray.cli.extend import extended, origins  # heavy: pyarrow
    from s2l_ray.starter.kind import is_data  # heavy: pyarrow

    told = {**useless, "--selector": given["selector"], "--seed": given["seed"]}
    refused = [name for name, value in told.items() if value is not None]
    if refused:
        raise InputError(f"{', '.join(refused)}: with --extend the run's own recipe says it: leave them out")
    if not is_data(more):
        raise InputError(f"--extend {run} takes new rows, a file or a folder, not {more!r}")
    note(f"{run}: planning ...")
    budget = None if given["budget"] is None else str(given["budget"])
    run_recipe("select", lambda: extended(run, more, overrides, budget), dry=dry, show=show, facts=origins)


def _refuse(for_file: dict[str, object]) -> None:
    """Refuse the options of a bare table where there is none."""
    useless = [name for name, value in for_file.items() if value]
    if useless:
        raise InputError(f"{', '.join(useless)}: these say how --trajectories FILE.parquet is read and where its "
                         "selection goes; with a recipe leave them out")


def _for_a_task(examples: str, selector: str | None) -> list[str]:
    """Return the settings that make solved examples what is chosen for."""
    task = json.dumps([{"name": "wanted", "path": examples}])
    return [f"selection.task_examples={task}", *(["selection.selector=representation"] if selector is None else [])]


def _from_file(
    trajectories: Path, settings: list[str], kind: str, drop_non_finite: bool, beside: dict[str, Path | None],
    output: Path, rows: str | None, id_column: str | None,
) -> None:
    from s2l_ray.recipe.parts import parse_data, parse_selection  # heavy: OmegaConf, as the next
    from s2l_ray.stages.select import select_from_file  # heavy: scikit-learn

    if id_column is not None and rows is None:
        raise InputError("--id-column is about --rows FILE: give the rows, or leave it out")
    of_rows = [text for text in settings if rows is not None and text.startswith("data.")]
    config = parse_selection([text for text in settings if text not in of_rows])
    data = None if rows is None else parse_data(rows, of_rows)
    found = select_from_file(
        trajectories, config, config.seed or 0, output, **beside,
        kind=kind, drop_non_finite=drop_non_finite, rows=data, id_column=id_column,  # type: ignore[arg-type]
    )
    if found["num_dropped"]:
        note(f"{found['num_dropped']:,} rows without finite losses left out: {output / 'quarantine.parquet'}")
    note(f"{found['budget']:,} of {found['num_candidates']:,} examples chosen by {found['selector']}: {output}")
    if data is not None:
        note(f"the chosen rows, by rank: {output / 'subset.jsonl'} and {output / 'subset.parquet'}")
    print_json({**found, "output": str(output)})
