"""What counts as missing in a row."""

import math
from typing import Any


def is_missing(value: Any) -> bool:
    """Tell whether a value holds nothing: null, NaN (pandas' too), white space, an empty list or object."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return True
    if isinstance(value, str):
        return not value.strip()
    return isinstance(value, (list, dict)) and not value
