"""How training workers reach each other: each by the network interface that its node's address belongs to."""

from dataclasses import dataclass

import ray
from ray.train.torch import TorchConfig

from s2l_ray.execution.interfaces import name_interface
from s2l_ray.execution.ray_internals import torch_backend


@dataclass
class ByNodeAddress(TorchConfig):
    """Ray's TorchConfig, for hosts whose own name resolves to loopback too, as Debian's does (127.0.1.1).

    Gloo offers the other workers the address that the host's name resolves to; from another host, that leads nowhere.
    """

    @property
    def backend_cls(self) -> type:
        """Return what sets the process group up."""
        return _Backend


class _Backend(torch_backend(TorchConfig())):  # type: ignore[misc]
    def on_start(self, worker_group, backend_config):
        worker_group.execute(_name_own_interface)
        super().on_start(worker_group, backend_config)


def _name_own_interface() -> None:
    name_interface(ray.util.get_node_ip_address())
