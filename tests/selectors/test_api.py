"""`s2l_ray.select`, from arrays and tables: .venv/bin/pytest tests/selectors/test_api.py"""

import doctest

import datasets
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from s2l_ray import InputError, select
from s2l_ray.cli.main import main
from s2l_ray.recipe.registry import SELECTORS
from s2l_ray.selectors import api
from s2l_ray.tables.needs import PROBES, Need
from s2l_ray.tables.schemas import with_metadata

N, C = 200, 4
RNG = np.random.default_rng(0)
LOSSES = RNG.gamma(2.0, size=(N, C)).astype(np.float32)
IDS = [f"e{i}" for i in range(N)]
SOURCES = [f"source{i % 3}" for i in range(N)]
LENGTHS = RNG.integers(1, 50, N)
VECTORS = RNG.normal(size=(N, 8)).astype(np.float32)
SCORES = RNG.random(N)
FRACTIONS = [0.0, 1 / 3, 2 / 3, 1.0]
ARRAYS = {"ids": IDS, "sources": SOURCES, "num_supervised_tokens": LENGTHS, "fractions": FRACTIONS}
PROBED = {**{f"loss_{name}": RNG.gamma(2.0, size=N) for name in PROBES}, "pass_rate": RNG.integers(0, 5, N) / 4}


def lists(values):
    return pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), values.shape[1])


TABLE = pa.table({"example_id": IDS, "source": SOURCES, "num_supervised_tokens": pa.array(LENGTHS, pa.int32()),
                  "losses": lists(LOSSES), **PROBED})
TABLE = with_metadata(TABLE, {"points": [{"step": step, "fraction": value} for step, value in enumerate(FRACTIONS)]})
EMBEDDINGS = pa.table({"example_id": IDS, "embedding": lists(VECTORS)})
TASKS = pa.table({"task": ["a", "b", "a"], "embedding": lists(VECTORS[:3] + 0.1)})
SIDES = {"embeddings": EMBEDDINGS, "scores": pa.table({"example_id": IDS, "score": SCORES}), "task_embeddings": TASKS}
BARE = TABLE.select(["example_id", "losses"]).replace_schema_metadata()


def by_command(folder, selector, *settings):
    """The selection table that `s2l select --trajectories` writes for the same rows."""
    files = {name: folder / f"{name}.parquet" for name in ("losses", *SIDES)}
    for name, table in (("losses", TABLE), *SIDES.items()):
        pq.write_table(table, files[name])
    with pytest.raises(SystemExit) as ended:
        main(["select", "--trajectories", str(files["losses"]), "--embeddings", str(files["embeddings"]), "--task-embeddings",
              str(files["task_embeddings"]), "--selector",
              selector, "--budget", "0.2", "--seed", "3", "--output", str(folder / "chosen"),
              f"selection.scores={files['scores']}", *settings])
    assert not ended.value.code
    return pq.read_table(folder / "chosen" / "selection.parquet")


@pytest.mark.parametrize("name", SELECTORS.names)
def test_every_selector_chooses_as_the_command_does(name, tmp_path):
    wanted = by_command(tmp_path, name, "selection.num_clusters=9")
    given = {"selector": name, "seed": 3, "num_clusters": 9}
    found = [select(TABLE, 0.2, **given, **SIDES)]
    if SELECTORS.find(name).needs.isdisjoint({*PROBES, Need.PASS_RATES}):  # which arrays cannot give
        found.append(select(LOSSES, 0.2, **given, **ARRAYS, embeddings=VECTORS, scores=SCORES, task_embeddings=TASKS))
    for one in found:
        assert one.table.equals(wanted)
        assert one.ids == [IDS[i] for i in one.indices] == wanted["example_id"].to_pylist()
        assert (one.num_candidates, len(one), one.dropped.tolist()) == (N, wanted.num_rows, [])


def test_settings_are_the_recipes(tmp_path):
    wanted = by_command(tmp_path, "s2l", "selection.per=source", "selection.normalise=zscore")
    assert select(TABLE, 0.2, seed=3, settings={"per": "source", "normalise": "zscore"}).table.equals(wanted)


