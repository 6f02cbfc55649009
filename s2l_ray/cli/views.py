"""The commands of `s2l` that only look: at selections, runs, selectors and recipes."""

from pathlib import Path
from typing import Annotated

import typer

from s2l_ray.cli.export import RunName, StorageOption
from s2l_ray.cli.output import exit_codes, print_json, print_tables
from s2l_ray.cli.work import Debug
from s2l_ray.errors import InputError
from s2l_ray.progress.wording import clock, counts
from s2l_ray.recipe.registry import SELECTORS


def compare(
    selections: Annotated[
        list[str] | None, typer.Argument(help="Two or more selection.parquet files, or their folders; with --early "
                                              "settings such as selection.budget=0.05.")
    ] = None,
    pool: Annotated[
        list[Path] | None, typer.Option(help="Parquet of the pool: example_id, source, num_supervised_tokens, losses. "
                                             "Again with the losses of another proxy, which chose differently.")
    ] = None,
    early: Annotated[
        Path | None, typer.Option(help="Instead: how early the proxy of these trajectories could have stopped.")
    ] = None,
    debug: Debug = False,
) -> None:
    """Compare selections of one pool: what they share, against chance, and what each is made of."""
    with exit_codes(debug):
        if early is not None:
            if pool:
                raise InputError("--early reads the trajectories alone: leave --pool out")
            _compare_early(early, selections or [])
            return
        from s2l_ray.comparison.comparison import compare_selections  # heavy: scikit-learn and SciPy
        from s2l_ray.comparison.tables import tables_of

        found = compare_selections(selections or [], *(pool or []))
        print_tables(tables_of(found))
        print_json(found)


def _compare_early(file: Path, settings: list[str]) -> None:
    """Print how far selections by fewer points agree with that by all."""
    from s2l_ray.comparison.tables import early_table  # heavy: rich, scikit-learn and OmegaConf, as the next two
    from s2l_ray.recipe.parts import parse_selection
    from s2l_ray.stages.select import early_from_file

    found = early_from_file(file, parse_selection(settings))
    print_tables([early_table(found)])
    print_json(found)


def scores(
    run: RunName,
    storage: StorageOption = "./out",
    output: Annotated[
        Path | None, typer.Option(help="Parquet file to write; without it scores.parquet in the run's folder.")
    ] = None,
    debug: Debug = False,
) -> None:
    """Write one table of every row of the pool: its losses, its cluster, and why each selection kept it or not."""
    with exit_codes(debug):
        from s2l_ray.report.row_scores import write_row_scores  # heavy: pyarrow

        print_json(write_row_scores(run, storage, output))


def failures(
    run: RunName,
    arm: Annotated[str | None, typer.Option(help="Whose target: s2l, random, ...; without it the recipe's.")] = None,
    pool: Annotated[
        int, typer.Option(help="So many rows of the pool too, those that the proxy learned least.", min=0)
    ] = 0,
    storage: StorageOption = "./out",
    output: Annotated[
        Path | None, typer.Option(help="JSONL file to write; without it failures-ARM.jsonl in the run's folder.")
    ] = None,
    debug: Debug = False,
) -> None:
    """Write the rows that the fine-tuned target answers wrongly, with its answers: seeds for new data."""
    with exit_codes(debug):
        from s2l_ray.report.failures import write_failures  # heavy: pyarrow

        print_json(write_failures(run, storage, arm, pool, output))


def status(
    run: RunName,
    storage: StorageOption = "./out",
    debug: Debug = False,
) -> None:
    """Print the steps of a run or a sweep, their state, rows and wall time, and what is left."""
    with exit_codes(debug):
        from s2l_ray.results.record import find_record  # heavy: pyarrow, as the next
        from s2l_ray.results.status import status_of

        found = status_of(find_record(run, storage))
        for step in found["steps"]:
            rows = counts(step.get("rows", {}))
            seconds = clock(step["wall_s"]) if "wall_s" in step else ""
            print(f"{step['label']:<28} {step['state']:<11} {seconds:>10}  {rows}")
        print(f"left: {', '.join(found['left']) or 'nothing'}")
        print_json(found)


def selectors(debug: Debug = False) -> None:
    """List the selectors and what each needs; those of other packages with the package, null where one is broken."""
    with exit_codes(debug):
        broken, found = SELECTORS.broken, dict[str, list[str] | None]()
        for name in SELECTORS.names:
            if name in broken:
                found[name] = None
                print(f"{name:<28} {'broken':<26} {broken[name]}")
                continue
            selector = SELECTORS.find(name)
            found[name] = needs = sorted(selector.needs)
            first = [*(type(selector).__doc__ or "").strip().splitlines(), ""][0]
            package = "".join(f" ({offer})" for offer in SELECTORS.offered.get(name, ()))
            print(f"{name:<28} {', '.join(needs) or '-':<26} {first}{package}")
        print_json(found)


def recipes(debug: Debug = False) -> None:
    """List the shipped recipes."""
    with exit_codes(debug):
        from s2l_ray.recipe.loading import shipped_recipes  # heavy: OmegaConf

        found = shipped_recipes()
        for name, path in found.items():
            first = path.read_text(encoding="utf-8").splitlines()[0].lstrip("# ")
            print(f"{name:<22} {first}")
        print_json({name: str(path) for name, path in found.items()})
