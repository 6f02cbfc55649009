"""The trackers that sweeps and trainings report to: what each needs, refused early where it is missing."""

import importlib.util
import os
from collections.abc import Iterable
from typing import NamedTuple

from s2l_ray.errors import InputError
from s2l_ray.storage.secrets import login_taken_out


class Needs(NamedTuple):
    """What a tracker needs of a machine."""

    packages: tuple[str, ...]
    """One of these."""
    extra: str
    """Of this package, which brings one."""
    variable: str | None = None
    """Of the environment: where it is or who we are."""


NEEDS = {
    "tensorboard": Needs(("tensorboard", "tensorboardX"), "train"),
    "mlflow": Needs(("mlflow",), "mlflow", "MLFLOW_TRACKING_URI"),
    "wandb": Needs(("wandb",), "wandb", "WANDB_API_KEY"),
}
_WITHOUT_KEY = ("offline", "disabled")
"""What WANDB_MODE says where nothing is sent anywhere."""


def check_trackers(key: str, trackers: Iterable[str], where: str = "") -> None:
    """Refuse a tracker that is not installed or not told where to go, before anything runs.

    Parameters
    ----------
    key
        The recipe's, which names them.
    where
        The machine that lacks it, where that is not this one.

    Raises
    ------
    InputError
        The package or the environment variable is missing, or its address holds a password that must not be kept.
    """
    for tracker in trackers:
        packages, extra, variable = NEEDS[tracker]
        if not any(importlib.util.find_spec(package) for package in packages):
            raise InputError(f"{key}={tracker} needs the package {packages[0]}{where}: pip install 's2l-ray[{extra}]'")
        if variable is None or (tracker == "wandb" and os.environ.get("WANDB_MODE") in _WITHOUT_KEY):
            continue
        if not os.environ.get(variable):
            offline = ", or WANDB_MODE=offline to keep files alone," if tracker == "wandb" else ""
            raise InputError(f"{key}={tracker} needs {variable} in the environment{where}: set it{offline} and run "
                             "again")
        if tracker == "mlflow":  # its address is kept: Tune's callbacks hold it, and what it logs says where
            login_taken_out(variable, "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")
