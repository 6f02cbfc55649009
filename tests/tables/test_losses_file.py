"""Somebody else's losses, in their columns: .venv/bin/pytest tests/tables/test_losses_file.py"""

import math

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from s2l_ray.errors import InputError
from s2l_ray.tables.losses_file import read_trajectories_file
from s2l_ray.tables.schemas import losses_matrix, metadata_of, with_metadata

IDS = ["a", "b", "c"]


@pytest.fixture
def write(tmp_path):
    """Write columns (or a table) as a Parquet file; returns its path."""

    def to_file(content):
        file = tmp_path / "theirs.parquet"
        pq.write_table(content if isinstance(content, pa.Table) else pa.table(content), file)
        return file

    return to_file


@pytest.mark.parametrize("kind", [pa.list_(pa.float32()), pa.list_(pa.float64(), 2), pa.large_list(pa.float32()),
                                  pa.list_(pa.int64())], ids=str)
def test_lists_of_any_kind_are_read(write, kind):
    file = write({"example_id": IDS, "losses": pa.array([[3, 2], [2, 1], [4, 4]], kind)})
    table, dropped = read_trajectories_file(file)
    assert table.schema.field("losses").type == pa.list_(pa.float32(), 2)
    assert losses_matrix(table).tolist() == [[3, 2], [2, 1], [4, 4]]
    assert dropped.num_rows == 0 and dropped.column_names == ["example_id", "reason"]


@pytest.mark.parametrize("names", [["loss_0", "loss_1", "loss_10"], ["loss_step_50", "loss_step_100", "loss_step_1000"],
                                   ["step_2", "step_3", "step_11"], ["0", "1", "10"], ["l01", "l2", "l3"]], ids=str)
def test_wide_columns_are_ordered_by_their_number_and_not_by_name_or_place(write, names):
    points = dict(zip(names, ([9.0, 8], [5, 4], [1, 0]), strict=True))
    table, _ = read_trajectories_file(write({"example_id": IDS[:2], **{n: points[n] for n in sorted(names)[::-1]}}))
    assert losses_matrix(table).tolist() == [[9, 5, 1], [8, 4, 0]]
    assert metadata_of(table.schema) == {"columns": names}


def test_other_columns_come_along_in_our_types_or_stay_behind(write):
    table, _ = read_trajectories_file(write({
        "example_id": [1, 2], "loss_0": [1.0, 2.0], "loss_1": [1, 2], "note_1": ["x", "y"], "note_2": ["x", "y"],
        "source": pa.array(["s", "t"]).dictionary_encode(), "num_supervised_tokens": [10.0, 20.0],
    }))
    assert table.column_names == ["example_id", "source", "num_supervised_tokens", "losses"]
    assert table["example_id"].to_pylist() == ["1", "2"] and table["source"].to_pylist() == ["s", "t"]
    assert table.schema.field("num_supervised_tokens").type == pa.int32()


def test_our_own_points_stay_in_the_metadata(write):
    points = [{"step": 0, "fraction": 0.0}, {"step": 5, "fraction": 1.0}]
    own = with_metadata(pa.table({"example_id": IDS, "losses": [[2.0, 1.0]] * 3}), {"points": points})
    assert metadata_of(read_trajectories_file(write(own))[0].schema) == {"points": points}
    wrong = with_metadata(own, {"points": points[:1]})
    with pytest.raises(InputError, match="names 1 points, each row has 2 losses"):
        read_trajectories_file(write(wrong))


def test_perplexities_become_nats(write):
    file = write({"example_id": IDS[:2], "ppl_1": [math.e, 1.0], "ppl_2": [math.e**2, 1e300]})
    table, _ = read_trajectories_file(file, kind="perplexity")
    # ln e = 1, ln e^2 = 2, ln 1 = 0, ln 1e300 = 300 ln 10 = 690.78: beyond float32 as a perplexity, not in nats
    assert losses_matrix(table) == pytest.approx(np.array([[1, 2], [0, 690.7755]]), rel=1e-6)
    with pytest.raises(InputError, match="look like perplexities"):
        read_trajectories_file(file)


BROKEN = {"example_id": ["fine", "nan", "inf", "none", "no_value"],
          "losses": pa.array([[1.0, 2.0], [math.nan, 1], [1, math.inf], None, [1, None]], pa.list_(pa.float64()))}


def test_rows_that_are_not_finite_are_refused_with_their_ids(write):
    with pytest.raises(InputError, match=r"4 of 5 rows .*2 with a missing value, 2 with a NaN or infinite value"
                                         r".*'nan', 'inf', 'none', 'no_value': fix them, or --drop-non-finite"):
        read_trajectories_file(write(BROKEN))


def test_the_message_names_five_ids_and_counts_all(write):
    file = write({"example_id": [f"e{i}" for i in range(9)], "loss_0": [math.nan] * 9, "loss_1": [1.0] * 9})
    with pytest.raises(InputError, match="9 of 9") as refused:
        read_trajectories_file(file)
    assert "'e4'" in str(refused.value) and "'e5'" not in str(refused.value)


