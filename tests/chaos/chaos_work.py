"""Which work is finished in a storage, and whether any of it was lost or done again later."""

import json
import re
from pathlib import PurePosixPath

from chaos_places import Place

Marks = dict[str, tuple[int, int]]
"""File -> time of writing and size."""

_UNIT = re.compile(r"^(trajectories|embed|probe)/\w+/shards/|^(prepare|evaluate)/\w+/parts/")
_SNAPSHOT = "checkpoint_manager_snapshot.json"  # where Ray Train keeps which checkpoints are whole
_POINT = re.compile(r"^(proxy/\w+)/point-(\d+)/")


def finished_work(place: Place) -> Marks:
    """Return the files that no rerun may write again.

    All files of artifacts with a manifest; of the others the units that finished (scored shards, tokenised parts,
    evaluated parts), and the proxy's points up to its newest checkpoint. Not counted are the shards of examples that
    an unfinished prepare gathered from its parts: copying rows is not worth a check of what is there.
    """
    files = place.files()
    finished = {path.rpartition("/")[0] for path in files if path.endswith("/manifest.json")}
    reached = {folder: _newest_step(place, files, folder) for folder in _unfinished_proxies(files, finished)}

    def counts(path: str) -> bool:
        if "/".join(PurePosixPath(path).parts[:2]) in finished or _UNIT.match(path):
            return True
        point = _POINT.match(path)
        return point is not None and int(point[2]) <= reached.get(point[1], -1)

    return {path: mark for path, mark in files.items() if counts(path)}


def _unfinished_proxies(files: Marks, finished: set[str]) -> set[str]:
    folders = {"/".join(PurePosixPath(path).parts[:2]) for path in files if path.startswith("proxy/")}
    return folders - finished


def _newest_step(place: Place, files: Marks, folder: str) -> int:
    """Return the step of the newest checkpoint that a training can resume from, -1 without any."""
    snapshots = [path for path in files if path.startswith(folder) and path.endswith(_SNAPSHOT)]
    steps = [-1]
    for path in snapshots:
        base = path.rpartition("/")[0]
        known = json.dumps(place.storage.read_json(path))
        states = [p for p in files if p.startswith(base) and p.endswith("/trainer_state.json")]
        steps += [place.storage.read_json(p)["global_step"] for p in states
                  if PurePosixPath(p).parts[-2] in known or PurePosixPath(p).parts[-3] in known]
    return max(steps)


class Watch:
    """Notices what happens to finished work while a rerun goes on; some of it is cleared away when its stage ends."""

    def __init__(self, place: Place) -> None:
        self._place, self.kept = place, finished_work(place)
        self._redone: set[str] = set()

    def look(self) -> None:
        """Look now."""
        files = self._place.files()
        self._redone |= {path for path, mark in self.kept.items() if files.get(path, mark) != mark}

    def problem(self) -> str | None:
        """Return what was lost or done again, at the end."""
        self.look()
        files = self._place.files()
        lost = [path for path in self.kept if path not in files and "/parts/" not in path]
        if lost:
            return f"{len(lost)} finished files are lost, such as {lost[0]}"
        if self._redone:
            return f"{len(self._redone)} finished files were made again, such as {min(self._redone)}"
        return None
