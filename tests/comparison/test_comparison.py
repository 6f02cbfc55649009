"""Selections side by side: .venv/bin/pytest tests/comparison/test_comparison.py"""

import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import s2l_ray
from s2l_ray.comparison.comparison import by_length, compare_selections, near_duplicate_share
from s2l_ray.comparison.tables import tables_of
from s2l_ray.errors import InputError
from s2l_ray.tables.schemas import SELECTION, with_metadata


@pytest.fixture
def select(tmp_path):
    """Write a selection of these examples (numbers) into a folder; returns the folder's path."""

    def to_folder(name, rows, scores=None, **origin):
        folder = tmp_path / name
        folder.mkdir()
        columns = [pa.array(range(len(rows)), pa.int64()), pa.array([f"e{i}" for i in rows]),
                   pa.nulls(len(rows), pa.int32()), pa.nulls(len(rows), pa.int64()), pa.nulls(len(rows), pa.float32()),
                   pa.nulls(len(rows), pa.float32()) if scores is None else pa.array(scores, pa.float32())]
        known = {"selector": "random", "seed": 0, "budget_asked": 0.1, "num_candidates": 20, "parents": {}, **origin}
        table = with_metadata(pa.table(columns, schema=SELECTION), {k: v for k, v in known.items() if v is not None})
        pq.write_table(table, folder / "selection.parquet")
        return str(folder)

    return to_folder


@pytest.fixture
def pool(tmp_path):
    """Write a pool of 20 examples (or other columns); returns the file."""

    def to_file(**columns):
        whole = {"example_id": [f"e{i}" for i in range(20)], "source": ["math"] * 15 + ["code"] * 5,
                 "num_supervised_tokens": range(1, 21), **columns}
        pq.write_table(pa.table({name: values for name, values in whole.items() if values is not None}),
                       tmp_path / "pool.parquet")
        return tmp_path / "pool.parquet"

    return to_file


def test_overlap_by_hand_and_by_chance(select):
    # A = {0..7}, B = {5..9} of N = 20: common {5, 6, 7}, union {0..9}: J = 3 / 10.
    # By chance |A||B| / N = 8 * 5 / 20 = 2 in common, J = 2 / (8 + 5 - 2) = 2 / 11. A in B: 3 / 8; B in A: 3 / 5.
    found = compare_selections([select("a", range(8)), select("b", range(5, 10)) + "/selection.parquet"])
    pair, = found["pairs"]
    assert (pair["a"], pair["b"], pair["num_common"], pair["num_common_by_chance"]) == ("A", "B", 3, 2)
    assert pair["jaccard"] == pytest.approx(0.3) and pair["jaccard_by_chance"] == pytest.approx(2 / 11)
    assert (pair["share_of_a_in_b"], pair["share_of_b_in_a"]) == (3 / 8, 3 / 5)


def test_chance_is_what_random_draws_share_on_average():
    rng = np.random.default_rng(0)
    shared = [len(np.intersect1d(rng.choice(50, 20, False), rng.choice(50, 10, False))) for _ in range(4000)]
    assert np.mean(shared) == pytest.approx(20 * 10 / 50, abs=0.1)


def drawn(tmp_path, table, name, seed, **settings):
    """A selection that the command would write."""
    found = s2l_ray.select(table, 60, selector=settings.pop("selector", "s2l"), seed=seed, num_clusters=3, settings=settings)
    found.write(tmp_path / name)
    return str(tmp_path / name)


@pytest.fixture
def grouped(tmp_path):
    """600 examples in groups of 500, 70 and 30, in two sources; returns the table and its file."""
    losses = np.repeat([[1.0, 1], [5, 5], [9, 9]], [500, 70, 30], axis=0) + np.random.default_rng(0).normal(0, 0.1, (600, 2))
    table = pa.table({"example_id": [f"e{i}" for i in range(600)], "losses": losses.tolist(),
                      "source": ["a", "b"] * 300})
    pq.write_table(table, tmp_path / "grouped.parquet")
    return table, tmp_path / "grouped.parquet"


def by_lot(pool, *paths):
    return [pair["num_common_by_lot"] for pair in compare_selections(paths, pool)["pairs"]]


def test_what_two_selections_share_by_lot_by_hand(grouped, tmp_path):
    # 20 from each group: probabilities 20/500, 20/70, 20/30. Two S2L draws share 20^2 (1/500 + 1/70 + 1/30) = 19.85,
    # S2L and a random choice of 60 (0.1 each) 6, two random ones 600 x 0.1^2 = 6.
    table, pool = grouped
    one, other = (drawn(tmp_path, table, f"s2l{seed}", seed) for seed in (1, 2))
    chance = drawn(tmp_path, table, "random", 1, selector="random")
    assert by_lot(pool, one, other, chance) == pytest.approx([400 * (1 / 500 + 1 / 70 + 1 / 30), 6, 6], rel=1e-5)