def test_or_they_are_left_out_and_listed(write):
    table, dropped = read_trajectories_file(write(BROKEN), drop_non_finite=True)
    assert table["example_id"].to_pylist() == ["fine"] and losses_matrix(table).tolist() == [[1, 2]]
    assert dropped.to_pylist() == [
        {"example_id": "nan", "reason": "NaN or infinite value"}, {"example_id": "inf", "reason": "NaN or infinite value"},
        {"example_id": "none", "reason": "missing value"}, {"example_id": "no_value", "reason": "missing value"}]


def test_perplexities_of_0_or_less_and_losses_beyond_float32_are_not_finite(write):
    file = write({"example_id": IDS, "step_1": [0.0, -1.0, 5.0], "step_2": [1.0, 1.0, 1.0]})
    assert read_trajectories_file(file, kind="perplexity", drop_non_finite=True)[1]["reason"].to_pylist() == [
        "perplexity of 0 or less"] * 2
    huge = write({"example_id": IDS[:2], "step_1": [1e39, 1.0], "step_2": [1.0, 1.0]})
    assert read_trajectories_file(huge, drop_non_finite=True)[1]["example_id"].to_pylist() == ["a"]


def test_missing_numbers_in_wide_integer_columns_are_seen(write):
    file = write({"example_id": IDS, "loss_0": pa.array([1, None, 3]), "loss_1": [1, 2, 3]})
    table, dropped = read_trajectories_file(file, drop_non_finite=True)
    assert table["example_id"].to_pylist() == ["a", "c"] and dropped["reason"].to_pylist() == ["missing value"]


def test_sliced_and_chunked_tables_keep_rows_together(write):
    whole = pa.table({"example_id": [str(i) for i in range(10)],
                      "losses": pa.array([[float(i), -float(i)] for i in range(10)], pa.list_(pa.float32(), 2))})
    table, _ = read_trajectories_file(write(pa.concat_tables([whole.slice(3, 2), whole.slice(8, 2)])))
    assert losses_matrix(table)[:, 0].tolist() == [float(i) for i in table["example_id"].to_pylist()] == [3, 4, 8, 9]


TWO = [1.0, 2.0]
REFUSED = {
    "no ids": ({"losses": [TWO]}, "needs a column example_id, it has losses"),
    "null ids": ({"example_id": ["a", None], "losses": [TWO, TWO]}, "1 rows have no example_id"),
    "no losses": ({"example_id": IDS, "text": IDS}, "needs a column `losses`.*it has example_id, text"),
    "one wide column": ({"example_id": IDS, "loss_0": [1.0] * 3}, "at least 2 columns of numbers"),
    "two sets": ({"example_id": ["a"], "loss_0": [1.0], "loss_1": [1.0], "acc_0": [1.0], "acc_1": [1.0]},
                 "more than one set.*loss_0, loss_1; acc_0, acc_1"),
    "one number twice": ({"example_id": ["a"], "loss_1": [1.0], "loss_01": [1.0]}, "same point twice: loss_01 and loss_1"),
    "a text among them": ({"example_id": ["a"], "loss_1": [1.0], "loss_2": [1.0], "loss_3": ["x"]},
                          r"must all be numbers, these are not: loss_3 \(string\)"),
    "no lists": ({"example_id": ["a"], "losses": [1.0]}, "must hold lists of numbers, got double"),
    "lists of texts": ({"example_id": ["a"], "losses": [["x"]]}, "must hold lists of numbers"),
    "ragged": ({"example_id": ["a", "b"], "losses": [TWO, [1.0]]}, r"one length of at least 1, got lengths \[1, 2\]"),
    "empty lists": ({"example_id": ["a"], "losses": pa.array([[]], pa.list_(pa.float32()))}, "one length of at least 1"),
    "no rows": ({"example_id": pa.array([], pa.string()), "losses": pa.array([], pa.list_(pa.float32()))}, "is empty"),
    "fractional tokens": ({"example_id": ["a"], "losses": [TWO], "num_supervised_tokens": [1.5]},
                          "num_supervised_tokens .* does not convert to int32"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_serve_is_refused_by_name(case, write):
    columns, message = REFUSED[case]
    with pytest.raises(InputError, match=message):
        read_trajectories_file(write(columns))


def test_nothing_left_unknown_kind_and_columns_twice_are_refused(write):
    file = write({"example_id": ["a"], "losses": [[math.nan]]})
    with pytest.raises(InputError, match="none of its 1 rows has finite losses"):
        read_trajectories_file(file, drop_non_finite=True)
    with pytest.raises(InputError, match="'bits' is unknown; it is one of nats, perplexity"):
        read_trajectories_file(file, kind="bits")
    twice = pa.table([pa.array(["a"]), pa.array([1.0]), pa.array([1.0])], names=["example_id", "loss_0", "loss_0"])
    with pytest.raises(InputError, match="columns appear twice: loss_0"):
        read_trajectories_file(write(twice))
