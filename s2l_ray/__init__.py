"""S2L (SmallToLarge) data selection for fine-tuning language models, on Ray.

`select` chooses from arrays and tables, without a model or Ray; the command `s2l` does the rest. Nothing is imported
before it is asked for.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from s2l_ray.errors import InputError
    from s2l_ray.selectors.api import Selection, select

__version__ = "0.1.0"
__all__ = ["InputError", "Selection", "__version__", "select"]

_PLACES = {"InputError": "s2l_ray.errors", "Selection": "s2l_ray.selectors.api", "select": "s2l_ray.selectors.api"}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_PLACES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_PLACES})
