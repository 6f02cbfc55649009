"""The table of every row: .venv/bin/pytest tests/report/test_row_scores.py"""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from s2l_ray.cli.main import main
from s2l_ray.errors import InputError
from s2l_ray.report.row_scores import write_row_scores
from s2l_ray.selectors.methods.learning_percentage import learning_percentages


@pytest.fixture
def written(tiny, finished_run, tmp_path):
    """What was said of the table, and the table."""
    said = write_row_scores(finished_run, "", tmp_path / "rows.parquet")
    return said, pq.read_table(tmp_path / "rows.parquet")


def test_every_row_is_there_once_with_its_place_and_losses(tiny, written):
    said, table = written
    assert said["rows"] == table.num_rows == len(tiny.ids) and table["example_id"].to_pylist() == tiny.ids
    assert said["columns"] == table.column_names and said["file"].endswith("rows.parquet")
    assert table["row"].to_pylist()[:20] == [*range(16), *range(4)], "its place in the file, shard after shard"
    losses = tiny.losses().astype(np.float32)
    for point, step in enumerate((0, 5, 10)):
        assert table[f"loss_{step}"].to_pylist() == losses[:, point].tolist()
    assert table["mean_loss"].to_numpy() == pytest.approx(losses.mean(axis=1), abs=1e-6)
    assert table["loss_fall"].to_numpy() == pytest.approx(losses[:, 0] - losses[:, 2], abs=1e-6)
    assert "learning_percentage" not in table.column_names, "no point at a third of the training was recorded"


def test_each_selection_says_what_it_took_and_why_it_did_not(tiny, written):
    _, table = written
    arms = {name.removesuffix("_why") for name in table.column_names if name.endswith("_why")}
    assert {"s2l", "random"} <= arms
    selection = tiny.storage.read_table("select/s-s2l/selection.parquet")
    ranks = {row["example_id"]: row["rank"] for row in selection.to_pylist()}
    for row in table.to_pylist():
        cluster = int(tiny.clusters_N[tiny.ids.index(row["example_id"])])
        assert row["s2l_rank"] == ranks.get(row["example_id"]) and row["s2l_cluster"] == cluster
        size, quota = int((tiny.clusters_N == cluster).sum()), len(ranks) // 2
        kept = "kept" if row["example_id"] in ranks else "not kept"
        assert row["s2l_why"] == f"{kept}: cluster {cluster} gave {quota} of its {size}"
        assert row["random_why"] in ("kept", "not kept") and row["random_cluster"] is None
        assert (row["random_why"] == "kept") == (row["random_rank"] is not None)


def test_the_end_of_an_epoch_gives_the_learning_percentage(tiny, finished_run, tmp_path):
    tiny.recipe["selection"]["epoch_1_fraction"] = 0.5
    folder = tiny.write_run("halves", [*tiny.shared, *tiny.add_arm("s2l", "s2l", [1, 3], [1.0])])
    write_row_scores(folder, "", tmp_path / "rows.parquet")
    found = pq.read_table(tmp_path / "rows.parquet", columns=["learning_percentage"])["learning_percentage"].to_numpy()
    assert found == pytest.approx(learning_percentages(tiny.losses().astype(np.float32)))


def test_the_command_writes_into_the_run_s_folder(tiny, finished_run, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["scores", "tiny", "--storage", tiny.storage.uri])
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert ended.value.code == 0 and said["file"] == f"{finished_run}/scores.parquet"
    assert pq.read_metadata(said["file"]).num_rows == said["rows"] == len(tiny.ids)


def test_a_run_without_a_selection_is_the_user_s_mistake(tiny, tmp_path):
    folder = tiny.write_run("young", tiny.shared)
    with pytest.raises(InputError, match="has no finished selection: run it at least to `select`"):
        write_row_scores(folder, "", tmp_path / "rows.parquet")
    assert not (tmp_path / "rows.parquet").exists()
