"""Artifacts: what a stage made, kept under a fingerprint of everything that decides its content.

A stage's output lies in `<storage>/<stage>/<fingerprint>/`: data files first, `manifest.json` last and atomically.
A manifest means finished: reuse it. A folder without one is unfinished work: resume it.
"""

import contextlib
import hashlib
import importlib.metadata
import json
import re
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa

from s2l_ray.errors import InputError
from s2l_ray.storage.files import SCHEMA_VERSION, Storage
from s2l_ray.storage.packages import offering_packages

MANIFEST = "manifest.json"
SEAL = "hash"
"""Key of the hash of all that a manifest says, the time among it: no two artifacts share one."""
_FATES = ("examples", "duplicates", "leaks", "near_duplicates", "quarantined")
"""What becomes of rows that were read."""
_PACKAGES = ("s2l-ray", "ray", "torch", "transformers", "accelerate", "deepspeed", "pyarrow", "scikit-learn", "numpy",
             "rensa")


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
    return _hash(content, allow_nan=False)


def _hash(content: Mapping[str, Any], *, allow_nan: bool = True) -> str:
    """Return 16 hex digits of JSON-able content, whatever the order of its keys."""
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=allow_nan)
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

    @cached_property
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
    def uri(self) -> str:
        """Return the folder as people and other programs name it."""
        return self.storage.uri_of(self.folder)

    @property
    def is_finished(self) -> bool:
        """Tell whether the manifest is there."""
        return self.exists(MANIFEST)

    def exists(self, name: str) -> bool:
        """Tell whether a file or folder of it is there."""
        return self.storage.exists(self.file(name))

    def list_names(self, folder: str) -> list[str]:
        """Return the sorted names of the complete files in one of its folders."""
        return self.storage.list_names(self.file(folder))

    def read_table(self, name: str, columns: list[str] | None = None) -> pa.Table:
        """Read one of its Parquet files."""
        return self.storage.read_table(self.file(name), columns)

    def write_table(self, name: str, table: pa.Table) -> None:
        """Write one of its Parquet files, atomically."""
        self.storage.write_table(self.file(name), table)

    def write_json(self, name: str, content: Any) -> None:
        """Write one of its JSON files, atomically."""
        self.storage.write_json(self.file(name), content)

    def read_json(self, name: str) -> Any:
        """Read one of its JSON files."""
        return self.storage.read_json(self.file(name))

    @contextlib.contextmanager
    def local_folder(self, name: str) -> Iterator[Path]:
        """Yield a local path with the files of one of its folders, such as a model's."""
        with self.storage.local_folder(self.file(name)) as folder:
            yield folder

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
        manifest = sealed({
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
        })
        self.write_json(MANIFEST, manifest)
        return manifest


def sealed(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return a manifest as it is kept: with a hash of all that it says, by which damage is found."""
    return {**manifest, SEAL: _hash(manifest)}


def is_name(text: str) -> bool:
    """Tell whether a text can be a stage or a fingerprint; a path from somebody's record would lead elsewhere."""
    return re.fullmatch(r"\w[\w.-]*", text) is not None


def is_finished(storage: Storage, stage: str, name: str) -> bool:
    """Tell whether the manifest of the artifact `<stage>/<name>` is there; of what is no name of one it is not."""
    return is_name(stage) and is_name(name) and storage.exists(f"{stage}/{name}/{MANIFEST}")


def read_manifest(storage: Storage, stage: str, name: str) -> dict[str, Any]:
    """Return the manifest of the artifact `<stage>/<name>` after proving that it is that artifact's own.

    Raises
    ------
    InputError
        It is not a JSON object, states another fingerprint or counts that do not add up, or was changed since; or the
        name, which may come from anybody's record, leads elsewhere.
    """
    if not is_name(stage) or not is_name(name):
        raise InputError(f"{stage}/{name} is not the name of an artifact: the record that names it is damaged")
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
    wrong = [(key, wanted) for key, wanted in (("stage", stage), ("fingerprint", name)) if manifest.get(key) != wanted]
    if wrong:
        return f"it states {wrong[0][0]} {manifest.get(wrong[0][0])!r}, its folder says {wrong[0][1]!r}"
    rows, wall_s = manifest.get("rows"), manifest.get("wall_s")
    if not isinstance(wall_s, (int, float)):
        return f"wall_s={wall_s!r} is not a number"
    if not isinstance(rows, dict) or any(type(n) is not int or n < 0 for n in rows.values()):
        return f"rows={rows!r} must be counts"
    parts = [part for part in _FATES if part in rows]
    if "read" in rows and rows["read"] != sum(rows[part] for part in parts):
        return f"rows={rows} do not add up: read = {' + '.join(parts)}"
    is_whole = manifest.get(SEAL) == _hash({key: value for key, value in manifest.items() if key != SEAL})
    return None if is_whole else "it was changed after it was written"


def package_versions() -> dict[str, str]:
    """Return the installed versions of the packages that results can depend on, plug-ins of ours among them."""
    versions = {}
    for name in _PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # run from a bare checkout, or without an optional part: there is no version to record
    return versions | offering_packages()


@cache
def git_commit() -> str | None:
    """Return the commit this program runs from, with `+` for uncommitted changes, as it was when first asked.

    None outside a checkout, before its first commit, and without git.
    """
    root = Path(__file__).resolve().parents[2]
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
