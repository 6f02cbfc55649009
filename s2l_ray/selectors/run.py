"""A selector run: from tables to a pool, from its choice to the selection table."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from s2l_ray.errors import InputError
from s2l_ray.recipe.registry import SELECTORS
from s2l_ray.recipe.selection import FOR_ANY, SelectionConfig
from s2l_ray.selectors.grown import Earlier, grown, kept_positions
from s2l_ray.selectors.named import NAMED, Named, named_identity, named_in
from s2l_ray.selectors.per import placed, select_per_source
from s2l_ray.selectors.pool import Pool
from s2l_ray.selectors.selector import Choice, Selector
from s2l_ray.selectors.stored import StoredIds, StoredLosses, StoredTable, string_array
from s2l_ray.selectors.vectors import task_rows, unit_rows
from s2l_ray.tables.chunked_table import ChunkedTable, chunked_from_table
from s2l_ray.tables.needs import PROBES, VECTORS, Need
from s2l_ray.tables.schemas import SELECTION, check_selection, metadata_of, with_metadata


def pool_of(
    table: pa.Table | ChunkedTable, needs: frozenset[Need], embeddings: pa.Table | None = None,
    scores: pa.Table | None = None, probes: Mapping[str, pa.Table] | None = None,
    tasks: pa.Table | None = None, pass_rates: pa.Table | None = None,
) -> Pool:
    """Return the pool of a trajectories table (or of any table with example_id, for selectors that need no more).

    Ids and losses stay where the table has them and are read when they are asked for; see `stored` for the order.
    Rows of `embeddings` (example_id, embedding), `scores` (example_id, score) and each of `probes` (example_id, loss)
    are matched by id; without `probes` these losses are columns of the table, such as loss_with_prompt. `tasks` is as
    `vectors.task_rows` takes it; `pass_rates` (example_id, pass_rate) are a column of the table where they are not
    given.

    Raises
    ------
    InputError
        The table is empty, has no example_id, repeats one, or something the selector needs is missing, not finite,
        or not there for every example.
    """
    parts = chunked_from_table(table) if isinstance(table, pa.Table) else table
    names = parts.schema.names
    if "example_id" not in names:
        raise InputError(f"the table needs a column example_id, it has {names}")
    if parts.num_rows == 0:
        raise InputError("the candidate pool is empty")
    stored = StoredTable(parts)
    sources = string_array(stored.column("source"), "source") if "source" in names else None
    if Need.SOURCES in needs and (sources is None or sources.null_count):
        raise InputError("this selector needs a column source without missing values")
    points = metadata_of(parts.schema).get("points")
    needs_losses = Need.TRAJECTORIES in needs
    vectors_ND = unit_rows(_matched(embeddings, stored, "embeddings")) if needs & VECTORS else None
    return Pool(
        StoredIds(stored),
        sources,
        StoredLosses(stored) if needs_losses else None,
        np.array([point["fraction"] for point in points]) if points and needs_losses else None,
        vectors_ND,
        _numbers(_own(stored, "num_supervised_tokens"), "num_supervised_tokens") if Need.LENGTHS in needs else None,
        _numbers(_matched(scores, stored, "scores"), "score") if Need.SCORES in needs else None,
        {
            name: _numbers(_own(stored, f"loss_{name}"), f"loss_{name}") if probes is None
            else _numbers(_matched(probes[name], stored, name), "loss")
            for name in sorted(needs & set(PROBES))
        },
        () if vectors_ND is None or Need.REPRESENTATIONS not in needs else task_rows(tasks, vectors_ND.shape[1]),
        _shares(stored, pass_rates) if Need.PASS_RATES in needs else None,
    )


def _own(stored: StoredTable, column: str) -> pa.Table:
    """Return a column of the table in the pool's order, as a table; one without columns where there is none."""
    names = stored.parts.schema.names
    return pa.table({column: stored.column(column)} if column in names else {name: pa.nulls(0) for name in names})


def _matched(table: pa.Table | None, pool: StoredTable, what: str) -> pa.Table:
    """Return the table's rows in the order of the pool's ids."""
    if table is None:
        raise InputError(f"this selector needs {what}: give a table of them (--{what} FILE.parquet)")
    if "example_id" not in table.column_names:
        raise InputError(f"the {what} table needs a column example_id, it has {table.column_names}")
    ids, theirs = string_array(pool.column("example_id")), string_array(table["example_id"])
    if theirs.null_count:
        raise InputError(f"the {what} table has {theirs.null_count} rows without an example_id: remove them")
    if len(theirs.unique()) < len(theirs):
        raise InputError(f"the {what} table has {len(theirs) - len(theirs.unique())} repeated ids; ids must be unique")
    places = pc.index_in(ids, value_set=theirs)
    if places.null_count:
        missing = ids.filter(pc.is_null(places))
        few = missing[:3].to_pylist()
        raise InputError(f"{len(missing)} examples have no row in the {what} table, for example {few}")
    return table.take(places)


def _shares(stored: StoredTable, given: pa.Table | None) -> np.ndarray:
    """Return the pass rates, (N,) float64."""
    table = _own(stored, "pass_rate") if given is None else _matched(given, stored, "pass rates")
    rates_N = _numbers(table, "pass_rate")
    if ((rates_N < 0) | (rates_N > 1)).any():
        raise InputError("column pass_rate must hold shares from 0 to 1, it has "
                         f"{rates_N.min():g} to {rates_N.max():g}")
    return rates_N