FORMS = {
    "arrow": lambda folder: BARE,
    "pieces": lambda folder: pa.concat_tables([BARE[:70], BARE[70:]]),
    "batch": lambda folder: BARE.to_batches()[0],
    "reader": lambda folder: pa.RecordBatchReader.from_batches(BARE.schema, BARE.to_batches()),
    "views": lambda folder: BARE.set_column(0, "example_id", BARE["example_id"].cast(pa.string_view())),
    "pandas": lambda folder: BARE.to_pandas(),
    "pandas, wide, with an index": lambda folder: pd.DataFrame(
        {"example_id": IDS, **{f"loss_{c}": LOSSES[:, c] for c in range(C)}}, index=range(9, 9 + N)),
    "datasets": lambda folder: datasets.Dataset(BARE),
    "path": lambda folder: folder / "losses.parquet",
    "text": lambda folder: str(folder / "losses.parquet"),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_table_may_come_from_many_libraries(form, tmp_path):
    pq.write_table(BARE, tmp_path / "losses.parquet")
    wanted = select(LOSSES, 20, ids=IDS)
    found = select(FORMS[form](tmp_path), 20)
    assert found.table.equals(wanted.table) and np.array_equal(found.indices, wanted.indices)


ARRAY_FORMS = {
    "columns first in memory": np.asfortranarray, "torch": torch.tensor, "lists": np.ndarray.tolist,
    "the other byte order": lambda losses: losses.astype(">f8"), "masked": np.ma.array,
    "every second row": lambda losses: np.repeat(losses, 2, axis=0)[::2],
}


@pytest.mark.parametrize("form", ARRAY_FORMS)
def test_losses_are_whatever_numpy_makes_an_array_of(form):
    assert select(ARRAY_FORMS[form](LOSSES), 20).table.equals(select(LOSSES, 20).table)


def test_the_order_of_the_rows_does_not_matter_and_positions_are_of_the_given_one():
    order = np.random.default_rng(1).permutation(N)
    one, other = select(LOSSES, 20, ids=IDS), select(LOSSES[order], 20, ids=[IDS[i] for i in order])
    assert one.ids == other.ids and np.array_equal(order[other.indices], one.indices)
    shuffled = datasets.Dataset(BARE).shuffle(seed=5)
    found = select(shuffled, 20)
    assert found.ids == one.ids and [shuffled[int(i)]["example_id"] for i in found.indices] == found.ids


def test_embeddings_in_an_array_are_in_the_order_of_the_rows_of_a_table_too():
    shuffled = EMBEDDINGS.take(np.random.default_rng(2).permutation(N))
    wanted = select(BARE, 20, selector="k_center", embeddings=shuffled)
    assert select(BARE, 20, selector="k_center", embeddings=VECTORS).table.equals(wanted.table)
    assert select(None, 20, selector="k_center", ids=IDS, embeddings=VECTORS * 3).ids == wanted.ids


def test_what_needs_no_losses_needs_none():
    assert len(select(None, 0.5, selector="random", ids=range(30))) == 15
    assert select(None, 5, selector="random", ids=np.arange(30)).ids == select(np.ones((30, 1)), 5, selector="random").ids
    assert len(select(None, 6, selector="stratified_random", sources=pd.Series(SOURCES))) == 6
    assert select(None, 2, selector="external", scores=[1, 9, 5]).indices.tolist() == [1, 2]


def test_rows_that_are_not_finite_are_refused_or_named():
    losses = LOSSES.copy()
    losses[7, 1], losses[3, 0] = np.nan, np.inf
    with pytest.raises(InputError, match=r"2 of 200 rows cannot be used .*'3', '7'.*drop_non_finite=True"):
        select(losses, 20)
    found = select(losses, 20, drop_non_finite=True)
    assert found.dropped.tolist() == [3, 7] and found.dropped.dtype == found.indices.dtype == np.int64
    assert found.num_candidates == N - 2 and not {3, 7} & set(found.indices.tolist())
    masked = np.ma.array(LOSSES, mask=~np.isfinite(losses))
    assert select(masked, 20, drop_non_finite=True).table.equals(found.table)
    with pytest.raises(InputError, match="example_id repeats"):
        select(losses, 20, ids=[*IDS[:7], "e4", *IDS[8:]], drop_non_finite=True)


def test_perplexities_become_nats():
    ratios = np.exp(LOSSES.astype(np.float64))
    assert select(ratios, 20, kind="perplexity").ids == select(LOSSES, 20).ids


def test_a_small_pool_has_fewer_clusters_unless_one_says_how_many():
    found = select(LOSSES[:50], 5)
    assert found.table.equals(select(LOSSES[:50], 5, num_clusters="auto").table)
    with pytest.raises(InputError, match="num_clusters=100 exceeds the 50 examples: lower it, or set it to auto"):
        select(LOSSES[:50], 5, num_clusters=100)


def test_what_is_written_is_what_the_command_writes(tmp_path):
    wanted = by_command(tmp_path, "s2l")
    select(TABLE, 0.2, seed=3).write(tmp_path / "mine")
    files = ("findings.json", "quarantine.parquet", "selection.jsonl", "selection.parquet")
    assert sorted(path.name for path in (tmp_path / "mine").iterdir()) == sorted(files)
    for name in files:
        assert (tmp_path / "mine" / name).read_bytes() == (tmp_path / "chosen" / name).read_bytes()
    assert wanted.num_rows == 40
    with pytest.raises(InputError, match="cannot be made"):
        select(LOSSES, 5).write("/dev/null/x")


BAD = {
    "one loss each": (LOSSES[:, 0], {}, r"shape \(N, width\).*got shape \(200,\)"),
    "ragged": ([[1.0], [1.0, 2.0]], {}, "losses of type list is no array of numbers"),
    "texts": ([["a"]], {}, "must be an array of numbers"),
    "no such file": ("/nowhere.parquet", {}, "/nowhere.parquet: no such file"),
    "nothing": (None, {"selector": "random"}, "nothing to choose from: give losses"),
    "several splits": (datasets.DatasetDict({"train": datasets.Dataset(BARE)}), {}, "give one split"),
    "a table without ids": (BARE.drop(["example_id"]), {}, "needs a column example_id, it has losses"),
    "ids beside a table": (BARE, {"ids": IDS}, "go with losses in an array"),
    "too few ids": (LOSSES, {"ids": IDS[:3]}, "one entry for each row, got 3 in example_id, 200 in losses"),
    "too few embeddings": (BARE, {"selector": "k_center", "embeddings": VECTORS[:3]}, "got 3 for 200 rows"),
    "the same id twice": (LOSSES, {"ids": ["e1", *IDS[1:]]}, "example_id repeats, for example"),
    "ids of two kinds": (LOSSES[:2], {"ids": ["a", 1]}, "example_id holds values that are not of one kind"),
    "ids in a text": (LOSSES, {"ids": "abc"}, "one value for each row, got str"),
    "no losses": (None, {"ids": IDS}, r"selector='s2l' needs losses, of shape \(N, C\)"),
    "no embeddings": (LOSSES, {"selector": "k_center"}, "selector='k_center' needs embeddings="),
    "no sources": (LOSSES, {"selector": "stratified_random"}, "needs sources="),
    "no lengths": (LOSSES, {"selector": "length_matched_random"}, "needs num_supervised_tokens="),
    "no scores": (LOSSES, {"selector": "external"}, "needs scores="),
    "no probe": (LOSSES, {"selector": "ifd"}, "a column loss_with_prompt, or let a model do it: s2l select ROWS.jsonl"),
    "no fractions": (LOSSES, {"selector": "learning_percentage", "embeddings": VECTORS}, "in Python fractions="),
    "too few fractions": (LOSSES, {"fractions": [0, 1]}, "one number from 0 to 1 for each of the 4 points"),
    "fractions that descend": (LOSSES, {"fractions": [0, 0.5, 0.3, 1]}, "ascending"),
    "unknown selector": (LOSSES, {"selector": "s3l"}, "'s3l' is unknown; did you mean s2l"),
    "unknown setting": (LOSSES, {"settings": {"normalize": "zscore"}}, "unknown key; did you mean normalise"),
    "a setting that is an argument": (LOSSES, {"settings": {"seed": 1}}, "holds 'seed', which `select` takes as seed="),
    "budget": (LOSSES, {"budget": 201}, "budget=201 must be between 1 and the 200 candidates"),
    "kind": (LOSSES, {"kind": "bits"}, "'bits' is unknown"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_does_not_serve_is_refused_with_the_remedy(case):
    losses, given, message = BAD[case]
    with pytest.raises(InputError, match=message):
        select(losses, **{"budget": 2, **given})


def test_the_example_in_its_docstring_runs():
    found = doctest.testmod(api)
    assert found.attempted >= 3 and found.failed == 0
