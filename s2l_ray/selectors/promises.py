"""What every selector promises, as checks of anybody's: `s2l_ray.testing` publishes them.

Each check makes small tables, has the selector choose from them, and raises an AssertionError that says what it did
instead. Ours pass them too.
"""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from s2l_ray.errors import InputError
from s2l_ray.recipe.selection import FOR_ANY, SelectionConfig
from s2l_ray.selectors.run import pool_of, run_selector
from s2l_ray.selectors.sample_tables import Tables, columns_of, in_parts, make_tables
from s2l_ray.selectors.selector import Selector
from s2l_ray.tables.needs import Need
from s2l_ray.tables.schemas import SELECTION

_COUNTS = (1, 7, 60)
_SEEDS = range(6)
_NOT_PARAMETERS = {"selector", "budget", "seed", "controls", *FOR_ANY}
"""Settings that are not the selector's own."""


def choose(
    selector: Selector, tables: Tables, budget: int, seed: int = 0, **settings: Any
) -> tuple[pa.Table, dict[str, Any]]:
    """Return the selection and the findings; `settings` are of the recipe's `selection`, num_clusters 4 at most."""
    config = SelectionConfig(**{"num_clusters": min(4, len(tables)), **settings, "budget": budget})
    try:
        pool = pool_of(in_parts(tables.trajectories), selector.needs, tables.embeddings, tables.scores,
                       tasks=tables.tasks)
        return run_selector(selector, pool, config, seed, {})
    except InputError:
        raise
    except Exception as error:
        raise AssertionError(f"{selector.name}: choosing {budget} of {len(tables)} examples raised "
                             f"{type(error).__name__}: {error} (its pool holds what `needs` names, "
                             f"{sorted(map(str, selector.needs))}, and no more)") from error


