"""Hostile tables at the command line: exit code 2, one message that says what to do, no traceback."""

import re

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

N = 20
IDS = [f"e{i}" for i in range(N)]
LOSSES = np.random.default_rng(0).random((N, 3)).astype(np.float32).tolist()
NOT_UTF8 = pa.array([bytes([255, i]) for i in range(N)], pa.binary()).view(pa.string())
STRUCTS = [{"a": i} for i in range(N)]
GOOD = pa.table({"example_id": IDS, "losses": LOSSES})


def losses(value, kind=None, row=3):
    """The good table with one row's losses replaced."""
    values = [*LOSSES[:row], value, *LOSSES[row + 1:]]
    return pa.table({"example_id": IDS, "losses": pa.array(values, kind)})


def wide(**columns):
    return pa.table({"example_id": IDS, **columns})


def tagged(metadata):
    return GOOD.replace_schema_metadata({b"s2l": metadata})


def sized(value):
    """Losses of a fixed size, one row replaced."""
    return losses(value, pa.list_(pa.float32(), 3))


# Name -> (table, further arguments, message)
BAD_TABLES = {
    "no ids": (GOOD.select(["losses"]), [], "needs a column example_id, it has losses"),
    "one column": (GOOD.select(["example_id"]), [], "needs a column `losses`"),
    "zero rows": (GOOD.slice(0, 0), [], "the table of trajectories is empty"),
    "a column twice": (pa.table([IDS, IDS, LOSSES], names=["example_id", "example_id", "losses"]), [], "appear twice: example_id"),
    "a column twice for random": (pa.table([IDS, IDS], names=["example_id"] * 2), ["--selector", "random"], "appear twice"),
    "ids null": (GOOD.set_column(0, "example_id", pa.nulls(N)), [], "20 rows have no example_id"),
    "one id null": (GOOD.set_column(0, "example_id", pa.array([None, *IDS[1:]])), [], "1 rows have no example_id"),
    "ids repeat": (GOOD.set_column(0, "example_id", pa.array(["a", "a", *IDS[2:]])), [], "example_id repeats, for example"),
    "ids structs": (GOOD.set_column(0, "example_id", pa.array(STRUCTS)), [], r"column example_id \(struct.* does not convert"),
    "ids structs for random": (pa.table({"example_id": STRUCTS}), ["--selector", "random"], r"column example_id \(struct"),
    "ids lists for random": (pa.table({"example_id": LOSSES}), ["--selector", "random"], r"column example_id \(list"),
    "ids bytes": (pa.table({"example_id": NOT_UTF8.view(pa.binary())}), ["--selector", "random"], "Invalid UTF8"),
    "ids not UTF-8": (GOOD.set_column(0, "example_id", NOT_UTF8), [], "column example_id .*UTF8"),
    "ids not UTF-8 for random": (pa.table({"example_id": NOT_UTF8}), ["--selector", "random"], "column example_id .*UTF8"),
    "sources not UTF-8": (GOOD.append_column("source", NOT_UTF8), ["selection.per=source"], "column source .*UTF8"),
    "sources structs": (pa.table({"example_id": IDS, "source": STRUCTS}), ["--selector", "stratified_random"], "column source"),
    "sources null": (pa.table({"example_id": IDS, "source": pa.nulls(N, pa.string())}), ["--selector", "stratified_random"],
                     "column source without missing values"),
    "losses null": (wide(losses=pa.nulls(N)), [], "must hold lists of numbers, got null"),
    "losses texts": (wide(losses=["1"] * N), [], "must hold lists of numbers, got string"),
    "losses lists of texts": (wide(losses=[["1", "2"]] * N), [], "must hold lists of numbers"),
    "losses lists of lists": (wide(losses=[[[1.0]]] * N), [], "must hold lists of numbers"),
    "losses decimals": (wide(losses=pa.array([[1, 2]] * N, pa.list_(pa.decimal128(9, 2)))), [], "must hold lists of numbers"),
    "losses true and false": (wide(losses=[[True, False]] * N), [], "must hold lists of numbers"),
    "losses a struct": (wide(losses=STRUCTS), [], "must hold lists of numbers"),
    "ragged": (losses([1.0]), [], r"must have one length of at least 1, got lengths \[1, 3\]"),
    "one empty list": (losses([]), [], "must have one length"),
    "all empty lists": (wide(losses=pa.array([[]] * N, pa.list_(pa.float32()))), [], "must have one length of at least 1"),
    "a NaN": (losses([1.0, float("nan"), 2.0]), [], "1 of 20 rows cannot be used .*NaN or infinite.*'e3'.*--drop-non-finite"),
    "an infinity": (losses([1.0, float("-inf"), 2.0]), [], "1 with a NaN or infinite value"),
    "beyond float32": (losses([1.0, 1e39, 2.0]), [], "1 with a NaN or infinite value"),
    "a null in a list": (losses([1.0, None, 2.0]), [], "1 with a missing value"),
    "a null list": (losses(None), [], "1 with a missing value"),
    "a null in a fixed-size list": (sized([1.0, None, 2.0]), [], "1 with a missing value"),
    "a null fixed-size list": (sized(None), [], "1 with a missing value"),
    "all NaN, dropped": (wide(losses=[[float("nan")] * 2] * N), ["--drop-non-finite"], "none of its 20 rows has finite losses"),
    "perplexity 0": (losses([0.0, 1.0, 2.0]), ["--kind", "perplexity"], "1 with a perplexity of 0 or less"),
    "wide with a text": (wide(l_0=[1.0] * N, l_1=[1.0] * N, l_2=["x"] * N), [], r"must all be numbers, these are not: l_2 \(string\)"),
    "wide with one column": (wide(l_0=[1.0] * N), [], "at least 2 columns of numbers"),
    "wide twice": (wide(a_0=[1.0] * N, a_1=[1.0] * N, b_0=[1.0] * N, b_1=[1.0] * N), [], "more than one set of columns"),
    "wide with one number twice": (wide(l_1=[1.0] * N, l_01=[1.0] * N), [], "name the same point twice: l_0?1 and l_0?1"),
    "wide with 5,000 digits": (wide(**{"l_" + "9" * 5000: [1.0] * N, "l_2": [1.0] * N}), [], "at least 2 columns of numbers"),
    "metadata no JSON": (tagged(b"{no"), [], "metadata 's2l' is not what s2l writes .*: remove that key"),
    "metadata not UTF-8": (tagged(b"\xff"), [], "metadata 's2l' is not what s2l writes"),
    "metadata a list": (tagged(b"[1]"), [], "metadata 's2l' is not what s2l writes"),
    "metadata nested": (tagged(b"[" * 100_000), [], "metadata 's2l' is not what s2l writes"),
    "points a number": (tagged(b'{"points":5}'), [], "metadata 's2l' is not what s2l writes"),
    "points without fraction": (tagged(b'{"points":[1,2,3]}'), [], "metadata 's2l' is not what s2l writes"),
    "points of another number": (tagged(b'{"points":[{"fraction":1}]}'), [], "names 1 points, each row has 3 losses"),
    "lengths texts": (pa.table({"example_id": IDS, "num_supervised_tokens": ["x"] * N}), ["--selector", "length_matched_random"],
                      "num_supervised_tokens must hold numbers, got string"),
    "lengths beyond 32 bits": (GOOD.append_column("num_supervised_tokens", pa.array([2**40] * N)), ["--kind", "nats",
                               "--drop-non-finite", "--selector", "length_matched_random"], "does not convert to int32"),
    "lengths null": (pa.table({"example_id": IDS, "num_supervised_tokens": pa.nulls(N, pa.int32())}),
                     ["--selector", "length_matched_random"], "20 missing or non-finite"),
    "seed negative": (GOOD, ["--seed", "-1"], "Invalid value for '--seed'"),
    "seed a word": (GOOD, ["--seed", "x"], "'--seed'"),
    "budget too large": (GOOD, ["--budget", "21"], "budget=21 must be between 1 and the 20"),
    "budget NaN": (GOOD, ["--budget", ".nan"], "selection.budget=nan"),
    "budget infinite": (GOOD, ["--budget", "1e400"], "selection.budget=inf"),
    "budget of 5,000 digits": (GOOD, ["--budget", "9" * 5000], "selection.budget"),
    "budget a list": (GOOD, ["--budget", "[1, 2]"], "selection.budget"),
    "clusters too many": (GOOD, ["selection.num_clusters=21"], "num_clusters=21 exceeds the 20"),
    "output is a file": (GOOD, ["--output", "/dev/null"], "--output /dev/null cannot be made"),
}


