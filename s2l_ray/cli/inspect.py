"""`s2l inspect`: rows as the model will see them."""

import webbrowser
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from s2l_ray.cli.output import exit_codes, print_json, print_tables, quiet, stdout_console
from s2l_ray.cli.work import Debug, Overrides, RecipeArgument, check_writable, load, task_of
from s2l_ray.errors import InputError
from s2l_ray.progress.notes import note

if TYPE_CHECKING:  # it brings torch
    from s2l_ray.starter.inspect import SeenRow

_PAGE = Path("inspect.html")


def inspect(
    source: RecipeArgument,
    overrides: Overrides = None,
    row: Annotated[
        list[str] | None, typer.Option(help="Row to show, as reasons number it, or FILE:NUMBER; may be given often.")
    ] = None,
    rows: Annotated[int, typer.Option(min=1, help="Number of rows to show, spread over the files.")] = 3,
    tokenizer: Annotated[
        str | None, typer.Option(help="Tokenizer to see them through: a folder, or its name on the hub.")
    ] = None,
    evaluation: Annotated[
        str | None, typer.Option("--eval", help="Held-out rows, or a set such as gsm8k, to find leaks of.")
    ] = None,
    html: Annotated[Path | None, typer.Option(help="HTML file to write the same to.")] = None,
    show: Annotated[
        bool, typer.Option("--open", help=f"Open the HTML file ({_PAGE} without --html) in the browser.")
    ] = False,
    debug: Debug = False,
) -> None:
    """Show what is in your rows, and some as the model will see them: what is learned, what is left out and why."""
    with exit_codes(debug):
        page = html or (_PAGE if show else None)
        if page is not None:
            _check_page(page)
        quiet()
        asked = [] if tokenizer is None else [f"proxy.model.tokenizer={tokenizer}"]
        asked += [] if evaluation is None else [task_of(evaluation)]
        print_json(_shown(source, [*(overrides or []), *asked], row or [], rows, page))
        if show and page is not None:
            webbrowser.open(page.absolute().as_uri())


def _shown(source: str, overrides: list[str], numbers: list[str], count: int, page: Path | None) -> dict[str, Any]:
    """Print what was found and the rows, write the page, and return both for programs."""
    from s2l_ray.starter.findings import facts, findings  # heavy: pyarrow, and torch through the tokenizer
    from s2l_ray.starter.held_out import index_tasks
    from s2l_ray.starter.inspect import inspect_rows
    from s2l_ray.starter.look import look_into
    from s2l_ray.starter.page import render
    from s2l_ray.starter.show import findings_table, show_rows
    from s2l_ray.starter.survey import survey

    recipe = load(source, overrides)
    model, max_length = recipe.proxy.model, recipe.data.max_length
    look = look_into(recipe.data, recipe.storage)
    seen = inspect_rows(look, model, [look.row(number) for number in numbers] or look.spread(count))
    surveyed = None if numbers else survey(look, model, held_out=index_tasks(recipe))
    found = findings(surveyed, max_length) if surveyed else []
    if found:
        print_tables([findings_table(found, source)])
    show_rows(stdout_console(), seen, look.numbering, max_length)
    reported: dict[str, Any] = {"rows": look.num_rows, "shape": look.shape, "max_length": max_length}
    reported |= facts(surveyed, max_length) if surveyed else {}
    if page is not None:
        page.write_bytes(render(source, found, seen, look.numbering, max_length))
        note(f"written: {page}")
        reported["html"] = str(page)
    return {**reported, "tokenizer": model.tokenizer_path, "shown": [_facts_of(row) for row in seen]}


def _facts_of(row: "SeenRow") -> dict[str, Any]:
    """Return what became of a row, without its text."""
    kept = {name: value for name, value in asdict(row).items() if name not in ("runs", "raw")}
    return {**kept, "columns": dict(row.columns)}


def _check_page(page: Path) -> None:
    """Refuse a page that cannot be written, or that would replace something else, before any work."""
    if page.suffix.lower() not in (".html", ".htm"):
        raise InputError(f"--html {page}: call the page .html, so that no file of rows is written over")
    check_writable(page, "--html")
