"""Where the workers of the clusters that tests start come from."""

import contextlib
import os
from pathlib import Path

from s2l_ray.execution.ray_internals import worker_set_up
from s2l_ray.execution.warm_stub import SOCKET


def forked_workers():
    """Return a context in which nodes are started whose workers are forked, where the environment names a server.

    It does not where lines are counted: forks do not count theirs.
    """
    return worker_set_up(Path(__file__).with_name("stub.py")) if SOCKET in os.environ else contextlib.nullcontext()
