"""Tables that are handed over in Python: .venv/bin/pytest tests/tables/test_given.py

What each library's table becomes is in tests/selectors/test_api.py.
"""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from s2l_ray.errors import InputError
from s2l_ray.tables.given import given_column, given_rows, given_table


def test_a_data_frame_keeps_its_columns_and_not_its_index():
    frame = pd.DataFrame({"a": [1, 2], "b": ["x", "y"]}, index=["p", "q"])
    assert given_table(frame, "it").read().to_pydict() == {"a": [1, 2], "b": ["x", "y"]}


@pytest.mark.parametrize("given", [np.ones((2, 2)), [[1, 2]], pd.Series([1, 2]), pa.array([1, 2]), pa.chunked_array([[1]]),
                                   3], ids=lambda given: type(given).__name__)
def test_what_is_no_table_is_none(given):
    assert given_table(given, "it") is None


@pytest.mark.parametrize(("given", "message"), [
    (pa.Table.from_arrays([pa.array([1]), pa.array([2])], ["a", "a"]), "it: columns appear twice: a"),
    (pd.DataFrame({"a": [1, "x"]}), "this DataFrame is not readable as an Arrow table"),
    ("/nowhere.parquet", "it /nowhere.parquet: no such file"),
])
def test_a_table_that_cannot_be_read_is_refused(given, message):
    with pytest.raises(InputError, match=message):
        given_table(given, "it")


def test_rows_and_columns_keep_their_numbers():
    values = np.arange(6, dtype=np.int16).reshape(2, 3)
    assert given_rows(values, "it").to_pylist() == values.tolist()
    masked = given_rows(np.ma.array(values, mask=values == 4), "it").to_pylist()
    assert masked[0] == [0, 1, 2] and np.isnan(masked[1][1])
    for column in (["a", None], pd.Series(["a", None]), pa.array(["a", None]), np.array(["a", None], dtype=object)):
        assert given_column(column, "it").to_pylist() == ["a", None]


@pytest.mark.parametrize("given", [np.ones((2, 2)), "ab", 5, iter([1])], ids=lambda given: type(given).__name__)
def test_a_column_is_one_value_a_row(given):
    with pytest.raises(InputError, match="one value for each row"):
        given_column(given, "it")
