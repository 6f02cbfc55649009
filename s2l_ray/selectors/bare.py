"""A selection from a table alone, without a run, a model or Ray: `s2l select --trajectories` and `s2l_ray.select`."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from s2l_ray.errors import InputError
from s2l_ray.recipe.registry import SELECTORS
from s2l_ray.recipe.selection import SelectionConfig
from s2l_ray.selectors.run import needs_sources, pool_of, run_selector
from s2l_ray.storage.files import Storage
from s2l_ray.tables.chunked_table import ChunkedTable
from s2l_ray.tables.losses_file import DROPPED, Kind, trajectories_of
from s2l_ray.tables.needs import Need


@dataclass(frozen=True)
class Found:
    """What was chosen of a table."""

    selection: pa.Table
    """`tables.schemas.SELECTION`, by rank, with its origin in the metadata."""
    facts: dict[str, Any]
    """What the selector found, such as its clusters."""
    dropped: pa.Table
    """Rows left out because a loss is not finite: example_id, reason."""
    num_candidates: int

    def write(self, output: Path, what: str) -> Storage:
        """Write `selection.parquet`, `selection.jsonl`, `quarantine.parquet` and `findings.json`; return the folder.

        Raises
        ------
        InputError
            The folder, which messages call `what`, cannot be made.
        """
        try:
            output.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{what} {output} cannot be made: {error}") from error
        storage = Storage(str(output.absolute()))
        storage.write_table("selection.parquet", self.selection)
        storage.write_table("quarantine.parquet", self.dropped)
        lines = (json.dumps(row) + "\n" for batch in self.selection.to_batches(2**16) for row in batch.to_pylist())
        storage.write_bytes("selection.jsonl", "".join(lines).encode())
        storage.write_json("findings.json", self.facts)
        return storage


def select_from_table(
    raw: ChunkedTable, what: str, config: SelectionConfig, seed: int, *, embeddings: pa.Table | None = None,
    tasks: pa.Table | None = None, scores: pa.Table | None = None, kind: Kind = "nats", drop_non_finite: bool = False,
) -> Found:
    """Select from anybody's table, which messages call `what`; see `tables.losses_file` for its columns.

    A selector that needs no trajectories takes any table with example_id, unless `kind` or `drop_non_finite` says
    something about its losses. Where nobody set `num_clusters` and its default exceeds the candidates, it is `auto`.

    Raises
    ------
    InputError
        The columns do not serve, or the budget does not fit.
    """
    if config.extends is not None:
        raise InputError(f"extends={config.extends} is of a run's storage: s2l select MORE --extend RUN; from a table, "
                         "select anew")
    selector = SELECTORS.find(config.selector)
    table, dropped = raw, DROPPED.empty_table()
    if Need.TRAJECTORIES in selector.needs or drop_non_finite or kind != "nats":
        table, dropped = trajectories_of(raw, what, kind=kind, drop_non_finite=drop_non_finite)
    if not needs_sources(selector, config):  # reading and ordering them would cost as much as all else
        table = table.without(["source"])
    pool = pool_of(table, selector.needs, embeddings, scores, tasks=tasks)
    selection, facts = run_selector(selector, pool, _fitting(config, len(pool)), seed, {})
    return Found(selection, facts, dropped, len(pool))


def _fitting(config: SelectionConfig, num_candidates: int) -> SelectionConfig:
    """Return the settings with `auto` for a default number of clusters that a small pool cannot fill."""
    asked = config.num_clusters
    if "num_clusters" in config.model_fields_set or asked == "auto" or asked <= num_candidates:
        return config
    return config.model_copy(update={"num_clusters": "auto"})
