"""What selections of one pool would share if each drew its lots anew."""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from s2l_ray.comparison.chosen import Chosen
from s2l_ray.errors import InputError
from s2l_ray.recipe.parts import check_selection_settings
from s2l_ray.recipe.registry import SELECTORS
from s2l_ray.recipe.selection import SelectionConfig
from s2l_ray.selectors.chances import Draw, certain, draw
from s2l_ray.selectors.run import pool_of
from s2l_ray.tables.needs import Need

_IN_POOL = {Need.TRAJECTORIES: "losses", Need.LENGTHS: "num_supervised_tokens", Need.SOURCES: "source"}
"""What a selector may need to be run again, by the column that has it."""
_OTHERWISE = ("selector", "seed", "controls", "scores", "required", "forbidden", "task_examples")
"""Settings that are given in another way, or whose origin is not the setting itself."""


def shared_by_lot(
    losses: pa.Table, chosen: Sequence[Chosen], pairs: Sequence[tuple[int, int]]
) -> list[float | None]:
    """Return, for each pair, how many examples both would choose on average, each with lots of its own.

    Two runs of one seed share their lottery too: what they have in common beyond this is by that seed. None where a
    selector's lots are not known, or where it does not choose the same from this pool once more.
    """
    names = [name for name in losses.column_names if name in ("example_id", *_IN_POOL.values())]
    draws = [_draw(losses.select(names), one) for one in chosen]
    found = []
    for a, b in pairs:
        one, other = draws[a], draws[b]
        found.append(None if one is None or other is None else one.shared_by_lot(other))
    return found


def _draw(losses: pa.Table, one: Chosen) -> Draw | None:
    selector = SELECTORS.get(one.origin.get("selector"))
    if selector is None:
        return None
    if not selector.takes_seed:
        return certain(pool_of(losses, frozenset()), one.ids)
    config = _settings(one.origin)
    if config is None or any(_IN_POOL.get(need) not in losses.column_names for need in selector.needs):
        return None
    try:
        found = draw(selector, pool_of(losses, selector.needs), config, int(one.origin["seed"]))
    except InputError:  # it was another pool, which cannot give what was chosen
        return None
    is_same = len(found.ids) == len(one.ids) and pc.all(pc.is_in(found.ids, value_set=one.ids)).as_py()
    return found if is_same else None


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
