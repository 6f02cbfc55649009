"""Rows that went wrong, as seeds of new data: .venv/bin/pytest tests/report/test_failures.py"""

import json

import pyarrow as pa
import pytest

from s2l_ray.cli.main import main
from s2l_ray.errors import InputError
from s2l_ray.report.failures import write_failures
from s2l_ray.tables.schemas import EXAMPLES, shard_name

VALUES = [1, 0, 1, 1, 0]


@pytest.fixture
def evaluated(tiny):
    """A run whose target is right on three of five questions; returns its folder."""
    ids = [f"held-{n}" for n in range(len(VALUES))]
    tiny.storage.write_table(f"prepare/held/examples/{shard_name(0)}", pa.table([
        ids, ["held"] * 5, [[1, 2]] * 5, [[False, True]] * 5, [2] * 5, [1] * 5], schema=EXAMPLES))
    tiny.storage.write_table(f"prepare/held/originals/{shard_name(0)}", pa.table({
        "example_id": ids[::-1], "file": ["held.jsonl"] * 5, "row": list(range(5)),
        "raw": [json.dumps({"question": f"what is {n}?", "answer": str(n)}) for n in range(4, -1, -1)]}))
    select, tune = tiny.add_select("s2l", "s-1", [1, 3]), tiny.add_finetune("s2l", "f-1")
    tiny.storage.write_table("evaluate/e-1/predictions.parquet", pa.table({
        "task": ["problems"] * 5, "example_id": ids, "prediction": [f"said {n}" for n in range(5)],
        "reference": [str(n) for n in range(5)], "answer": [str(n) for n in range(5)],
        "exact_match": pa.array(VALUES, pa.float32())}))
    metrics = {"problems": {"exact_match": {"value": 0.6, "low": 0, "high": 1, "n": 5}}}
    done = tiny.add("evaluate s2l", "e-1", {"rows": {"examples": 5}, "metrics": metrics,
                                            "parents": {"model": "f-1", "examples:problems": "held"}})
    return tiny.write_run("judged", [*tiny.shared, select, tune, done])


def lines(file):
    return [json.loads(line) for line in open(file, encoding="utf-8")]


def test_rows_that_are_answered_wrongly_come_as_they_are_with_the_answer(evaluated, tmp_path, capsys):
    said = write_failures(evaluated, "", None, 0, tmp_path / "bad.jsonl")
    assert said == {"file": str(tmp_path / "bad.jsonl"), "arm": "s2l", "rows": 2, "of": {"problems": 2}}
    assert lines(tmp_path / "bad.jsonl") == [
        {"question": f"what is {n}?", "answer": str(n),
         "failure": {"example_id": f"held-{n}", "task": "problems", "metric": "exact_match", "prediction": f"said {n}",
                     "answer": str(n), "reference": str(n)}} for n in (1, 4)]
    assert "rows of problems are held out" in capsys.readouterr().err


def test_rows_of_the_pool_that_were_learned_least_come_the_least_first(tiny, evaluated, tmp_path):
    write_failures(evaluated, "", "s2l", 3, tmp_path / "bad.jsonl")
    found = [row["failure"] for row in lines(tmp_path / "bad.jsonl")[2:]]
    losses = tiny.losses()
    falls = losses[:, 0] - losses[:, -1]
    assert [row["example_id"] for row in found] == [tiny.ids[n] for n in falls.argsort(kind="stable")[:3]]
    assert [row["loss_fall"] for row in found] == pytest.approx(sorted(falls)[:3], abs=1e-5)
    assert {row["task"] for row in found} == {None}


def test_the_command_writes_beside_the_run(tiny, evaluated, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["failures", "judged", "--storage", tiny.storage.uri])
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert ended.value.code == 0 and said["file"] == f"{evaluated}/failures-s2l.jsonl" and len(lines(said["file"])) == 2


@pytest.mark.parametrize(("arm", "message"), [
    ("s3l", "there is no arm 's3l' in 'judged': it has s2l"), (None, None)])
def test_what_is_not_there_is_said(tiny, evaluated, arm, message, tmp_path):
    folder = evaluated if arm else tiny.write_run("young", [*tiny.shared, tiny.add_select("s2l", "s-1", [1, 3])])
    with pytest.raises(InputError, match=message or r"no task that s2l was evaluated on has a metric that tells right"):
        write_failures(folder, "", arm, 0, tmp_path / "bad.jsonl")
    assert not (tmp_path / "bad.jsonl").exists()