def test_what_two_selections_share_by_lot_is_what_they_share_on_average(grouped, tmp_path):
    table, pool = grouped
    for settings in ({}, {"per": "source"}, {"stratify_by": "source"}):
        first, *others = (s2l_ray.select(table, 60, seed=seed, num_clusters=3, settings=settings) for seed in range(60))
        shared = [len(set(first.ids) & set(one.ids)) for one in others]
        name = "-".join(settings) or "plain"
        expected, = by_lot(pool, *(drawn(tmp_path, table, f"{name}{seed}", seed, **settings) for seed in (0, 1)))
        assert np.mean(shared) == pytest.approx(expected, abs=4 * np.std(shared) / np.sqrt(len(shared)) + 1.5), settings


def test_selections_by_two_proxies_are_matched_to_the_losses_each_was_made_from(grouped, tmp_path):
    # The other proxy groups by halves of 300 and 150 each: 20/300, 20/150, 20/150. Of the first one's 500 rows the
    # first 300 lie in its half, 150 in its second group and 50 in the third, with the 70 and the 30.
    table, pool = grouped
    other = np.repeat([[1.0, 1], [5, 5], [9, 9]], [300, 150, 150], axis=0) + np.random.default_rng(1).normal(0, 0.1, (600, 2))
    theirs = table.set_column(1, "losses", pa.array(other.tolist()))
    pq.write_table(theirs, tmp_path / "theirs.parquet")
    one, two = drawn(tmp_path, table, "one", 1), drawn(tmp_path, theirs, "two", 1)
    assert by_lot(pool, one, two) == [None]
    pair, = compare_selections([one, two], pool, tmp_path / "theirs.parquet")["pairs"]
    p, q = np.repeat([20 / 500, 20 / 70, 20 / 30], [500, 70, 30]), np.repeat([20 / 300, 20 / 150, 20 / 150], [300, 150, 150])
    assert pair["num_common_by_lot"] == pytest.approx((p * q).sum(), rel=1e-5)


def test_a_selector_without_lots_shares_what_it_shares(grouped, tmp_path):
    # The 60 highest losses are the group of 30 whole and 30 of 70; S2L takes 20 of each: 20 + 30 x 20 / 70.
    table, pool = grouped
    one, other = drawn(tmp_path, table, "high", 0, selector="high_loss"), drawn(tmp_path, table, "s2l", 3)
    assert by_lot(pool, one, one, other)[0] == 60
    assert by_lot(pool, one, other) == pytest.approx([20 + 30 * 20 / 70], rel=1e-5)


def test_without_the_pool_it_was_chosen_from_nothing_is_said_of_lots(grouped, tmp_path):
    table, pool = grouped
    one, other = (drawn(tmp_path, table, f"s2l{seed}", seed) for seed in (1, 2))
    assert compare_selections([one, other])["pairs"][0]["num_common_by_lot"] is None
    changed = table.set_column(1, "losses", pa.array(np.random.default_rng(9).random((600, 2)).tolist()))
    pq.write_table(changed, pool)
    assert by_lot(pool, one, other) == [None]
    forbidden = drawn(tmp_path, table, "forbidden", 1, forbidden=["e3"])
    pq.write_table(table, pool)
    assert by_lot(pool, one, forbidden) == [None], "which examples were forbidden is not in the file"


def test_rank_correlation_of_the_common_scores(select):
    # Common: e2, e3, e4, e5. A's scores there 4, 3, 2, 1 (ranks 4 3 2 1), B's 40, 10, 30, 20 (ranks 4 1 3 2):
    # d = 0, 2, -1, -1, sum of squares 6; rho = 1 - 6 * 6 / (4 * (16 - 1)) = 0.4. B's order in the file is its own.
    a = select("a", [0, 1, 2, 3, 4, 5], [9, 8, 4, 3, 2, 1])
    b = select("b", [2, 4, 5, 3, 9], [40, 30, 20, 10, 5])
    pair = compare_selections([a, b])["pairs"][0]
    assert pair["spearman"] == pytest.approx(0.4) and pair["num_common_scored"] == 4 and pair["spearman_note"] is None


