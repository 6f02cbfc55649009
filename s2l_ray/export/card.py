"""A subset for the hub: its rows as they came, the recipe that chose them, a card that says how they were chosen."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from s2l_ray.errors import InputError
from s2l_ray.export.selection import Selection
from s2l_ray.export.writing import new_folder
from s2l_ray.recipe.recipe import Recipe

_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"),
          (10_000_000, "1M<n<10M"))
_MAX_SOURCES = 30
_MAX_FILES = 10


def write_subset(selection: Selection, name: str, output: Path) -> list[str]:
    """Write the folder that the hub gets, and return the names of its files.

    Raises
    ------
    InputError
        The folder holds something already, or the rows are not there.
    """
    with new_folder(output) as folder:
        subset = selection.file("subset.parquet")
        if not selection.storage.exists(subset):
            raise InputError(f"{selection.storage.uri_of(subset)} is not there: delete its folder and run again")
        (folder / "subset.parquet").write_bytes(selection.storage.read_bytes(subset))
        (folder / "README.md").write_text(card_of(selection, name), encoding="utf-8")
        if selection.recipe is not None:
            (folder / "recipe.yaml").write_text(_recipe_text(selection.recipe), encoding="utf-8")
    return sorted(path.name for path in output.iterdir())


def card_of(selection: Selection, name: str) -> str:
    """Return the card of a data set of this name (OWNER/NAME)."""
    rows = selection.num_rows
    header = {
        "pretty_name": name.rpartition("/")[2],
        "tags": ["data-selection", "s2l"],
        "size_categories": [next((size for bound, size in _SIZES if rows < bound), "n>10M")],
        "configs": [{"config_name": "default", "data_files": [{"split": "train", "path": "subset.parquet"}]}],
    }
    counts, how = selection.manifest["rows"], selection.manifest["identity"]
    return "\n".join([
        "---", yaml.safe_dump(header, sort_keys=False).rstrip(), "---", "",
        f"# {name.rpartition('/')[2]}", "",
        f"{rows:,} of {counts['pool']:,} rows, unchanged, the best rank first; chosen with "
        f"`{how['selector']}` by s2l_ray.", "",
        "## How they were chosen", "", *_table(("what", "value"), _facts(selection)), "",
        *_sources(selection.manifest.get("sources", {})),
        "## The same again", "", *_again(selection), "",
        "## Licence", "",
        "None is stated here: the rows keep the licence of the data that they were chosen from.", "",
    ])


def _facts(selection: Selection) -> list[tuple[str, Any]]:
    """Return what decided the selection."""
    manifest, pool, recipe = selection.manifest, selection.pool, selection.recipe
    how, rows = manifest["identity"], pool["rows"]
    facts: list[tuple[str, Any]] = [
        ("selector", how["selector"]), ("budget asked for", how.get("budget", "the whole pool")),
        ("rows chosen", f"{selection.num_rows:,}"), ("seed", how.get("seed", "draws nothing")),
        *((key, value) for key, value in how.items() if key not in ("selector", "budget", "seed")),
        ("pool", f"{rows['examples']:,} rows ({', '.join(f'{count:,} {what}' for what, count in rows.items())})"),
        ("fingerprint of the pool", pool["fingerprint"]), ("fingerprint of the selection", manifest["fingerprint"]),
        ("row format", pool["format"]),
        *((f"pool file {Path(file).name}", f"sha256 {digest}") for file, digest in _files(pool)[:_MAX_FILES]),
    ]
    if recipe is not None and "trajectories" in manifest["parents"]:
        facts += [("proxy", _model_name(recipe.proxy.model.path)), ("seed of its training", recipe.seed),
                  ("points of its training", recipe.trajectory.num_points)]
    when = time.strftime("%Y-%m-%d", time.gmtime(manifest["started"]))
    facts += [("s2l_ray", manifest["packages"].get("s2l-ray", "not installed")),
              ("commit", manifest["git_commit"] or "not from a checkout"), ("chosen on", when)]
    return facts


def _files(pool: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the pool's files with the hash of their bytes."""
    return [(file, digest) for file, digest in pool["identity"].get("files", [])]


def _model_name(path: str | None) -> str:
    """Return a model as others know it: its hub name, or of a folder of this machine the last part."""
    return "fresh weights" if path is None else str(_without_place(path))


def _sources(shares: Mapping[str, Mapping[str, int]]) -> list[str]:
    if not shares:
        return []
    shown = list(shares.items())[:_MAX_SOURCES]
    rows = [(source, f"{share['pool']:,}", f"{share['selected']:,}") for source, share in shown]
    more = [f"and {len(shares) - len(shown):,} further sources", ""] if len(shares) > len(shown) else []
    return ["## Sources", "", *_table(("source", "rows in the pool", "rows chosen"), rows), "", *more]


def _again(selection: Selection) -> list[str]:
    if selection.recipe is None:
        return ["Its run was not given when this was sent: the fingerprints above name what it was made from."]
    return ["```sh", "s2l select recipe.yaml", "```", "",
            "`recipe.yaml` lies beside this card; folders of the machine that ran it are shortened to their last part: "
            "put the files there, or your own paths in. The same files and seed give the same rows."]


def _recipe_text(recipe: Recipe) -> str:
    return yaml.safe_dump(_without_place(recipe.model_dump(mode="json")), sort_keys=False, allow_unicode=True)


def _without_place(value: Any) -> Any:
    """Return a value with absolute paths shortened to their last part: the rest is this machine's alone."""
    if isinstance(value, dict):
        return {key: _without_place(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_place(item) for item in value]
    return Path(value).name if isinstance(value, str) and value.startswith("/") else value


def _table(heading: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[str]:
    lines = [heading, ["---"] * len(heading), *rows]
    return [f"| {' | '.join(_cell(cell) for cell in line)} |" for line in lines]


def _cell(value: Any) -> str:
    """Return a cell's text; names come from anybody's rows and must not end it, or begin markup."""
    text = " ".join(str(value).split()).replace("\\", "\\\\")
    return text.replace("|", "\\|").replace("<", "&lt;").replace("[", "\\[").replace("`", "\\`")