@pytest.fixture
def parquet(tmp_path):
    """Write a table; returns the file."""

    def write(table, name="theirs.parquet"):
        pq.write_table(table, tmp_path / name)
        return tmp_path / name

    return write


@pytest.fixture
def select(s2l, tmp_path):
    """Run `s2l select --trajectories FILE` with further arguments, which win."""

    def run(file, *more):
        few = [] if any(argument.startswith("selection.num_clusters") for argument in more) else ["selection.num_clusters=3"]
        return s2l("select", "--trajectories", file, "--budget", "5", "--output", tmp_path / "chosen", *more, *few)

    return run


def check_refused(found, message):
    code, out, err = found
    assert code == 2, err
    assert out == "" and "failed:" not in err
    assert re.search(message, err), err


@pytest.mark.parametrize("case", BAD_TABLES)
def test_a_bad_table_is_refused_with_one_message(case, parquet, select):
    table, more, message = BAD_TABLES[case]
    check_refused(select(parquet(table), *more), message)


BAD_EMBEDDINGS = {
    "no ids": (pa.table({"embedding": LOSSES}), "embeddings table needs a column example_id"),
    "no embedding": (pa.table({"example_id": IDS}), "needs a column `embedding`"),
    "ids null": (pa.table({"example_id": pa.nulls(N), "embedding": LOSSES}), "20 rows without an example_id"),
    "ids repeat": (pa.table({"example_id": ["a"] * N, "embedding": LOSSES}), "19 repeated ids"),
    "ids structs": (pa.table({"example_id": STRUCTS, "embedding": LOSSES}), r"column example_id \(struct"),
    "other ids": (pa.table({"example_id": [f"x{i}" for i in range(N)], "embedding": LOSSES}), "20 examples have no row"),
    "too few": (pa.table({"example_id": IDS[:5], "embedding": LOSSES[:5]}), "15 examples have no row"),
    "texts": (pa.table({"example_id": IDS, "embedding": IDS}), "must hold lists of numbers, got string"),
    "of two widths": (pa.table({"example_id": IDS, "embedding": [[1.0], *LOSSES[1:]]}), "must have one length"),
    "with a NaN": (pa.table({"example_id": IDS, "embedding": [[float("nan")] * 3, *LOSSES[1:]]}), "1 rows have a NaN"),
    "with a null": (pa.table({"example_id": IDS, "embedding": [None, *LOSSES[1:]]}), "has missing values"),
    "zero vectors": (pa.table({"example_id": IDS, "embedding": [[0.0] * 3, *LOSSES[1:]]}), "1 embeddings are all zero"),
    "longer than float32": (pa.table({"example_id": IDS, "embedding": [[3e38] * 3] * N}), "longer than float32 can hold"),
    "of width 0": (pa.table({"example_id": IDS, "embedding": pa.array([[]] * N, pa.list_(pa.float32()))}), "is empty"),
}


