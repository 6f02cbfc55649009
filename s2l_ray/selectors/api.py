"""`s2l_ray.select`: a selection from arrays and tables in Python, without a run, a model or Ray."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from s2l_ray.errors import InputError
from s2l_ray.recipe.parts import check_selection_settings
from s2l_ray.recipe.registry import SELECTORS
from s2l_ray.recipe.selection import SelectionConfig
from s2l_ray.selectors.bare import Found, select_from_table
from s2l_ray.selectors.stored import string_array
from s2l_ray.tables.chunked_table import ChunkedTable, chunked_from_table
from s2l_ray.tables.given import given_column, given_rows, given_table
from s2l_ray.tables.losses_file import Kind
from s2l_ray.tables.needs import PROBES, Need
from s2l_ray.tables.schemas import with_metadata

_ASKED_FOR = {
    Need.TRAJECTORIES: "losses, of shape (N, C)",
    Need.EMBEDDINGS: "embeddings=, of shape (N, D), or a table of example_id and embedding",
    Need.REPRESENTATIONS: "embeddings= and task_embeddings=, of shapes (N, D) and (M, D), or tables of them",
    Need.SOURCES: "sources=, one text for each row (in a table, a column source)",
    Need.LENGTHS: "num_supervised_tokens=, one number for each row (in a table, a column of that name)",
    Need.PASS_RATES: "a table with a column pass_rate, from 0 to 1",
    Need.SCORES: "scores=, one number for each row, or a table of example_id and score",
}
_COLUMNS = {Need.SOURCES: "source", Need.LENGTHS: "num_supervised_tokens", Need.PASS_RATES: "pass_rate",
            **{need: f"loss_{need}" for need in PROBES}}
_NO_SETTINGS = {
    "selector": "selector=", "budget": "budget", "seed": "seed=", "num_clusters": "num_clusters=", "scores": "scores=",
    "controls": "a call of its own for each",
}


@dataclass(frozen=True, eq=False)
class Selection:
    """What `select` chose: B of the N given rows, by rank."""

    table: pa.Table
    """rank, example_id, cluster, quota (examples that its cluster gives), distance (to its cluster's centroid), score;
    null where the selector has none. The metadata says how it was made: this is `selection.parquet` of `s2l select`."""
    indices: np.ndarray
    """The chosen rows' positions in what was given, by rank: int64 of shape (B,)."""
    dropped: np.ndarray
    """Positions of the rows left out with `drop_non_finite`, ascending: int64."""
    num_candidates: int
    """Rows that were chosen from: N less the dropped ones."""
    found: Found
    """Beside the table: what the selector found (`found.facts`), and why rows were left out (`found.dropped`)."""

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def ids(self) -> list[str]:
        """Return the chosen ids as texts, by rank."""
        return self.table["example_id"].to_pylist()

    def write(self, folder: str | Path) -> None:
        """Write what `s2l select --trajectories` writes into a folder, for `s2l compare` and for later.

        Raises
        ------
        InputError
            The folder cannot be made.
        """
        self.found.write(Path(folder).expanduser(), "the folder")


def select(
    losses: Any, budget: int | float, *, selector: str = "s2l", ids: Any = None, sources: Any = None,
    num_supervised_tokens: Any = None, embeddings: Any = None, task_embeddings: Any = None, scores: Any = None,
    fractions: Any = None, seed: int = 0, num_clusters: int | Literal["auto"] | None = None,
    settings: Mapping[str, Any] | None = None, drop_non_finite: bool = False, kind: Kind = "nats",
) -> Selection:
    """Choose examples from their loss trajectories, as S2L does, or with any other selector.

    S2L (Yang et al., NeurIPS 2024, arXiv 2403.07384, Algorithm 1) clusters the trajectories of a small model's training
    by k-means and draws evenly over the clusters, the smallest first. The same ids, losses, settings and seed give the
    same choice, in whatever order the rows are, and the one of `s2l select --trajectories`.

    Parameters
    ----------
    losses
        Mean nats per supervised token at C points of a training, oldest first: (N, C), whatever NumPy makes an array
        of. Or a table with `example_id` and `losses` (lists), or `loss_0, loss_1, ...`: Arrow, pandas, polars,
        `datasets.Dataset`, or a Parquet file's path. None for a selector that needs no losses.
    budget
        Number of examples B, or with a float above 0 and up to 1 a share of them.
    selector
        One of those that `s2l selectors` lists.
    ids, sources, num_supervised_tokens, fractions
        Beside an array: one of each for every row (N,), and of the training at each point (C,), ascending; 0 is the
        untouched model, which S2L leaves out. Ids are the rows' numbers else. A table has columns and metadata.
    embeddings, scores, task_embeddings
        (N, D) and (N,) in the order of the rows, or tables of `example_id` and `embedding` or `score`. Those of the
        solved examples of tasks wanted (representation): (M, D), or a table of `embedding` and, of several, `task`.
    num_clusters
        k-means clusters; "auto" is sqrt(N / 2), at most 1000. None is 100 as in the paper, "auto" for fewer examples.
    settings
        Other keys of the recipe's `selection`: {"normalise": "zscore"}, {"per": "source"}.
    drop_non_finite
        Leave out rows with a missing, NaN or infinite loss, instead of refusing them.
    kind
        What the losses are, "nats" or "perplexity".

    Raises
    ------
    InputError
        Something does not serve, or the selector needs what is not given; the message says what to change.

    Examples
    --------
    >>> losses = np.random.default_rng(0).gamma(2.0, size=(1000, 6))  # 1000 examples, 6 points of a training
    >>> chosen = select(losses, 0.1, num_clusters=20)
    >>> chosen.indices.shape, chosen.num_candidates
    ((100,), 1000)
    """
    config = _config(selector, budget, seed, num_clusters, settings)
    columns = {"example_id": ids, "source": sources, "num_supervised_tokens": num_supervised_tokens}
    beside = {"embedding": _beside(embeddings, "embeddings"), "score": _beside(scores, "scores")}
    raw = _pool(losses, columns, fractions, beside)
    given = {Need.TRAJECTORIES: losses, Need.EMBEDDINGS: embeddings, Need.SCORES: scores,
             Need.REPRESENTATIONS: None if task_embeddings is None else embeddings}
    _check_needs(config.selector, given, raw.schema.names)
    return _select(raw, config, beside, _beside(task_embeddings, "embeddings"), drop_non_finite, kind)


def _select(
    raw: ChunkedTable, config: SelectionConfig, beside: Mapping[str, Any], tasks: Any, drop_non_finite: bool,
    kind: Kind,
) -> Selection:
    ids = string_array(raw.read(["example_id"])["example_id"])
    vectors, numbers = (_with_ids(beside[name], name, ids) for name in ("embedding", "score"))
    if tasks is not None and not isinstance(tasks, pa.Table):
        tasks = pa.table({"embedding": tasks})
    found = select_from_table(raw, "losses", config, config.seed or 0, embeddings=vectors, tasks=tasks, scores=numbers,
                              kind=kind, drop_non_finite=drop_non_finite)
    if found.dropped.num_rows and len(ids.unique()) < len(ids):
        raise InputError("example_id repeats; ids must be unique, or the rows left out cannot be told from the others")
    dropped = np.sort(_positions(found.dropped, ids))
    return Selection(found.selection, _positions(found.selection, ids), dropped, found.num_candidates, found)


def _config(
    selector: str, budget: int | float, seed: int, num_clusters: int | str | None, settings: Mapping[str, Any] | None
) -> SelectionConfig:
    further = dict(settings or {})
    for name in further.keys() & _NO_SETTINGS.keys():
        raise InputError(f"settings holds {name!r}, which `select` takes as {_NO_SETTINGS[name]}: leave it out there")
    asked = {**further, "selector": selector, "budget": budget, "seed": seed}
    if num_clusters is not None:
        asked["num_clusters"] = num_clusters
    return check_selection_settings({
        name: value.item() if isinstance(value, np.generic) else value for name, value in asked.items()
    })


def _beside(given: Any, name: str) -> pa.Table | pa.Array | pa.ChunkedArray | None:
    """Return embeddings or scores as the table they are, or as a column in the order of the rows."""
    if given is None:
        return None
    table = given_table(given, name)
    if table is not None:
        return table.read()
    return given_rows(given, name) if name == "embeddings" else given_column(given, name)


def _pool(losses: Any, columns: Mapping[str, Any], fractions: Any, beside: Mapping[str, Any]) -> ChunkedTable:
    """Return the table that is given, or the one that a file of the arrays would hold."""
    table = None if losses is None else given_table(losses, "losses")
    if table is None:
        return _table_of_arrays(losses, columns, fractions, beside)
    if any(value is not None for value in (*columns.values(), fractions)):
        raise InputError("ids, sources, num_supervised_tokens and fractions go with losses in an array: a table says "
                         "them in its columns example_id, source, num_supervised_tokens and in its metadata")
    if "example_id" not in table.schema.names:
        raise InputError(f"the table needs a column example_id, it has {', '.join(table.schema.names)}")
    return table


def _table_of_arrays(
    losses: Any, columns: Mapping[str, Any], fractions: Any, beside: Mapping[str, Any]
) -> ChunkedTable:
    """Without ids, rows are called by their numbers."""
    made: dict[str, Any] = {name: given_column(value, name) for name, value in columns.items() if value is not None}
    if losses is not None:
        made["losses"] = given_rows(losses, "losses")
    arrays = {name: value for name, value in beside.items() if not isinstance(value, pa.Table | None)}
    rows = made | arrays
    if not rows:
        raise InputError("nothing to choose from: give losses of shape (N, C), or ids= where the selector needs none")
    num_rows = len(next(iter(rows.values())))
    if any(len(value) != num_rows for value in rows.values()):
        counts = ", ".join(f"{len(value)} in {name}" for name, value in rows.items())
        raise InputError(f"all must have one entry for each row, got {counts}")
    made.setdefault("example_id", pa.array(np.arange(num_rows)).cast(pa.string()))
    table = pa.table(made)
    return chunked_from_table(table if fractions is None else with_metadata(table, _points(fractions, made)))


def _points(fractions: Any, made: dict[str, Any]) -> dict[str, Any]:
    values_C = np.asarray(fractions)
    num_points = made["losses"].type.list_size if "losses" in made else 0
    if values_C.shape != (num_points,) or values_C.dtype.kind not in "iuf" or (np.diff(values_C) <= 0).any() \
            or not ((values_C >= 0) & (values_C <= 1)).all():
        raise InputError(f"fractions={fractions} must be one number from 0 to 1 for each of the {num_points} points of "
                         "losses, ascending")
    return {"points": [{"step": step, "fraction": float(value)} for step, value in enumerate(values_C)]}


def _check_needs(selector: str, given: Mapping[Need, Any], columns: list[str]) -> None:
    """Refuse a selector whose input is missing, by the argument that brings it."""
    for need in sorted(SELECTORS.find(selector).needs):
        if given.get(need) is not None or (need in _COLUMNS and _COLUMNS[need] in columns):
            continue
        if need in PROBES:
            raise InputError(f"selector={selector!r} needs losses that a model computes: give a table with a column "
                             f"{_COLUMNS[need]}, or let a model do it: s2l select ROWS.jsonl --selector {selector}")
        raise InputError(f"selector={selector!r} needs {_ASKED_FOR[need]}")


def _with_ids(beside: Any, name: str, ids: pa.Array) -> pa.Table | None:
    """Return a table that is matched by id; a column is of the rows in their order."""
    if beside is None or isinstance(beside, pa.Table):
        return beside
    if len(beside) != len(ids):
        raise InputError(f"{name}s must have one entry for each row, got {len(beside)} for {len(ids)} rows")
    return pa.table({"example_id": ids, name: beside})


def _positions(table: pa.Table, ids: pa.Array) -> np.ndarray:
    found = pc.index_in(table["example_id"].cast(ids.type), value_set=ids)
    return found.to_numpy().astype(np.int64)
