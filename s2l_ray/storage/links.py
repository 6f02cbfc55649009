"""Links that lead out of the folder they lie in: what a folder holds must not be somebody's other files."""

import os
from pathlib import Path


def link_out(folder: Path, file: Path) -> Path | None:
    """Return where a file below a folder really lies if that is elsewhere, else None.

    In the hub client's cache, `snapshots/<commit>` holds links to `blobs` two levels up: these are of the folder too.
    """
    home, real = Path(os.path.realpath(folder)), Path(os.path.realpath(file))
    if real.is_relative_to(home):
        return None
    of_cache = home.parent.name == "snapshots" and real.parent == home.parent.parent / "blobs"
    return None if of_cache else real