@pytest.mark.parametrize("case", BAD_EMBEDDINGS)
def test_bad_embeddings_are_refused(case, parquet, select):
    table, message = BAD_EMBEDDINGS[case]
    pool = parquet(pa.table({"example_id": IDS}))
    check_refused(select(pool, "--selector", "k_center", "--embeddings", str(parquet(table, "vectors.parquet"))), message)


BAD_SCORES = {
    "texts": (pa.array(IDS), "column score must hold numbers, got string"),
    "structs": (pa.array(STRUCTS), "column score must hold numbers, got struct"),
    "lists": (pa.array(LOSSES), "column score must hold numbers, got list"),
    "nulls": (pa.nulls(N, pa.float32()), "score has 20 missing or non-finite"),
    "infinities": (pa.array([float("inf")] * N), "score has 20 missing or non-finite"),
}


@pytest.mark.parametrize("case", BAD_SCORES)
def test_bad_scores_are_refused(case, parquet, select):
    column, message = BAD_SCORES[case]
    scores = parquet(pa.table({"example_id": IDS, "score": column}), "scores.parquet")
    check_refused(select(parquet(pa.table({"example_id": IDS})), "--selector", "external", f"selection.scores={scores}"), message)


def test_views_dictionaries_and_half_floats_serve(parquet, select):
    half = pa.array([np.array(row, np.float16) for row in LOSSES], pa.list_(pa.float16()))
    for ids in (pa.array(IDS, pa.string_view()), pa.array(IDS).dictionary_encode(), pa.array(IDS, pa.large_string())):
        file = parquet(pa.table({"example_id": ids, "losses": half}))
        assert select(file)[0] == select(file, "--selector", "random")[0] == 0


NO_PARQUET = {"empty": b"", "text": b"example_id,losses\n", "pickle": b"\x80\x04K\x01.", "magic only": b"PAR1PAR1",
              "corrupt footer": b"PAR1" + b"\xff" * 64 + b"\x40\0\0\0PAR1"}


@pytest.mark.parametrize("case", NO_PARQUET)
@pytest.mark.parametrize("place", ["--trajectories", "--embeddings", "compare", "--pool"])
def test_what_is_no_parquet_is_named(case, place, parquet, select, s2l, tmp_path):
    bad, good = tmp_path / "bad.parquet", parquet(GOOD)
    bad.write_bytes(NO_PARQUET[case])
    if place == "--trajectories":
        found = select(bad)
    elif place == "--embeddings":
        found = select(good, "--selector", "k_center", "--embeddings", str(bad))
    else:
        found = s2l("compare", *([bad, bad] if place == "compare" else [good, good, "--pool", bad]))
    check_refused(found, r"bad\.parquet: not a readable Parquet file")


@pytest.mark.parametrize(("table", "message"), [
    (pa.table({"a": [1]}), "needs a column example_id, it has a"),
    (pa.table({"example_id": STRUCTS}), r"example_id of .* \(struct"),
    (pa.table({"example_id": NOT_UTF8}), "UTF8"),
    (pa.table({"example_id": IDS, "score": IDS}), "column score must hold numbers, got string"),
    (tagged(b"{no"), "metadata 's2l' is not what s2l writes"),
], ids=["no ids", "structs", "not UTF-8", "scores texts", "metadata"])
def test_selections_that_are_none_are_not_compared(table, message, parquet, s2l):
    file = parquet(table)
    check_refused(s2l("compare", file, file), message)


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(115, 1)  # a page that says it has no rows
@given(st.integers(0, 10**6), st.integers(1, 255))
def test_a_flipped_byte_never_ends_in_a_crash(parquet, select, place, mask):
    file = parquet(GOOD)
    content = bytearray(file.read_bytes())
    content[place % len(content)] ^= mask
    file.write_bytes(content)
    code, _, err = select(file)
    assert code in (0, 2), err