def check_choice(selector: Selector, tables: Tables, budget: int, seed: int = 0, **settings: Any) -> pa.Table:
    """Return a selection that is right by itself, and the same for rows in another order."""
    table, facts = choose(selector, tables, budget, seed, **settings)
    expected = budget if selector.takes_budget else len(tables)
    ids = table["example_id"].to_pylist()
    what = f"{selector.name}: of {len(tables)} examples, seed {seed}, budget {budget}"
    assert table.schema.equals(SELECTION), f"{what}: the table's columns are {table.schema}"
    assert len(ids) == expected, f"{what}: {len(ids)} are chosen, not {expected}"
    assert len(set(ids)) == len(ids), f"{what}: an example is chosen twice"
    assert set(ids) <= set(tables.trajectories["example_id"].to_pylist()), f"{what}: an id is none of the pool's"
    _check_reasons(table, what)
    try:
        json.dumps(facts, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise AssertionError(f"{what}: facts={facts!r} must be JSON-able: {error}") from error
    again = _ids(selector, tables.shuffled(seed), budget, seed, **settings)
    assert again == ids, (
        f"{what}: rows in another order give another selection, or the same rows do the second time: "
        f"{ids[:5]}, then {again[:5]}. Take the pool's order and the generator that is given"
    )
    return table


def _check_reasons(table: pa.Table, what: str) -> None:
    """Check what is said of each chosen example: its cluster, that cluster's quota, a distance, a score."""
    clusters, quotas = table["cluster"].to_pylist(), table["quota"].to_pylist()
    if not {None} >= {*clusters, *quotas}:
        assert [clusters.count(cluster) for cluster in clusters] == quotas, (
            f"{what}: quotas_B must say how many the cluster of each example gives"
        )
    for name in ("distance", "score"):
        values = table[name].drop_null().to_numpy()
        assert np.isfinite(values).all(), f"{what}: a {name} is not finite"
        assert table[name].null_count in (0, len(table)), f"{what}: some examples have no {name}, others have one"


# --- the promises, one by one -----------------------------------------------------------------------


def is_described(selector: Selector, **settings: Any) -> None:
    """It is an object of a Selector's class with a name, a docstring, needs and parameters that there are."""
    assert isinstance(selector, Selector), (
        f"{selector!r} is no object of a class of s2l_ray.selectors.selector.Selector"
    )
    name = getattr(selector, "name", None)
    assert isinstance(name, str) and name.isidentifier(), f"name={name!r} must be letters, digits and underscores"
    assert (type(selector).__doc__ or "").strip(), f"{name}: its class needs a docstring that says its rule"
    unknown = sorted(set(selector.needs) - set(Need))
    assert not unknown, f"{name}: needs {unknown}, which are none of {', '.join(Need)}"
    others = sorted(selector.parameters - (SelectionConfig.model_fields.keys() - _NOT_PARAMETERS))
    assert not others, f"{name}: parameters names {others}, which are no settings that a selector has for itself"


def gives_exactly_the_budget(selector: Selector, **settings: Any) -> None:
    """It chooses 1, 11 % and all of pools of several sizes, none twice, in any order of the rows; also by source."""
    for count in _COUNTS:
        tables = make_tables(count, seed=count)
        for budget in sorted({1, max(1, round(0.11 * count)), count}):
            for by_source in ({}, {"per": "source"}):
                check_choice(selector, tables, budget, **{**settings, **by_source})


def gives_the_budget_of_equal_examples(selector: Selector, **settings: Any) -> None:
    """Ties are settled, by the pool's order or by the generator: never by the order of the rows."""
    for count in _COUNTS:
        for budget in sorted({1, count // 2 or 1, count}):
            check_choice(selector, make_tables(count, values="equal"), budget, **settings)


def stands_extreme_values(selector: Selector, **settings: Any) -> None:
    """Of finite values however large or small it chooses as of others, with finite scores."""
    for count in _COUNTS:
        check_choice(selector, make_tables(count, values="extreme"), max(1, count // 3), **settings)


def draws_by_its_seed_alone(selector: Selector, *, always_draws: bool = True, **settings: Any) -> None:
    """With takes_seed another seed gives another choice (if it always draws, of a small pool too); else the same."""
    tables = make_tables(40)
    choices = {tuple(_ids(selector, tables, 12, seed, **settings)) for seed in _SEEDS}
    if not selector.takes_seed:
        assert len(choices) == 1, (
            f"{selector.name}: takes_seed is False, and {len(_SEEDS)} seeds gave {len(choices)} "
            "choices: say takes_seed = True, or a seed is no part of the selection's identity"
        )
    elif always_draws and selector.takes_budget:
        assert len(choices) > 1, (
            f"{selector.name}: takes_seed is True, and {len(_SEEDS)} seeds gave one choice: draw from "
            "the generator that is given, or say takes_seed = False; always_draws=False where "
            "it draws from larger pools only"
        )


def keeps_what_a_smaller_budget_chose(selector: Selector, **settings: Any) -> None:
    """If is_nested, the first rows of its order are its selection at a smaller budget."""
    if not selector.is_nested or not selector.takes_budget:
        return
    for budget in (1, 7, 23):
        check_nested(selector, make_tables(40), budget, 40, **settings)


def check_nested(
    selector: Selector, tables: Tables, small: int, large: int, seed: int = 0, **settings: Any
) -> None:
    """Check that a selection begins with the one at a smaller budget."""
    first, both = (_ids(selector, tables, budget, seed, **settings) for budget in (small, large))
    assert both[:small] == first, (
        f"{selector.name}: the first {small} of its {large} are not what it chooses at budget {small}: say "
        "is_nested = False"
    )


def refuses_bad_values(selector: Selector, **settings: Any) -> None:
    """A missing, NaN or infinite value among what it needs is an InputError, never a choice."""
    for need in sorted(selector.needs):
        for value in (None, math.nan, math.inf) if need != Need.SOURCES else (None,):
            try:
                choose(selector, make_tables(20).with_bad_value(need, value), 5, **settings)
            except InputError:
                continue
            raise AssertionError(f"{selector.name}: needs {need}, and chose from a pool where one is {value}: let the "
                                 "pool's InputError through")


def reads_only_what_it_names(selector: Selector, **settings: Any) -> None:
    """It does with what `needs` and `parameters` name, and draws only with takes_seed: identities rest on these."""
    full, budget = make_tables(30), 9
    least = replace(full, trajectories=full.trajectories.select(["example_id", *columns_of(selector.needs)]))
    config = SelectionConfig(**{"num_clusters": 4, **settings, "budget": budget})
    pool = pool_of(in_parts(least.trajectories), selector.needs, least.embeddings, least.scores,
                   tasks=least.tasks)
    watched: Any = _Declared(selector, config)
    rng: Any = np.random.default_rng(0) if selector.takes_seed else _NoDraws(selector)
    try:
        chosen = selector.select(pool, budget if selector.takes_budget else len(pool), watched, rng)
    except AssertionError:
        raise
    except Exception as error:
        raise AssertionError(f"{selector.name}: needs {sorted(map(str, selector.needs))}, and with these alone select "
                             f"raised {type(error).__name__}: {error}. Name in `needs` all that it reads") from error
    ids = pool.example_ids.take(pa.array(np.asarray(chosen.positions_B, dtype=np.int64))).to_pylist()
    assert ids == _ids(selector, full, budget, **settings), (
        f"{selector.name}: another choice where the pool holds more than it needs: name in `needs` all that it reads"
    )


PROMISES: tuple[Callable[..., None], ...] = (
    is_described, gives_exactly_the_budget, gives_the_budget_of_equal_examples, stands_extreme_values,
    draws_by_its_seed_alone, keeps_what_a_smaller_budget_chose, refuses_bad_values, reads_only_what_it_names,
)


def check_selector(selector: Selector, *, always_draws: bool = True, **settings: Any) -> None:
    """Check all promises of a selector.

    Parameters
    ----------
    always_draws
        False for one that draws, but not from pools as small as these.
    settings
        Of the recipe's `selection`, where it cannot do with the defaults.

    Raises
    ------
    AssertionError
        One is broken; the message says which, on what, and what to do.
    """
    for promise in PROMISES:
        asked = {"always_draws": always_draws} if promise is draws_by_its_seed_alone else {}
        promise(selector, **asked, **settings)


# --- what they are made of --------------------------------------------------------------------------


class _Declared:
    """Settings that can be read only if the selector names them."""

    def __init__(self, selector: Selector, config: SelectionConfig) -> None:
        self._selector, self._config = selector, config

    def __getattr__(self, name: str) -> Any:
        if name in SelectionConfig.model_fields and name not in self._selector.parameters:
            given = {"budget": ": it is given as an argument", "seed": ": the generator is given as an argument"}
            remedy = given.get(name, ", which `parameters` does not name: no change of it would make another selection")
            raise AssertionError(f"{self._selector.name}: select reads selection.{name}{remedy}")
        return getattr(self._config, name)


class _NoDraws:
    """A generator of a selector that says that it draws nothing."""

    def __init__(self, selector: Selector) -> None:
        self._selector = selector

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"{self._selector.name}: select draws (rng.{name}), and takes_seed is False")


def _ids(selector: Selector, tables: Tables, budget: int, seed: int = 0, **settings: Any) -> list[str]:
    return list(choose(selector, tables, budget, seed, **settings)[0]["example_id"].to_pylist())
