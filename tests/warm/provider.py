"""Ray's nodes that are processes, with workers forked as those of start.py: named in the autoscaler's settings."""

from ray.autoscaler._private.fake_multi_node.node_provider import FakeMultiNodeProvider

from tests.warm.setting import forked_workers


class WarmProvider(FakeMultiNodeProvider):
    """The autoscaler's own process starts its nodes."""

    def create_node_with_resources_and_labels(self, *args, **options):
        """Start nodes."""
        with forked_workers():
            super().create_node_with_resources_and_labels(*args, **options)
