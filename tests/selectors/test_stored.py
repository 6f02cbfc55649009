"""The pool's order, and columns read when they are asked for: .venv/bin/pytest tests/selectors/test_stored.py"""

import itertools
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s2l_ray.errors import InputError
from s2l_ray.numerics.hashing import hash_strings
from s2l_ray.recipe.selection import SelectionConfig
from s2l_ray.selectors import stored
from s2l_ray.selectors.stored import StoredIds, StoredLosses, StoredTable
from s2l_ray.stages.select import select_from_file
from s2l_ray.storage.files import Storage
from s2l_ray.tables import chunked_table
from s2l_ray.tables.chunked_table import ChunkedTable, chunked_from_table

IDS = st.lists(st.text(max_size=12), min_size=1, max_size=40, unique=True)


def table(ids, kind=None):
    losses = [[float(len(text or "")), float(place)] for place, text in enumerate(ids)]
    return pa.table({"example_id": pa.array(ids, kind or pa.string()), "losses": pa.array(losses, pa.list_(pa.float32(), 2))})


def ordered(given):
    pool = StoredTable(given if isinstance(given, ChunkedTable) else chunked_from_table(given))
    return StoredIds(pool).take(pa.array(np.arange(len(pool)))).to_pylist()


def pieces(whole, sizes):
    """The table cut into parts of these sizes (the last takes the rest)."""
    ends = [0, *np.minimum(np.cumsum(sizes), whole.num_rows).tolist(), whole.num_rows]
    cut = [whole.slice(start, end - start) for start, end in itertools.pairwise(ends) if end > start]
    return ChunkedTable(whole.schema, tuple(part.num_rows for part in cut),
                 tuple(lambda columns, part=part: part.select(list(columns)) for part in cut))


@settings(deadline=None)
@given(IDS, st.randoms(), st.lists(st.integers(0, 9), max_size=6), st.booleans())
def test_the_order_is_the_hashes_whatever_the_order_the_parts_and_the_type(ids, random, sizes, large):
    # 40 rows take 6 bits, so 58 bits of the hash are left: enough that none agree here.
    expected = [ids[i] for i in np.argsort(hash_strings(pa.array(ids)))]
    mixed = random.sample(ids, len(ids))
    assert ordered(pieces(table(mixed, pa.large_string() if large else pa.string()), sizes)) == expected
    assert ordered(table(["left out", *mixed, "left out"]).slice(1, len(ids))) == expected


@settings(deadline=None)
@given(IDS, st.randoms(), st.integers(1, 3))
def test_equal_hashes_are_told_apart_by_the_ids(ids, random, distinct):
    def poor(strings):
        return np.array([len(text) % distinct for text in strings.to_pylist()], dtype=np.uint64) << np.uint64(60)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stored, "hash_strings", poor)
        patch.setattr(stored, "_CHUNK", 3)
        expected = sorted(ids, key=lambda text: (len(text) % distinct, text.encode()))
        assert ordered(pieces(table(random.sample(ids, len(ids))), [5, 5])) == expected
        with pytest.raises(InputError, match="example_id repeats"):
            ordered(table([*ids, random.choice(ids)]))


def test_repeated_and_missing_ids_are_refused_wherever_they_stand():
    with pytest.raises(InputError, match=r"example_id repeats, for example \['e7'\]; ids must be unique"):
        ordered(pieces(table([*(f"e{i}" for i in range(20)), "e7", "e7"]), [8, 8]))
    with pytest.raises(InputError, match="2 rows have no example_id"):
        ordered(table(["a", None, None]))


@settings(deadline=None)
@given(IDS, st.lists(st.integers(0, 9), max_size=6), st.data())
def test_columns_follow_the_ids(ids, sizes, data):
    whole = table(ids)
    pool = StoredTable(pieces(whole, sizes))
    rows = [ids.index(text) for text in ordered(pieces(whole, sizes))]
    losses, expected = StoredLosses(pool), np.array(whole["losses"].to_pylist(), dtype=np.float32)[rows]
    some = np.array(data.draw(st.lists(st.integers(0, len(ids) - 1), unique=True)), dtype=np.int64)
    assert np.array_equal(losses[some], expected[some].reshape(len(some), 2)) if len(some) else True
    assert np.array_equal(losses[:, -1], expected[:, -1]) and np.array_equal(losses[:, [1, 0]], expected[:, [1, 0]])
    assert losses.shape == (len(ids), 2) == (len(losses), 2)
    assert pool.column("losses").to_pylist() == expected.tolist()
    seen = np.concatenate([positions for positions, _ in losses.each(lambda positions, rows: (positions, rows))])
    assert sorted(seen.tolist()) == list(range(len(ids)))


def write(file, count, order, **options):
    random = np.random.default_rng(0)
    losses = (random.random((count, 4)) + random.integers(0, 5, (count, 1)) * 3).astype(np.float32)[order]
    ids = np.array([f"row-{i:06d}" for i in range(count)])[order]
    column = pa.FixedSizeListArray.from_arrays(pa.array(losses.reshape(-1)), 4)
    pq.write_table(pa.table({"example_id": ids, "losses": column}), file, **options)
    return file


@pytest.mark.parametrize("name", ["s2l", "high_loss", "middle_perplexity", "confidence_curriculum", "random"])
def test_a_file_larger_than_the_room_gives_the_same_selection(name, tmp_path, monkeypatch):
    config = SelectionConfig(selector=name, budget=0.05, num_clusters=20, kmeans_fit_rows=1000)
    count, chosen = 6000, []
    for turn, (order, held) in enumerate([(np.arange(count), 2**30), (np.random.default_rng(1).permutation(count), 0)]):
        monkeypatch.setattr(chunked_table, "_HELD_BYTES", held)
        monkeypatch.setattr(chunked_table, "_PART_ROWS", 700)
        file = write(tmp_path / f"{turn}.parquet", count, order, row_group_size=6000 if turn == 0 else 350)
        select_from_file(Path(file), config, 3, tmp_path / str(turn))
        chosen.append(Storage(str(tmp_path)).read_table(f"{turn}/selection.parquet"))
    assert chosen[0].equals(chosen[1]) and chosen[0].num_rows == 300
