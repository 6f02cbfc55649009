"""The commands of `s2l` that only look: at selections, runs, selectors and recipes."""

from pathlib import Path
from typing import Annotated

import typer

from s2l_ray.answering import answering, print_json, print_tables
from s2l_ray.progress import clock, counts
from s2l_ray.recipes import shipped_recipes

Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


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


def selectors(debug: Debug = False) -> None:
    """List the selectors and what each needs."""
    with answering(debug):
        from s2l_ray.selectors import SELECTORS

        found = {name: sorted(selector.requires) for name, selector in SELECTORS.items()}
        for name, needs in found.items():
            first = (SELECTORS[name].__doc__ or "").strip().splitlines()[0]
            print(f"{name:<28} {', '.join(needs) or '-':<26} {first}")
        print_json(found)


def recipes(debug: Debug = False) -> None:
    """List the shipped recipes."""
    with answering(debug):
        found = shipped_recipes()
        for name, path in found.items():
            first = path.read_text(encoding="utf-8").splitlines()[0].lstrip("# ")
            print(f"{name:<22} {first}")
        print_json({name: str(path) for name, path in found.items()})
