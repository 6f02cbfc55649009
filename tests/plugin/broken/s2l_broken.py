"""A package that its author has not finished."""

raise RuntimeError("to be written")
