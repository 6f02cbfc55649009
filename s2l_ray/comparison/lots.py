"""What selections of one pool would share if each drew its lots anew."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from s2l_ray.comparison.chosen import Chosen
from s2l_ray.errors import InputError
from s2l_ray.recipe.parts import check_selection_settings
from s2l_ray.recipe.registry import SELECTORS
from s2l_ray.recipe.selection import SelectionConfig
from s2l_ray.selectors.chances import Draw, certain, draw
from s2l_ray.selectors.pool import Pool
from s2l_ray.selectors.run import pool_of
from s2l_ray.tables.needs import Need

_IN_POOL = {Need.TRAJECTORIES: "losses", Need.LENGTHS: "num_supervised_tokens", Need.SOURCES: "source"}
"""What a selector may need to be run again, by the column that has it."""
_OTHERWISE = ("selector", "seed", "controls", "scores", "required", "forbidden", "task_examples")
"""Settings that are given in another way, or whose origin is not the setting itself."""


def shared_by_lot(
    losses: Sequence[pa.Table], chosen: Sequence[Chosen], pairs: Sequence[tuple[int, int]]
) -> list[float | None]:
    """Return, for each pair, how many examples both would choose on average, each with lots of its own.

    Two runs of one seed share their lottery too: what they have in common beyond this is by that seed. None where a
    selector's lots are not known, or where it chooses the same once more from none of these pools.

    Parameters
    ----------
    losses
        The pool's trajectories, by one proxy or several: each selection is matched to those that it was made from.
    """
    drawn = [_draw(losses, one) for one in chosen]
    return [_shared(drawn[a], drawn[b]) for a, b in pairs]


@dataclass(frozen=True)
class _Drawn:
    """A selection that was made once more, and the ids of the pool in its order."""

    draw: Draw
    pool: pa.Array


def _shared(one: _Drawn | None, other: _Drawn | None) -> float | None:
    if one is None or other is None or not one.pool.equals(other.pool):
        return None
    return one.draw.shared_by_lot(other.draw)


def _draw(losses: Sequence[pa.Table], one: Chosen) -> _Drawn | None:
    selector = SELECTORS.get(one.origin.get("selector"))
    if selector is None:
        return None
    for table in losses:
        own = table.select([name for name in table.column_names if name in ("example_id", *_IN_POOL.values())])
        if not selector.takes_seed:
            pool = pool_of(own, frozenset())
            return _Drawn(certain(pool, one.ids), _ids(pool))
        config = _settings(one.origin)
        if config is None or any(_IN_POOL.get(need) not in own.column_names for need in selector.needs):
            continue
        pool = pool_of(own, selector.needs)
        try:
            found = draw(selector, pool, config, int(one.origin["seed"]))
        except InputError:  # this pool cannot give what was chosen
            continue
        if len(found.ids) == len(one.ids) and pc.all(pc.is_in(found.ids, value_set=one.ids)).as_py():
            return _Drawn(found, _ids(pool))
    return None


def _ids(pool: Pool) -> pa.Array:
    return pa.concat_arrays([part.cast(pa.string()) for _, part in pool.each_ids()])


def _settings(origin: dict[str, Any]) -> SelectionConfig | None:
    """Return the settings that a selection says it was made with; None where they do not say all."""
    if "seed" not in origin or origin.get("required") or origin.get("forbidden"):
        return None
    known = {name: value for name, value in origin.items()
             if name in SelectionConfig.model_fields and name not in _OTHERWISE}
    try:
        return check_selection_settings({**known, "selector": origin["selector"]})
    except InputError:  # written by another version
        return None