def test_without_scores_there_is_no_correlation_and_the_reason_is_said(select):
    a, b = select("a", range(6)), select("b", range(6), range(6))
    level, partly = select("level", range(6), [1.0] * 6), select("partly", range(6), [1, 2, None, None, float("nan"), None])
    notes = {p["a"] + p["b"]: (p["spearman"], p["spearman_note"]) for p in compare_selections([a, b, level, partly])["pairs"]}
    assert notes["AB"] == (None, "0 common examples have scores in both, 3 are needed")
    assert notes["BC"] == (None, "all scores of one selection are equal")
    assert notes["BD"] == (None, "2 common examples have scores in both, 3 are needed")
    assert len(notes) == 6


def test_selections_are_described_and_bare_ones_too(select, pool, tmp_path):
    pq.write_table(pa.table({"example_id": ["e1", "e2"]}), tmp_path / "bare.parquet")
    found = compare_selections([select("a", range(4), selector="s2l", seed=3), str(tmp_path / "bare.parquet")], pool())
    a, bare = found["selections"]
    assert (a["selector"], a["seed"], a["budget_asked"], a["budget"], a["num_candidates"]) == ("s2l", 3, 0.1, 4, 20)
    assert (bare["selector"], bare["budget"], bare["num_candidates"], bare["budget_asked"]) == (None, 2, 20, None)
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_shares_by_source_and_length_against_the_pool(select, pool):
    # Pool: 15 math, 5 code; lengths 1..20, so fifths of 4. A = {0..3, 16, 17}: 4 math, 2 code; lengths 1..4, 17, 18.
    found = compare_selections([select("a", [0, 1, 2, 3, 16, 17]), select("b", [19])], pool())["selections"]
    assert found[0]["sources"] == {"math": {"pool": 0.75, "selected": 4 / 6}, "code": {"pool": 0.25, "selected": 2 / 6}}
    assert [(f["from"], f["to"]) for f in found[0]["lengths"]] == [(1, 4), (5, 8), (9, 12), (13, 16), (17, 20)]
    assert [f["pool"] for f in found[0]["lengths"]] == [0.2] * 5
    assert [f["selected"] for f in found[0]["lengths"]] == [4 / 6, 0, 0, 0, 2 / 6]
    assert [f["selected"] for f in found[1]["lengths"]] == [0, 0, 0, 0, 1]


def test_lengths_with_ties_say_how_much_of_the_pool_each_fifth_holds():
    fifths = by_length(np.array([7.0] * 9 + [8.0]), np.array([9]))
    assert sum(f["pool"] for f in fifths) == pytest.approx(1) and sum(f["selected"] for f in fifths) == 1
    assert (fifths[0]["pool"], fifths[0]["from"], fifths[1]["from"], fifths[4]["pool"]) == (0.9, 7, None, 0.1)


def test_near_duplicates():
    far = np.array([[0, 0], [1, 0], [0, 1]], np.float32)
    assert near_duplicate_share(far) == 0 and near_duplicate_share(far[:1]) == 0
    assert near_duplicate_share(np.concatenate([far, far[:1]])) == 2 / 4, "both of an equal pair"
    assert near_duplicate_share(np.concatenate([far, far[:1] + np.float32(5e-7)])) == 2 / 4, "and of a close one"
    assert near_duplicate_share(np.concatenate([far, far[:1] + np.float32(2e-6)])) == 0
    assert near_duplicate_share(np.zeros((20_000, 3), np.float32)) == 1


def test_clusters_that_are_there_are_found_with_every_seed(select, pool):
    rng = np.random.default_rng(0)
    clear = np.repeat([[0.0, 0], [9, 9]], 10, axis=0) + rng.normal(0, 0.1, (20, 2))
    a, b = select("a", range(5), selector="s2l", num_clusters=2), select("b", range(5, 9), num_clusters=7)
    found = compare_selections([a, b], pool(losses=clear.tolist()))
    assert found["cluster_stability"] == [{"num_clusters": 2, "num_seeds": 5, "mean": 1.0, "low": 1.0, "high": 1.0}]
    assert found["selections"][0]["near_duplicate_share"] == 0
    noise = compare_selections([b, b], pool(losses=rng.random((20, 2)).tolist()))["cluster_stability"][0]
    assert noise["num_clusters"] == 3 and noise["low"] <= noise["mean"] <= noise["high"] <= 1, "auto: sqrt(20 / 2)"


def test_rows_without_finite_losses_count_for_sources_and_lengths_alone(select, pool):
    losses = [[float(i), 1.0] for i in range(20)]
    losses[0] = losses[1] = [float("nan"), 1.0]
    a, only_bad = compare_selections([select("a", range(4)), select("b", [0, 1])], pool(losses=losses))["selections"]
    assert a["near_duplicate_share"] == 0 and only_bad["near_duplicate_share"] is None
    assert only_bad["sources"]["math"]["selected"] == 1 and only_bad["lengths"][0]["selected"] == 1


