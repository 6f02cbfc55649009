"""How this process takes memory and cores from the system."""

import ctypes
import platform

import torch

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
_KEEP_BYTES = 2**31 - 1


def keep_freed_memory() -> None:
    """Let glibc keep freed memory for the next tensor instead of giving it back page by page.

    A batch's logits are hundreds of megabytes; by default each is mapped afresh and every page faults again, which
    on a CPU takes longer than the arithmetic. Elsewhere than on glibc this does nothing.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_MAX, 0)
        libc.mallopt(_M_TRIM_THRESHOLD, _KEEP_BYTES)


def has_gpu() -> bool:
    """Tell whether this machine has a GPU that torch can use."""
    return torch.cuda.is_available()


def start_scoring() -> torch.device:
    """Make this process a scoring worker and return its device.

    On CPUs it takes one thread: more workers serve as well, and one thread gives the same bytes on every machine.
    """
    keep_freed_memory()
    torch.set_num_threads(1)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
