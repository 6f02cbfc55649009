"""A Hugging Face data set as Parquet files in the run's storage, fetched once for each commit."""

import tempfile
from pathlib import Path

from s2l_ray.errors import InputError
from s2l_ray.recipe.data import DataConfig
from s2l_ray.rows.scanning import scan_all
from s2l_ray.rows.units import FileScan
from s2l_ray.storage.files import Storage
from s2l_ray.storage.hub import commit_of


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
    folder = "-".join(filter(None, (name.replace("/", "--"), config, commit)))
    file = f"downloads/{folder}/{split}{'' if num_rows is None else f'-first-{num_rows}'}.parquet"
    if not storage.exists(file):
        download_split(storage, file, name, config=config, split=split, commit=commit, num_rows=num_rows)
    return storage.uri_of(file)


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
