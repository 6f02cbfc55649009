"""Selectors: tables in, selection out. One small file each; no torch, no Ray.

s2l     even sampling over clusters of loss trajectories
random  uniform sampling, the control every method is judged against
full    the whole pool

To add one, write a file with a class like theirs and name it in SELECTORS.
"""

import difflib

from s2l_ray.errors import InputError
from s2l_ray.selectors.full import Full
from s2l_ray.selectors.interface import Selector
from s2l_ray.selectors.random import Random
from s2l_ray.selectors.s2l import S2L

SELECTORS: dict[str, Selector] = {selector.name: selector for selector in (S2L(), Random(), Full())}


def find_selector(name: str) -> Selector:
    """Return the selector of this name; InputError with the nearest name where there is none."""
    if name in SELECTORS:
        return SELECTORS[name]
    near = difflib.get_close_matches(name, list(SELECTORS), n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    raise InputError(f"selection.selector={name!r} is unknown; {hint}known: {', '.join(SELECTORS)}")