def test_the_untouched_models_loss_is_not_clustered(select, pool):
    clear = np.repeat([[5.0, 0], [5, 9]], 10, axis=0)
    clear[:, 0] = np.random.default_rng(0).random(20) * 1000  # the untouched model's losses would drown the rest
    file = pool(losses=clear.tolist())
    points = [{"step": 0, "fraction": 0.0}, {"step": 5, "fraction": 1.0}]
    pq.write_table(with_metadata(pq.read_table(file), {"points": points}), file)
    paths = [select("a", range(5), selector="s2l", num_clusters=2), select("b", range(5))]
    assert compare_selections(paths, file)["cluster_stability"][0]["low"] == 1


def test_different_pools_are_refused(select, pool):
    a, b = select("a", range(4)), select("b", range(4), num_candidates=30)
    with pytest.raises(InputError, match=r"different pools \(.*a from 20, .*b from 30 candidates\).*--pool"):
        compare_selections([a, b])
    with pytest.raises(InputError, match=r"chosen from 30 candidates, the pool .* has 20"):
        compare_selections([a, b], pool())
    with pytest.raises(InputError, match=r"2 examples of .*c are not in the pool .*e20, e21: is it another pool"):
        compare_selections([a, select("c", [1, 20, 21])], pool())


def test_candidates_of_one_pool_may_differ_in_number(select, pool):
    """Embeddings or finite losses may not be there for all of it; chance is then that of the larger number."""
    same = {"parents": {"examples": "0123"}}
    a, b = select("a", range(4), **same), select("b", range(4), num_candidates=16, **same)
    assert compare_selections([a, b])["pairs"][0]["num_common_by_chance"] == 4 * 4 / 20
    assert compare_selections([select("c", range(4)), select("d", range(4), num_candidates=16)], pool())


BAD = {
    "one selection": (lambda s, t: [s("a", [1])], "give 2 to 26 selections"),
    "nothing there": (lambda s, t: [s("a", [1]), str(t / "none")], "none: no selection there"),
    "a folder without one": (lambda s, t: [s("a", [1]), str(t)], "no selection there"),
    "no Parquet": (lambda s, t: [s("a", [1]), str(t / "text.parquet")], "not a readable Parquet file"),
    "an example twice": (lambda s, t: [s("a", [1]), s("b", [1, 1])], "an example_id of its own in each"),
    "no rows": (lambda s, t: [s("a", [1]), s("b", [])], "at least one row"),
    "no ids": (lambda s, t: [s("a", [1]), str(t / "other.parquet")], "needs a column example_id, it has x"),
    "no number of candidates": (lambda s, t: [s("a", [1]), s("b", [1], num_candidates=None)], "give the pool with --pool"),
    "too few candidates": (lambda s, t: [s("a", [1, 2], num_candidates=1), s("b", [1], num_candidates=1)], "has 2 rows, but"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_selections_are_named(case, select, tmp_path):
    (tmp_path / "text.parquet").write_text("no")
    pq.write_table(pa.table({"x": [1]}), tmp_path / "other.parquet")
    make, message = BAD[case]
    with pytest.raises(InputError, match=message):
        compare_selections(make(select, tmp_path))


@pytest.mark.parametrize(("columns", "message"), [
    ({"num_supervised_tokens": [1] * 19 + [None]}, "num_supervised_tokens has missing values"),
    ({"num_supervised_tokens": ["x"] * 20}, "num_supervised_tokens must hold numbers, got string"),
    ({"losses": [1.0] * 20}, "`losses` must hold lists of numbers"),
    ({"example_id": ["e1"] * 20}, "an example_id of its own in each"),
])
def test_bad_pools_are_named(columns, message, select, pool):
    with pytest.raises(InputError, match=message):
        compare_selections([select("a", [1]), select("b", [2])], pool(**columns))


def test_tables_show_what_there_is_and_no_text_is_taken_for_markup(select, pool):
    from rich.console import Console

    def text(found):
        console = Console(width=200, record=True, file=io.StringIO())
        for table in tables_of(found):
            console.print(table)
        return console.export_text()

    paths = [select("a[bold]", range(4)), select("b", range(4))]
    bare = text(compare_selections(paths))
    assert "a[bold]" in bare and "share by source" not in bare and "0 common" not in bare.split("pairs")[0]
    full = text(compare_selections(paths, pool(source=["[red]"] * 20, losses=[[float(i), 1.0] for i in range(20)])))
    wanted = {"[red]", "fifth of the pool", "1 to 4", "adjusted Rand index", "1.000 (0.111)"}
    assert {part for part in wanted if part not in full} == set()
