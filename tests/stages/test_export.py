"""Trajectories as one portable file: .venv/bin/pytest tests/stages/test_export.py"""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from s2l_ray.errors import InputError
from s2l_ray.stages.trajectories import export_trajectories
from s2l_ray.storage.artifacts import Artifact
from s2l_ray.storage.files import Storage
from s2l_ray.tables.losses_file import read_trajectories_file
from s2l_ray.tables.schemas import losses_matrix, metadata_of, shard_name, trajectories_schema, with_metadata

POINTS = [{"step": 0, "fraction": 0.0}, {"step": 3, "fraction": 0.5}, {"step": 6, "fraction": 1.0}]
LOSSES_NC = np.random.default_rng(0).random((10, 3)).astype(np.float32)


@pytest.fixture
def finished(tmp_path):
    """A finished artifact of 10 examples in 3 shards."""
    artifact = Artifact(Storage(str(tmp_path / "out")), "trajectories", {}, {})
    for number, rows in enumerate((range(4), range(4, 8), range(8, 10))):
        losses = pa.FixedSizeListArray.from_arrays(pa.array(LOSSES_NC[rows].reshape(-1)), 3)
        columns = [pa.array([f"e{i}" for i in rows]), pa.array(["s"] * len(rows)), pa.array([*rows], pa.int32()), losses]
        shard = with_metadata(pa.table(columns, schema=trajectories_schema(3)), {"points": POINTS})
        artifact.storage.write_table(artifact.file(f"shards/{shard_name(number)}"), shard)
    artifact.publish({"rows": {"examples": 10}, "points": POINTS}, 0.0)
    return artifact


def test_the_file_holds_every_row_and_the_points_and_reads_back(finished, tmp_path):
    file = tmp_path / "deep" / "losses.parquet"
    assert export_trajectories(finished, file) == {"file": str(file), "rows": 10, "points": POINTS}
    assert pq.ParquetFile(file).metadata.num_row_groups == 3, "shard by shard, never the whole table"
    table, dropped = read_trajectories_file(file)
    assert table.schema.equals(trajectories_schema(3)) and dropped.num_rows == 0
    assert metadata_of(table.schema) == {"points": POINTS}
    assert table["example_id"].to_pylist() == [f"e{i}" for i in range(10)]
    assert np.array_equal(losses_matrix(table), LOSSES_NC)


def test_a_failure_leaves_the_old_file_and_no_other(finished, tmp_path):
    folder = tmp_path / "exports"
    folder.mkdir()
    (folder / "losses.parquet").write_bytes(b"old")
    finished.storage.write_bytes(finished.file(f"shards/{shard_name(2)}"), b"torn")
    with pytest.raises(InputError, match=r"shard-.*: not a readable Parquet file"):
        export_trajectories(finished, folder / "losses.parquet")
    assert [path.name for path in folder.iterdir()] == ["losses.parquet"]
    assert (folder / "losses.parquet").read_bytes() == b"old"
