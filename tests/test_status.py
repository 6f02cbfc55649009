"""The state of a run, told from its storage alone."""

import pytest

from s2l_ray.artifacts import Artifact
from s2l_ray.errors import InputError
from s2l_ray.status import split_run, status_of
from s2l_ray.storage import Storage


@pytest.fixture
def storage(tmp_path):
    """A storage with the run `math`: prepare finished, trajectories half done, select waiting."""
    storage = Storage.open(str(tmp_path / "out"))
    prepare = Artifact(storage, "prepare", {"limit": None})
    trajectories = Artifact(storage, "trajectories", {}, {"examples": prepare.fingerprint})
    select = Artifact(storage, "select", {}, {"trajectories": trajectories.fingerprint})
    prepare.publish({"rows": {"read": 10, "examples": 9, "duplicates": 1, "quarantined": 0}}, started=0)
    for shard in range(2):
        storage.write_bytes(trajectories.file(f"shards/shard-{shard:06d}.parquet"), b"x")
    storage.write_bytes(trajectories.file("shards/.shard-000002.parquet.tmp"), b"half")
    steps = [{"label": label, "stage": a.stage, "fingerprint": a.fingerprint}
             for label, a in (("prepare", prepare), ("trajectories", trajectories), ("select s2l", select))]
    storage.write_json("runs/math/run.json", {"name": "math", "command": "s2l run math", "steps": steps})
    return storage


def test_finished_unfinished_and_waiting_steps(storage):
    found = status_of(storage, "math")
    assert [(step["label"], step["state"]) for step in found["steps"]] == [
        ("prepare", "finished"), ("trajectories", "unfinished"), ("select s2l", "waiting")]
    assert found["steps"][0]["rows"]["examples"] == 9
    assert found["steps"][0]["wall_s"] > 0
    assert found["steps"][1]["finished_shards"] == 2, "a shard being written does not count"
    assert found["left"] == ["trajectories", "select s2l"]
    assert (found["run"], found["command"]) == ("math", "s2l run math")


def test_a_sweep_has_what_its_trials_share_and_each_ones_own(storage):
    prepare, trajectories, select = storage.read_json("runs/math/run.json")["steps"]
    other = {**select, "fingerprint": "other"}
    trials = [{"trial": "a", "steps": [prepare, select]}, {"trial": "b", "steps": [prepare, other]}]
    storage.write_json("runs/tuned/sweep.json", {"command": "s2l sweep x", "shared": [prepare, trajectories], "trials": trials})
    found = status_of(storage, "tuned")
    assert [(step["label"], step["state"]) for step in found["steps"]] == [
        ("prepare", "finished"), ("trajectories", "unfinished"), ("a: select s2l", "waiting"), ("b: select s2l", "waiting")]
    assert found["command"] == "s2l sweep x"


@pytest.mark.parametrize("record", [[], {}, {"command": "x", "shared": 3}, {"command": "x", "shared": [], "trials": [{}]},
                                    {"command": "x", "shared": [{"fingerprint": []}], "trials": []}])
def test_a_damaged_record_of_a_sweep_is_refused(storage, record):
    storage.write_json("runs/tuned/sweep.json", record)
    with pytest.raises(InputError, match=r"sweep\.json: not a run's record"):
        status_of(storage, "tuned")


def test_nothing_is_left_of_a_finished_run(storage):
    for step in storage.read_json("runs/math/run.json")["steps"]:
        storage.write_json(f"{step['stage']}/{step['fingerprint']}/manifest.json", {**step, "rows": {}, "wall_s": 1.0})
    assert status_of(storage, "math")["left"] == []


def test_an_unknown_run_lists_the_known_ones(storage):
    with pytest.raises(InputError, match=r"has no run 'maths'; runs there: math$"):
        status_of(storage, "maths")


def test_a_storage_without_runs_and_one_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match=r"has no run 'x'; runs there: none$"):
        status_of(Storage.open(str(tmp_path)), "x")
    with pytest.raises(InputError, match=r"has no run 'x'; runs there: none$"):
        status_of(Storage(str(tmp_path / "nowhere")), "x")
    assert not (tmp_path / "nowhere").exists(), "asking makes nothing"


@pytest.mark.parametrize(
    ("run", "expected"),
    [
        ("math", ("./out", "math")),
        ("runs/math", ("./out", "math")),
        ("runs/math/", ("./out", "math")),
        ("./out/runs/math", ("./out", "math")),
        ("/data/s2l/runs/math/", ("/data/s2l", "math")),
        ("/data/runs/old/runs/math", ("/data/runs/old", "math")),
        ("s3://bucket/s2l/runs/math", ("s3://bucket/s2l", "math")),
        ("s3://bucket/s2l/runs/math?region=eu&scheme=http", ("s3://bucket/s2l?region=eu&scheme=http", "math")),
    ],
)
def test_a_run_is_named_by_folder_or_by_name(run, expected):
    storage, name = split_run(run, "./out")
    assert (storage.uri, name) == expected


def test_the_folder_that_a_run_prints_leads_back_to_it(storage):
    found = status_of(*split_run(storage.uri_of("runs/math"), "./elsewhere"))
    assert found["run"] == "math"
    address = Storage("s3://bucket/s2l?region=eu")
    assert split_run(address.uri_of("runs/math"), "./elsewhere") == (address, "math")
