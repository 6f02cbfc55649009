"""The state of a run, told from its storage alone."""

import pytest

from s2l_ray.errors import InputError
from s2l_ray.results.record import find_record, split_run
from s2l_ray.results.status import status_of
from s2l_ray.storage.artifacts import Artifact, sealed
from s2l_ray.storage.files import Storage

RECORD = {"recipe": {}, "started": 1.0}


def status(storage, name):
    return status_of(find_record(name, storage.uri))


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
    storage.write_json("runs/math/run.json", {**RECORD, "name": "math", "command": "s2l run math", "steps": steps})
    return storage


def test_finished_unfinished_and_waiting_steps(storage):
    found = status(storage, "math")
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
    storage.write_json("sweeps/tuned/sweep.json", {**RECORD, "name": "tuned", "command": "s2l sweep x",
                                                   "shared": [prepare, trajectories], "trials": trials})
    found = status(storage, "tuned")
    assert [(step["label"], step["state"]) for step in found["steps"]] == [
        ("prepare", "finished"), ("trajectories", "unfinished"), ("a: select s2l", "waiting"), ("b: select s2l", "waiting")]
    assert found["command"] == "s2l sweep x"


SWEEP = {**RECORD, "name": "tuned", "command": "x"}


@pytest.mark.parametrize("record", [[], {}, {**SWEEP, "shared": 3}, {**SWEEP, "shared": [], "trials": [{}]},
                                    {**SWEEP, "shared": [{"fingerprint": []}], "trials": []}])
def test_a_damaged_record_of_a_sweep_is_refused(storage, record):
    storage.write_json("sweeps/tuned/sweep.json", record)
    with pytest.raises(InputError, match=r"sweep\.json: not the record of a run"):
        status(storage, "tuned")


def test_nothing_is_left_of_a_finished_run(storage):
    for step in storage.read_json("runs/math/run.json")["steps"]:
        manifest = sealed({**step, "rows": {}, "wall_s": 1.0})
        storage.write_json(f"{step['stage']}/{step['fingerprint']}/manifest.json", manifest)
    assert status(storage, "math")["left"] == []


def test_an_unknown_run_lists_the_known_ones(storage):
    with pytest.raises(InputError, match=r"has no run or sweep 'maths'; there: runs/math$"):
        status(storage, "maths")


def test_a_storage_without_runs_and_one_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match=r"has no run or sweep 'x'; there: none$"):
        status(Storage.open(str(tmp_path)), "x")
    with pytest.raises(InputError, match=r"has no run or sweep 'x'; there: none$"):
        status(Storage(str(tmp_path / "nowhere")), "x")
    assert not (tmp_path / "nowhere").exists(), "asking makes nothing"


RUNS, BOTH = ["runs"], ["runs", "sweeps"]


@pytest.mark.parametrize(
    ("run", "expected"),
    [
        ("math", ("./out", BOTH, "math")),
        ("runs/math", ("./out", RUNS, "math")),
        ("runs/math/", ("./out", RUNS, "math")),
        ("sweeps/math", ("./out", ["sweeps"], "math")),
        ("./out/runs/math", ("./out", RUNS, "math")),
        ("/data/s2l/sweeps/math/", ("/data/s2l", ["sweeps"], "math")),
        ("/data/runs/old/runs/math", ("/data/runs/old", RUNS, "math")),
        ("s3://bucket/s2l/runs/math", ("s3://bucket/s2l", RUNS, "math")),
        ("s3://bucket/s2l/runs/math?region=eu&scheme=http", ("s3://bucket/s2l?region=eu&scheme=http", RUNS, "math")),
    ],
)
def test_a_run_is_named_by_folder_or_by_name(run, expected):
    storage, kinds, name = split_run(run, "./out")
    assert (storage.uri, kinds, name) == expected


def test_the_folder_that_a_run_prints_leads_back_to_it(storage):
    assert status_of(find_record(storage.uri_of("runs/math"), "./elsewhere"))["run"] == "math"
    address = Storage("s3://bucket/s2l?region=eu")
    assert split_run(address.uri_of("runs/math"), "./elsewhere") == (address, RUNS, "math")


def test_a_run_and_a_sweep_of_one_name_are_told_apart(storage):
    # `s2l run` and `s2l sweep` of one recipe bear one name.
    storage.write_json("sweeps/math/sweep.json", {**SWEEP, "name": "math", "shared": [], "trials": []})
    with pytest.raises(InputError, match="'math' is a run and a sweep: give runs/math or sweeps/math"):
        find_record("math", storage.uri)
    assert not find_record("runs/math", storage.uri).is_sweep and find_record("sweeps/math", storage.uri).is_sweep
