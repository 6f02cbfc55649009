"""One thing said to people, on stderr: stdout stays free for results."""

import re

from rich.console import Console

from s2l_ray.storage.secrets import redacted

_STEERING = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
CONSOLE = Console(stderr=True, highlight=False, soft_wrap=True)


def note(text: str) -> None:
    """Say one thing, secrets of URIs starred."""
    CONSOLE.print(harmless(redacted(text)), markup=False)


def harmless(text: str) -> str:
    """Return a text with what would steer a terminal shown instead: names and values may come from anybody's file."""
    return _STEERING.sub(lambda found: f"\\x{ord(found[0]):02x}", text)
