"""What a selector is given and what it gives back."""

from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from s2l_ray.config import SelectionConfig
from s2l_ray.errors import InputError
from s2l_ray.tables import SELECTION, check_selection, losses_matrix, metadata_of, with_metadata


@dataclass(frozen=True)
class Pool:
    """The candidate pool, sorted by example_id so that no result depends on the order of the input."""

    example_ids: pa.Array
    """The N ids, ascending."""
    sources: pa.Array | None = None
    """The source of each example."""
    losses_NC: np.ndarray | None = None
    """Loss trajectories in nats, oldest point first, where the selector requires them."""
    fractions_C: np.ndarray | None = None
    """Training fraction of each point, where known; 0 is the untouched model."""

    def __len__(self) -> int:
        return len(self.example_ids)


@dataclass(frozen=True)
class Choice:
    """What a selector chose: positions in the pool by rank, with cluster and score where it has them."""

    positions_B: np.ndarray
    clusters_B: np.ndarray | None = None
    scores_B: np.ndarray | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    """JSON-able findings for the report, such as the size and quota of each cluster."""


class Selector(Protocol):
    """A method that chooses `budget` examples of a pool."""

    name: ClassVar[str]
    requires: ClassVar[frozenset[str]]
    """Tables it needs beside the ids: only what a selector requires is computed."""
    parameters: ClassVar[frozenset[str]]
    """Fields of SelectionConfig that change its choice, beside budget and seed."""
    is_nested: ClassVar[bool]
    """Whether the first b rows of its order are its selection at budget b."""

    def select(self, pool: Pool, budget: int, config: SelectionConfig, rng: np.random.Generator) -> Choice:
        """Choose exactly `budget` positions, none twice."""
        ...


def pool_of(table: pa.Table, requires: frozenset[str]) -> Pool:
    """Return the pool of a trajectories table (or of any table with example_id, for selectors that need no more).

    Raises
    ------
    InputError
        The table is empty, has no example_id, repeats one, or its losses are missing or not finite.
    """
    if "example_id" not in table.column_names:
        raise InputError(f"the table needs a column example_id, it has {table.column_names}")
    if table.num_rows == 0:
        raise InputError("the candidate pool is empty")
    ids = table["example_id"].cast(pa.string()).combine_chunks()
    order = pc.sort_indices(ids)
    ids = ids.take(order)
    if len(ids) > 1 and pc.any(pc.equal(ids[1:], ids[:-1])).as_py():
        repeated = ids.filter(pc.equal(ids, pa.concat_arrays([ids[1:], pa.nulls(1, ids.type)])))
        raise InputError(f"example_id repeats, for example {repeated[:3].to_pylist()}; ids must be unique")
    sources = table["source"].combine_chunks().take(order) if "source" in table.column_names else None
    if "trajectories" not in requires:
        return Pool(ids, sources)
    points = metadata_of(table.schema).get("points")
    fractions = np.array([point["fraction"] for point in points]) if points else None
    return Pool(ids, sources, losses_matrix(table)[order.to_numpy()], fractions)


def resolve_budget(budget: int | float, num_candidates: int) -> int:
    """Return the number of examples a budget asks for; a fraction is rounded to the nearest number, at least 1.

    Raises
    ------
    InputError
        The budget is below 1 or above the number of candidates.
    """
    asked = max(1, round(budget * num_candidates)) if isinstance(budget, float) and 0 < budget <= 1 else int(budget)
    if not 1 <= asked <= num_candidates:
        raise InputError(f"selection.budget={budget} must be between 1 and the {num_candidates} candidates of the pool")
    return asked


def selection_identity(selector: Selector, config: SelectionConfig, seed: int) -> dict[str, Any]:
    """Return what decides a selection beside its tables: only the parameters that this selector reads."""
    values = config.identity()
    budget = {} if selector.name == "full" else {"budget": config.budget, "seed": seed}
    return {"selector": selector.name, **budget, **{name: values[name] for name in sorted(selector.parameters)}}


def run_selector(
    selector: Selector, pool: Pool, config: SelectionConfig, seed: int, parents: dict[str, str]
) -> tuple[pa.Table, dict[str, Any]]:
    """Return the selection table, with its origin in the metadata, and the selector's findings."""
    budget = len(pool) if selector.name == "full" else resolve_budget(config.budget, len(pool))
    choice = selector.select(pool, budget, config, np.random.default_rng(seed))
    columns = [
        pa.array(np.arange(budget), pa.int64()),
        pool.example_ids.take(pa.array(choice.positions_B)),
        _optional(choice.clusters_B, budget, pa.int32()),
        _optional(choice.scores_B, budget, pa.float32()),
    ]
    table = pa.table(columns, schema=SELECTION)
    check_selection(table, budget)
    origin = {
        **selection_identity(selector, config, seed), "budget": budget, "budget_asked": config.budget,
        "seed": seed, "num_candidates": len(pool), "parents": parents,
    }
    return with_metadata(table, origin), choice.facts


def _optional(values: np.ndarray | None, length: int, kind: pa.DataType) -> pa.Array:
    return pa.nulls(length, kind) if values is None else pa.array(values).cast(kind)
