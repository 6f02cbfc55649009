"""Parquet columns of objects that Ray would unpickle: .venv/bin/pytest tests/hostile/test_pickled_objects.py"""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray.data  # as in every worker: it registers the type  # noqa: F401
from ray.data._internal.object_extensions.arrow import ArrowPythonObjectArray

from s2l_ray.comparison.comparison import compare_selections
from s2l_ray.errors import InputError
from s2l_ray.tables.chunked_table import chunked_from_parquet
from s2l_ray.tables.losses_file import read_parquet
from s2l_ray.tables.schemas import refuse_code


@pytest.fixture(params=["plain", "in a list", "in a struct"])
def trapped(request, tmp_path, trap):
    """A Parquet file with a trap in a column."""
    objects = ArrowPythonObjectArray.from_objects([trap(tmp_path / "sprung")])
    column = {"plain": objects, "in a list": pa.ListArray.from_arrays([0, 1], objects),
              "in a struct": pa.StructArray.from_arrays([objects], ["inner"])}[request.param]
    (tmp_path / "data").mkdir()
    pq.write_table(pa.table({"prompt": ["a"], "completion": ["b"], "example_id": ["1"], "x": column}),
                   tmp_path / "data" / "x.parquet")
    return tmp_path / "data" / "x.parquet"


def test_the_trap_is_one(trapped, tmp_path):
    pq.read_table(trapped).to_pylist()
    assert (tmp_path / "sprung").exists()


@pytest.mark.parametrize("read", [
    lambda file, accounts_of: accounts_of({"x.parquet": file.read_bytes()}),
    lambda file, accounts_of: chunked_from_parquet(file, "--trajectories"),
    lambda file, accounts_of: read_parquet(file, "--embeddings"),
    lambda file, accounts_of: compare_selections([str(file), str(file)]),
], ids=["data", "trajectories", "embeddings", "compare"])
def test_it_is_refused_unopened_wherever_a_table_comes_in(read, trapped, accounts_of, tmp_path):
    with pytest.raises(InputError, match=r"'x' has values of the extension type 'ray\.data\.arrow_pickled_object'"):
        read(trapped, accounts_of)
    assert not (tmp_path / "sprung").exists()


def test_arrows_own_extension_types_are_plain_data():
    refuse_code(pa.schema([("a", pa.uuid()), ("b", pa.list_(pa.json_())), ("c", pa.dictionary(pa.int8(), pa.string()))]), "x")
