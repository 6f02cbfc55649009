"""What counts as missing in a row."""

import math
from typing import Any


def is_missing(value: Any) -> bool:
    """Tell whether a value holds nothing: null, NaN (pandas' too), white space, an empty list or object."""
    if isinstance(value, str):  # most values
        return not value or value.isspace()
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return True
    return isinstance(value, (list, dict)) and not value
