"""A Hugging Face data set as Parquet files in the run's storage, fetched once for each commit."""

import hashlib
import tempfile
from collections.abc import Collection
from pathlib import Path

from s2l_ray.errors import InputError
from s2l_ray.recipe.data import DataConfig
from s2l_ray.rows.scanning import scan_all
from s2l_ray.rows.units import FileScan
from s2l_ray.storage.files import Storage
from s2l_ray.storage.hub import commit_of

_DOWNLOADS = "downloads"


def scan_pool(storage: Storage, data: DataConfig) -> tuple[FileScan, ...]:
    """Scan the files of a pool, a data set of the hub being fetched first; InputError as `fetch_split`, `scan_all`."""
    if data.path is not None:
        return scan_all(data.path, data.split, data.more)
    assert data.hub_name is not None
    fetched = fetch_split(storage, data.hub_name, data.hub_config, data.split or "train", data.hub_revision,
                          data.hub_rows)
    return scan_all(fetched, None, data.more)


def fetch_split(
    storage: Storage, name: str, config: str | None, split: str, revision: str | None, num_rows: int | None = None
) -> str:
    """Return the file that holds the split's rows, or its first ones; fetches it if it is not there yet.

    Raises
    ------
    InputError
        The hub cannot be reached, or has no such data set, revision or split.
    """
    commit = commit_of("dataset", name, revision)
    file = _place(name, config, split, commit, num_rows)
    if not storage.exists(file):
        download_split(storage, file, name, config=config, split=split, commit=commit, num_rows=num_rows)
    return storage.uri_of(file)


def _prefix(name: str, config: str | None) -> str:
    """Return what stands before the commit in the names of a data set's folders."""
    return "".join(f"{part}-" for part in (name.replace("/", "--"), config) if part)


def _place(name: str, config: str | None, split: str, commit: str, num_rows: int | None) -> str:
    first = "" if num_rows is None else f"-first-{num_rows}"
    return f"{_DOWNLOADS}/{_prefix(name, config)}{commit}/{split}{first}.parquet"


def fetched_commit(storage: Storage, data: DataConfig, digests: Collection[str]) -> str | None:
    """Return the commit of a data set whose fetched rows have one of these SHA-256; None where none has.

    A run that names no revision takes the newest one: this says which that was.
    """
    assert data.hub_name is not None
    before = _prefix(data.hub_name, data.hub_config)
    for folder in storage.list_names(_DOWNLOADS):
        commit = folder.removeprefix(before)
        file = _place(data.hub_name, data.hub_config, data.split or "train", commit, data.hub_rows)
        if folder.startswith(before) and storage.exists(file) \
                and hashlib.sha256(storage.read_bytes(file)).hexdigest() in digests:
            return commit
    return None


def download_split(
    storage: Storage, file: str, name: str, *, config: str | None, split: str, commit: str, num_rows: int | None
) -> None:
    """Write the split's rows to a file of the storage; with a number, only its first rows are fetched, in a stream.

    Raises
    ------
    InputError
        The split cannot be loaded.
    """
    from datasets import load_dataset  # heavy, as the next
    from datasets.exceptions import DatasetNotFoundError

    with tempfile.TemporaryDirectory(prefix="s2l-hub-") as scratch:
        path = Path(scratch) / "rows.parquet"
        try:
            rows = load_dataset(name, config, split=split, revision=commit, streaming=num_rows is not None)
            first = rows if num_rows is None else rows.take(num_rows)
            first.to_parquet(str(path))
        except (DatasetNotFoundError, ValueError, OSError) as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0][:300]
            raise InputError(f"split {split!r} of data set {name!r} at {commit} cannot be loaded: {reason}") from error
        storage.upload_file(path, file)
