"""Which network interface gloo uses."""

import os

import psutil

_INTERFACE = "GLOO_SOCKET_IFNAME"


def name_interface(own: str) -> None:
    """Name to gloo, in this process, the interface that has an address of this node's, unless one is set."""
    for name, addresses in psutil.net_if_addrs().items():
        if any(address.address == own for address in addresses):
            os.environ.setdefault(_INTERFACE, name)