def _numbers(table: pa.Table, column: str) -> np.ndarray:
    """Return a column of finite numbers, (N,) float64."""
    if column not in table.column_names:
        raise InputError(f"this selector needs a column {column}; the table has {table.column_names}")
    try:
        values_N = np.asarray(table[column].to_numpy(), dtype=np.float64)
    except (ValueError, TypeError) as error:
        raise InputError(f"column {column} must hold numbers, got {table[column].type}: {error}") from error
    if not np.isfinite(values_N).all():
        raise InputError(f"column {column} has {int((~np.isfinite(values_N)).sum())} missing or non-finite values")
    return values_N


def needs_sources(selector: Selector, config: SelectionConfig) -> bool:
    """Tell whether this selection looks at the examples' sources."""
    return bool(Need.SOURCES in selector.needs or config.per or config.shares or config.stratify_by
                or config.task_sources)


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
    """Return what decides a selection beside its tables: only the parameters that this selector reads.

    Of a selector of another package also that and its version: another version may choose otherwise.
    """
    given = config.identity()
    found: dict[str, Any] = {"selector": selector.name}
    if selector.takes_budget:
        found["budget"] = config.budget
    if selector.takes_seed:
        found["seed"] = seed
    reads = {*selector.parameters, *(FOR_ANY if selector.takes_budget else ("forbidden",))}
    for name in sorted(reads & set(given)):
        found[name] = named_identity(config, name) if name in NAMED else given[name]
    return found | SELECTORS.identity_of(selector.name)


def composed(selector: Selector, pool: Pool, config: SelectionConfig) -> tuple[Named, int]:
    """Return the examples that are chosen and left out in any case, and how many are chosen in all.

    A budget that is a share is one of the candidates, which forbidden examples are not.

    Raises
    ------
    InputError
        See `named_in` and `resolve_budget`; or more are required than the budget is.
    """
    named = named_in(pool, config)
    num_candidates = len(pool) - len(named.forbidden)
    if not selector.takes_budget:
        return Named(named.required[:0], named.forbidden), num_candidates
    budget = resolve_budget(config.budget, num_candidates)
    if len(named.required) > budget:
        raise InputError(f"selection.required names {len(named.required)} examples, the budget is {budget}: "
                         "raise selection.budget, or require fewer")
    return named, budget


def run_selector(
    selector: Selector, pool: Pool, config: SelectionConfig, seed: int, parents: dict[str, str],
    earlier: Earlier | None = None,
) -> tuple[pa.Table, dict[str, Any]]:
    """Return the selection table, with its origin in the metadata, and the selector's findings.

    `earlier` is the selection that this one extends, if it does.
    """
    named, budget = composed(selector, pool, config)
    choice = choose(selector, pool, budget, config, np.random.default_rng(seed), named)
    positions, num_required = np.concatenate([named.required, choice.positions_B]), len(named.required)
    assert len(positions) == budget, f"{selector.name} chose {len(choice.positions_B)} rows, budget {budget}"
    values = [pa.concat_arrays([pa.nulls(num_required, kind), _optional(of_each, len(choice.positions_B), kind)])
              for of_each, kind in ((choice.clusters_B, pa.int32()), (choice.quotas_B, pa.int64()),
                                    (choice.distances_B, pa.float32()), (choice.scores_B, pa.float32()))]
    facts = choice.facts
    if earlier is not None:
        kept = kept_positions(pool, earlier, named.forbidden, budget)
        found = grown(pool, kept, positions, earlier.candidates, num_required, is_nested=selector.is_nested)
        positions, places = found.positions_B, pa.array(found.places_B, mask=found.places_B < 0)
        values = [of_each.take(places) for of_each in values]
        counts = {entry["values"]: entry["counts"] for entry in pc.value_counts(values[0].drop_null()).to_pylist()}
        if counts:  # what a cluster gives, of those whose cluster is known: the others are kept and not chosen anew
            values[1] = pa.array([counts.get(one) for one in values[0].to_pylist()], values[1].type)
            clusters = [{**one, "quota": counts.get(one["cluster"], 0)} for one in facts["clusters"]]
            facts = {**facts, "clusters": clusters}
        facts = {**facts, "remarks": [*facts.get("remarks", []), found.remark]}
    columns = [pa.array(np.arange(budget), pa.int64()), pool.example_ids.take(pa.array(positions)).cast(pa.string()),
               *values]
    table = pa.table(columns, schema=SELECTION)
    check_selection(table, budget)
    origin = {
        **{name: getattr(config, name) for name in selector.parameters},
        **selection_identity(selector, config, seed), "budget": budget, "budget_asked": config.budget,
        "seed": seed, "num_candidates": len(pool) - len(named.forbidden), "parents": parents,
    }
    return with_metadata(table, origin), facts


def choose(
    selector: Selector, pool: Pool, budget: int, config: SelectionConfig, rng: np.random.Generator, named: Named
) -> Choice:
    """Return what the selector chooses beside the required examples, among those that are not forbidden either.

    Parameters
    ----------
    budget
        Of both together.
    named
        As `composed` returns them.
    """
    left = budget - len(named.required)
    if left == 0:
        return Choice(np.empty(0, dtype=np.int64))
    is_by_source = selector.takes_budget and (config.per is not None or config.shares)
    select = partial(select_per_source, selector) if is_by_source else selector.select
    if not len(named.required) and not len(named.forbidden):
        return select(pool, left, config, rng)
    free = named.free(len(pool))
    choice: Choice = select(pool.take(free), left, config, rng)
    return placed(choice, free, len(pool))


def _optional(values: np.ndarray | None, length: int, kind: pa.DataType) -> pa.Array:
    if values is None:
        return pa.nulls(length, kind)
    if pa.types.is_float32(kind):  # scores rank in double precision; the table holds the nearest float32
        limit = np.finfo(np.float32).max
        values = np.clip(values, -limit, limit)
    return pa.array(values).cast(kind)
