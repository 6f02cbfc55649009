"""Which selection is meant: .venv/bin/pytest tests/export/test_selection.py"""

import json

import pytest

from s2l_ray.errors import InputError
from s2l_ray.export.selection import find_selection


def test_a_runs_own_selection_its_controls_and_a_selections_folder(runs, rows):
    uri = runs.run([rows["messages"]] * 4)
    own, control = find_selection(uri, "", None), find_selection(uri, "", "random")
    name = uri.rpartition("/")[2]
    assert (own.num_rows, control.num_rows) == (4, 2) and (own.name, control.name) == (name, f"{name}-random")
    assert find_selection(name, runs.storage.uri, "full").manifest == own.manifest
    assert control.recipe.selection.selector == "random" and control.recipe.selection.controls == []
    folder = runs.storage.uri_of(control.file("selection.parquet"))
    for place in (folder, folder.rpartition("/")[0]):
        found = find_selection(place, "", None)
        assert found.manifest == control.manifest and found.recipe is None
    assert find_selection(f"select/{control.manifest['fingerprint']}", runs.storage.uri, None).manifest == control.manifest


def test_a_sweeps_trial_is_named_and_has_its_own_recipe(runs, rows):
    uri = runs.sweep([rows["sharegpt"]] * 10)
    with pytest.raises(InputError, match=r"several selections; name one with --arm: random-b0.5, random-b0.8"):
        find_selection(uri, "", None)
    trial = find_selection(uri, "", "random-b0.8")
    assert trial.num_rows == 8 and (trial.recipe.seed, trial.recipe.selection.budget, trial.recipe.selection.selector) == (3, 0.8, "random")


def test_what_is_not_there_is_said_with_what_is(runs, rows):
    uri = runs.run([rows["alpaca"]] * 2)
    with pytest.raises(InputError, match=r"--arm s2l: no such selection; name one with --arm: full, random"):
        find_selection(uri, "", "s2l")
    with pytest.raises(InputError, match=r"no finished selection"):
        find_selection(f"{runs.storage.uri}/select/absent", "", None)
    with pytest.raises(InputError, match=r"--arm full: .* is one selection"):
        find_selection(f"{runs.storage.uri}/select/absent", "", "full")


def test_rows_that_changed_since_are_refused(runs, rows):
    chosen = find_selection(runs.run([rows["alpaca"]] * 3), "", None)
    lines = runs.storage.read_bytes(chosen.file("subset.jsonl"))
    runs.storage.write_bytes(chosen.file("subset.jsonl"), lines + b"{}\n")
    with pytest.raises(InputError, match=r"subset.jsonl: 4 rows, 3 were chosen"):
        list(chosen.conversations())
    runs.storage.write_bytes(chosen.file("subset.jsonl"), b"{}\n" + lines.partition(b"\n")[2])
    with pytest.raises(InputError, match=r"subset.jsonl row 1: "):
        list(chosen.conversations())
    runs.storage.delete(chosen.file("subset.jsonl"))
    with pytest.raises(InputError, match="its rows"):
        find_selection(runs.run([rows["alpaca"]] * 3), "", None)


def test_columns_that_are_renamed_are_read_so(runs, rows):
    row = {"q": "1 + 1?", "a": "2", "level": 3}
    pool = runs.pool([row] * 2, "question_answer")
    manifest = pool.manifest()
    assert json.loads(manifest["identity"]["rows"])[0] == row
    identity = {**pool.identity, "columns": {"question": "q", "answer": "a"}, "id_column": "level"}
    renamed = type(pool)(pool.storage, "prepare", identity)
    for name in ("examples", "originals"):
        renamed.write_table(f"{name}/shard-000000.parquet", pool.read_table(f"{name}/shard-000000.parquet"))
    renamed.publish({"format": "question_answer", "rows": manifest["rows"]}, 0.0)
    step = runs.select(renamed, "full")
    found = find_selection(f"{runs.storage.uri}/select/{step['fingerprint']}", "", None)
    (conversation, unread), _ = found.conversations()
    assert [turn.content for turn in conversation.turns] == ["1 + 1?", "2"] and unread == []
