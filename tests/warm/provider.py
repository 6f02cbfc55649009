"""Ray's nodes that are processes, with workers forked as those of start.py: named in the autoscaler's settings."""

import contextlib
import os
from pathlib import Path

from ray.autoscaler._private.fake_multi_node.node_provider import FakeMultiNodeProvider

from s2l_ray.execution.ray_internals import worker_set_up
from s2l_ray.execution.warm_stub import SOCKET


class WarmProvider(FakeMultiNodeProvider):
    """The autoscaler's own process starts its nodes."""

    def create_node_with_resources_and_labels(self, *args, **options):
        """Start nodes."""
        warm = worker_set_up(Path(__file__).with_name("stub.py")) if SOCKET in os.environ else contextlib.nullcontext()
        with warm:
            super().create_node_with_resources_and_labels(*args, **options)
