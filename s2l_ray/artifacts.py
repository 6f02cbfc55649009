"""Artifacts: what a stage made, kept under a fingerprint of everything that decides its content.

A stage's output lies in `<storage>/<stage>/<fingerprint>/`: data files first, `manifest.json` last and atomically.
A manifest means finished: reuse it. A folder without one is unfinished work: resume it.
"""

import hashlib
import importlib.metadata
import json
import re
import shutil
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from s2l_ray.errors import InputError
from s2l_ray.storage import Storage
from s2l_ray.tables import SCHEMA_VERSION

MANIFEST = "manifest.json"
_PACKAGES = ("s2l-ray", "ray", "torch", "transformers", "accelerate", "deepspeed", "pyarrow", "scikit-learn", "numpy")


def fingerprint(stage: str, identity: Mapping[str, Any], parents: Mapping[str, str]) -> str:
    """Return 16 hex digits that stand for everything that decides a stage's content.

    Parameters
    ----------
    identity
        JSON-able values that decide the content: the stage's config without paths, workers and resources.
    parents
        Role -> fingerprint of each input.
    """
    content = {"schema": SCHEMA_VERSION, "stage": stage, "identity": identity, "parents": parents}
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Artifact:
    """One stage's output in a storage, finished or not yet."""

    storage: Storage
    stage: str
    """Stage name, the folder below the storage."""
    identity: Mapping[str, Any] = field(repr=False)
    """What decides the content, beside the parents."""
    parents: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Role -> fingerprint of each input."""

    @property
    def fingerprint(self) -> str:
        """Return the content's name."""
        return fingerprint(self.stage, self.identity, self.parents)

    @property
    def folder(self) -> str:
        """Return the folder, relative to the storage."""
        return f"{self.stage}/{self.fingerprint}"

    def file(self, name: str) -> str:
        """Return a file's path, relative to the storage."""
        return f"{self.folder}/{name}"

    @property
    def is_finished(self) -> bool:
        """Tell whether the manifest is there."""
        return self.storage.exists(self.file(MANIFEST))

    def manifest(self) -> dict[str, Any]:
        """Return the manifest of a finished artifact.

        Raises
        ------
        InputError
            It is damaged, or another artifact's.
        """
        return read_manifest(self.storage, self.stage, self.fingerprint)

    def publish(self, facts: Mapping[str, Any], started: float) -> dict[str, Any]:
        """Write the manifest, which makes the artifact finished, and return it.

        Parameters
        ----------
        facts
            Row counts, resources used and whatever else a reader wants to know.
        started
            `time.time()` when the stage began; the wall time is counted from it.
        """
        manifest = {
            "schema_version": SCHEMA_VERSION,
            "stage": self.stage,
            "fingerprint": self.fingerprint,
            "identity": dict(self.identity),
            "parents": dict(self.parents),
            "packages": package_versions(),
            "git_commit": git_commit(),
            "started": started,
            "wall_s": round(time.time() - started, 3),
            **facts,
        }
        self.storage.write_json(self.file(MANIFEST), manifest)
        return manifest


def check_name(stage: str, name: str) -> None:
    """Raise InputError for a stage or fingerprint from somebody's record that is a path and would lead elsewhere."""
    if not re.fullmatch(r"\w[\w.-]*", stage) or not re.fullmatch(r"\w[\w.-]*", name):
        raise InputError(f"{stage}/{name} is no artifact's name: the record that names it is damaged")


def read_manifest(storage: Storage, stage: str, name: str) -> dict[str, Any]:
    """Return the manifest of the artifact `<stage>/<name>` after proving that it is that artifact's own.

    Raises
    ------
    InputError
        It is no JSON object, lacks what every manifest has, states another fingerprint, or counts that do not add up;
        or the name, which may come from anybody's record, leads elsewhere.
    """
    check_name(stage, name)
    folder = f"{stage}/{name}"
    manifest = storage.read_json(f"{folder}/{MANIFEST}")
    problem = _problem(manifest, stage, name)
    if problem:
        place = storage.uri_of(folder)
        raise InputError(f"{place}/{MANIFEST}: {problem}; delete {place} and run again")
    return manifest


def _problem(manifest: Any, stage: str, name: str) -> str | None:
    """Return what is wrong with a manifest."""
    if not isinstance(manifest, dict):
        return f"a manifest is a JSON object, this is of type {type(manifest).__name__}"
    for key, said in (("stage", stage), ("fingerprint", name)):
        if manifest.get(key) != said:
            return f"it states {key} {manifest.get(key)!r}, its folder says {said!r}"
    rows, wall_s = manifest.get("rows"), manifest.get("wall_s")
    if not isinstance(wall_s, (int, float)):
        return f"wall_s={wall_s!r} is no number"
    if not isinstance(rows, dict) or any(type(n) is not int or n < 0 for n in rows.values()):
        return f"rows={rows!r} must be counts"
    parts = ("examples", "duplicates", "quarantined")
    if "read" in rows and rows["read"] != sum(rows.get(part, 0) for part in parts):
        return f"rows={rows} do not add up: read = {' + '.join(parts)}"
    return None


def package_versions() -> dict[str, str]:
    """Return the installed versions of the packages that results can depend on."""
    versions = {}
    for name in _PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # run from a bare checkout, or without an optional part: there is no version to record
    return versions


def git_commit() -> str | None:
    """Return the commit this program runs from, with `+` for uncommitted changes.

    None outside a checkout, before its first commit, and without git.
    """
    root = Path(__file__).resolve().parent.parent
    if not (root / ".git").exists() or shutil.which("git") is None:
        return None
    ask = ["git", "-C", str(root)]
    head = subprocess.run([*ask, "rev-parse", "--verify", "HEAD"], capture_output=True, text=True, check=False)
    if head.returncode:
        return None
    dirty = subprocess.run([*ask, "status", "--porcelain"], capture_output=True, text=True, check=False)
    return head.stdout.strip() + ("+" if dirty.stdout.strip() else "")


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a local file's bytes, in hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def folder_digest(folder: Path, suffixes: tuple[str, ...], also: str | None = None) -> str:
    """Return one SHA-256 over the names and bytes of the files with these endings directly in a folder.

    `also` is a pattern of further files below it.
    """
    files = {path for path in folder.iterdir() if path.name.endswith(suffixes)} | set(folder.glob(also) if also else ())
    lines = "".join(f"{path.relative_to(folder)} {file_digest(path)}\n" for path in sorted(files) if path.is_file())
    return hashlib.sha256(lines.encode()).hexdigest()
