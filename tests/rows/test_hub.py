"""Rows of the hub as a file in the storage; here the data set is a folder: .venv/bin/pytest tests/rows/test_hub.py"""

import hashlib
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from s2l_ray.errors import InputError
from s2l_ray.recipe.data import DataConfig
from s2l_ray.rows.hub import download_split, fetched_commit, scan_pool
from s2l_ray.storage.files import Storage


@pytest.fixture
def data_set(tmp_path):
    """Return a folder that the hub's library loads as a data set of 50 rows."""
    folder = tmp_path / "set"
    folder.mkdir()
    rows = [json.dumps({"instruction": f"Double {n}.", "output": str(2 * n)}) for n in range(50)]
    (folder / "train.jsonl").write_text("\n".join(rows) + "\n")
    return str(folder)


@pytest.mark.parametrize(("asked", "given"), [(None, 50), (7, 7), (100, 50)])
def test_all_rows_are_fetched_or_the_first_ones(data_set, tmp_path, asked, given):
    storage = Storage.open(str(tmp_path / "out"))
    download_split(storage, "downloads/rows.parquet", data_set, config=None, split="train", commit="main", num_rows=asked)
    table = pq.read_table(tmp_path / "out" / "downloads" / "rows.parquet")
    assert table["output"].to_pylist() == [str(2 * n) for n in range(given)]


def test_a_split_that_is_not_there_is_refused_and_nothing_is_written(data_set, tmp_path):
    storage = Storage.open(str(tmp_path / "out"))
    for asked in (None, 5):
        with pytest.raises(InputError, match=r"split 'test' of data set .* cannot be loaded"):
            download_split(storage, "downloads/rows.parquet", data_set, config=None, split="test", commit="main",
                           num_rows=asked)
    assert not storage.exists("downloads/rows.parquet")


def test_a_hub_that_does_not_answer_is_said(tmp_path):
    with pytest.raises(InputError, match=r"'openai/gsm8k' is neither a folder here nor reachable on the hub"):
        scan_pool(Storage.open(str(tmp_path)), DataConfig(hub_name="openai/gsm8k", hub_config="main", hub_rows=10))


def test_the_commit_of_fetched_rows_is_found_by_their_bytes_and_used_without_a_network(tmp_path):
    storage, data = Storage.open(str(tmp_path)), DataConfig(hub_name="openai/gsm8k", hub_config="main")
    old, new = "a" * 40, "b" * 40
    for name, commit, text in (("openai--gsm8k-main", old, "old"), ("openai--gsm8k-main", new, "new"),
                               ("openai--gsm8k-socratic", "c" * 40, "old")):
        storage.write_bytes(f"downloads/{name}-{commit}/train.parquet", text.encode())
    digests = {text: hashlib.sha256(text.encode()).hexdigest() for text in ("old", "new", "none")}
    assert fetched_commit(storage, data, {digests["old"]}) == old
    assert fetched_commit(storage, data, {digests["new"], "another file's"}) == new
    assert fetched_commit(storage, data, {digests["none"]}) is None
    assert fetched_commit(storage, data.model_copy(update={"hub_rows": 5}), {digests["old"]}) is None, "other rows"
    pq.write_table(pa.table({"instruction": ["a"], "output": ["b"]}), tmp_path / f"downloads/openai--gsm8k-main-{old}/train.parquet")
    assert [scan.num_rows for scan in scan_pool(storage, data.model_copy(update={"hub_revision": old}))] == [1]
