"""The one error class of the project: what the user can fix."""


class InputError(ValueError):
    """What the user handed us is wrong: the message names the value, the bound and the remedy. Exit code 2."""
