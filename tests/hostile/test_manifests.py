"""Storages that somebody damaged, or that lie: found out, named, with the folder to delete; nothing wrong is reused."""

import json

import pyarrow as pa
import pytest

from s2l_ray.errors import InputError
from s2l_ray.execution import shards
from s2l_ray.recipe.resources import ResourcesConfig
from s2l_ray.recipe.selection import SelectionConfig
from s2l_ray.stages.select import run_select
from s2l_ray.storage.artifacts import Artifact, read_manifest, sealed
from s2l_ray.storage.files import Storage
from s2l_ray.tables.chunked_table import chunked_from_shards

ROWS = {"read": 10, "examples": 9, "duplicates": 1, "quarantined": 0}


@pytest.fixture
def storage(tmp_path):
    return Storage.open(str(tmp_path / "out"))


@pytest.fixture
def examples(storage):
    """A finished pool of 9 examples in 2 shards."""
    artifact = Artifact(storage, "prepare", {"limit": None})
    for number, ids in enumerate((range(5), range(5, 9))):
        table = pa.table({"example_id": [f"e{i}" for i in ids], "source": ["s"] * len(ids)})
        storage.write_table(artifact.file(f"examples/shard-{number:06d}.parquet"), table)
    artifact.publish({"rows": ROWS}, started=0)
    return artifact


def lie(**changes):
    """A function (manifest) -> the manifest with these keys changed; None removes one."""
    return lambda manifest: {k: v for k, v in {**manifest, **changes}.items() if v is not None}


RECORD = {"name": "r", "command": "s2l run r", "started": 1.0}


@pytest.fixture
def word_recipe(small_recipe, word_problems, tmp_path):
    """A recipe as a run's record keeps it."""
    return small_recipe(word_problems, tmp_path / "out").model_dump()


LIES = {
    "no packages": (lie(packages=None), "it was changed after it was written"),
    "another wall time": (lie(wall_s=5.5), "it was changed after it was written"),
    "no JSON": (lambda m: b"{no", "not readable as JSON"),
    "empty": (lambda m: b"", "not readable as JSON"),
    "cut off": (lambda m: json.dumps(m).encode()[:-9], "not readable as JSON"),
    "not UTF-8": (lambda m: b'{"a": "\xff"}', "not readable as JSON"),
    "nested": (lambda m: b"[" * 100_000, "not readable as JSON"),
    "a pickle": (lambda m: b"\x80\x04K\x01.", "not readable as JSON"),
    "a list": (lambda m: [m], "a manifest is a JSON object, this is of type list"),
    "null": (lambda m: b"null", "a manifest is a JSON object, this is of type NoneType"),
    "an empty object": (lambda m: {}, "states stage None, its folder says 'prepare'"),
    "no rows": (lie(rows=None), "rows=None must be counts"),
    "rows a list": (lie(rows=[1]), r"rows=\[1\] must be counts"),
    "rows texts": (lie(rows={"examples": "9"}), "must be counts"),
    "rows negative": (lie(rows={"examples": -9}), "must be counts"),
    "rows fractions": (lie(rows={"examples": 9.5}), "must be counts"),
    "rows true": (lie(rows={"examples": True}), "must be counts"),
    "rows that do not add up": (lie(rows={**ROWS, "examples": 8}), "do not add up: read = examples"),
    "near-duplicates left out": (lie(rows={**ROWS, "near_duplicates": 1}), "read = examples"),
    "quarantine left out": (lie(rows={"read": 10, "examples": 9}), "do not add up"),
    "no time": (lie(wall_s=None), "wall_s=None is not a number"),
    "another fingerprint": (lie(fingerprint="0" * 16), "states fingerprint '0000000000000000', its folder says"),
    "no fingerprint": (lie(fingerprint=None), "states fingerprint None"),
    "another stage": (lie(stage="select"), "states stage 'select'"),
}


@pytest.mark.parametrize("case", LIES)
def test_a_manifest_that_lies_is_not_believed(case, examples, storage, s2l, word_recipe):
    change, message = LIES[case]
    changed = change(examples.manifest())
    content = changed if isinstance(changed, bytes) else json.dumps(changed).encode()
    storage.write_bytes(examples.file("manifest.json"), content)
    with pytest.raises(InputError, match=rf"prepare/{examples.fingerprint}/manifest\.json: .*{message}.*delete"):
        examples.manifest()
    step = {"label": "prepare", "stage": "prepare", "fingerprint": examples.fingerprint}
    storage.write_json("runs/r/run.json", {**RECORD, "recipe": word_recipe, "steps": [step]})
    for command in ("status", "report"):
        code, out, err = s2l(command, storage.uri_of("runs/r"))
        assert (code, out) == (2, "") and "manifest.json" in err and "delete" in err, command


STEP = {"label": "l", "stage": "prepare", "fingerprint": "0" * 16}
WHOLE = {**RECORD, "recipe": {}, "steps": [STEP]}
BAD_RECORDS = {
    "no JSON": b"{no", "empty": b"", "not UTF-8": b"\xff", "a list": [], "empty object": {},
    **{f"no {key}": {name: value for name, value in WHOLE.items() if name != key} for key in WHOLE},
    "steps a number": {**WHOLE, "steps": 5}, "a step a text": {**WHOLE, "steps": ["x"]},
    "a step empty": {**WHOLE, "steps": [{}]}, "command a number": {**WHOLE, "command": 5},
    "started a text": {**WHOLE, "started": "now"}, "recipe a list": {**WHOLE, "recipe": []},
    "a stage that climbs": {**WHOLE, "steps": [{**STEP, "stage": "../.."}]},
    "a fingerprint that climbs": {**WHOLE, "steps": [{**STEP, "fingerprint": "../../etc"}]},
    "trials a number": {**WHOLE, "trials": 5}, "a trial a text": {**WHOLE, "trials": ["x"]},
    "a trial without steps": {**WHOLE, "trials": [{"trial": "t"}]},
}


@pytest.mark.parametrize("case", BAD_RECORDS)
def test_a_bad_record_of_a_run_is_named(case, storage, s2l):
    content = BAD_RECORDS[case]
    storage.write_bytes("runs/r/run.json", content if isinstance(content, bytes) else json.dumps(content).encode())
    for command in ("status", "report"):
        code, out, err = s2l(command, storage.uri_of("runs/r"))
        assert (code, out) == (2, "") and "runs/r/run.json: not" in err, command


MARKERS = {"no JSON": (b"{", "not readable as JSON"), "a list": (b"[]", "holds schema version None"),
           "empty": (b"", "not readable as JSON"), "a text": (b'"2"', "holds schema version None"),
           "a version as text": (b'{"schema_version": "2"}', "holds schema version '2'"),
           "the future": (b'{"schema_version": 99}', "holds schema version 99")}


@pytest.mark.parametrize("case", MARKERS)
def test_a_bad_marker_of_a_storage_is_named(case, tmp_path):
    content, message = MARKERS[case]
    (tmp_path / "s2l-storage.json").write_bytes(content)
    with pytest.raises(InputError, match=message):
        Storage.open(str(tmp_path))


def ids(*numbers):
    return pa.table({"example_id": [f"e{i}" for i in numbers]})


BAD_SHARDS = {
    "of other examples": (ids(0, 1, 2, 3, 99), RuntimeError, r"trajectories of shard-000000\.parquet are not those of its examples"),
    "in another order": (ids(1, 0, 2, 3, 4), RuntimeError, "are not those of its examples: delete"),
    "a row missing": (ids(0, 1, 2, 3), RuntimeError, "are not those of its examples"),
    "a row too many": (ids(0, 1, 2, 3, 4, 4), RuntimeError, "are not those of its examples"),
    "empty": (ids(), RuntimeError, "are not those of its examples"),
    "no Parquet": (b"x" * 100, InputError, r"shard-000000\.parquet: not a readable Parquet file .*delete .* and run again"),
    "cut off": (b"PAR1", InputError, "not a readable Parquet file"),
}


@pytest.mark.parametrize(("stage", "name"), [("..", "x"), ("prepare", "../../elsewhere"), ("a/b", "c"), ("", "c")])
def test_a_name_that_leads_elsewhere_is_no_artifacts(stage, name, storage):
    with pytest.raises(InputError, match="is not the name of an artifact: the record that names it is damaged"):
        read_manifest(storage, stage, name)


@pytest.mark.parametrize("case", BAD_SHARDS)
def test_a_finished_shard_that_lies_is_found_out(case, examples, storage):
    made, kind, message = BAD_SHARDS[case]
    artifact = Artifact(storage, "trajectories", {}, {"examples": examples.fingerprint})
    for number, table in enumerate((made, ids(5, 6, 7, 8))):
        file = artifact.file(f"shards/shard-{number:06d}.parquet")
        if isinstance(table, bytes):
            storage.write_bytes(file, table)
        else:
            storage.write_table(file, table)
    with pytest.raises(kind, match=message):
        shards.run_shards("t", artifact, examples, object, {}, ResourcesConfig())


def test_a_pool_of_other_size_than_its_manifest_says_is_not_selected_from(examples, storage):
    manifest = {key: value for key, value in examples.manifest().items() if key != "hash"}
    storage.write_json(examples.file("manifest.json"), sealed({**manifest, "rows": {"examples": 900}}))
    artifact = Artifact(storage, "select", {})
    with pytest.raises(RuntimeError, match=rf"9 rows for 900 examples: delete prepare/{examples.fingerprint}"):
        run_select(artifact, SelectionConfig(selector="random", budget=2), 0,
                   {"examples": examples, "target_examples": examples})
    assert not artifact.is_finished


def test_a_damaged_footer_among_shards_is_named(examples, storage):
    storage.write_bytes(examples.file("examples/shard-000001.parquet"), b"PAR1" + b"\xff" * 40 + b"PAR1")
    with pytest.raises(InputError, match=r"shard-000001\.parquet: not a readable Parquet file .*delete .* and run again"):
        chunked_from_shards(examples, "examples")


@pytest.mark.parametrize("name", ["../../etc/passwd", "..", "../r", "/etc", "r\n", "שלום"])
def test_a_run_that_is_not_there_is_said_so(name, storage, s2l):
    code, out, err = s2l("status", name, "--storage", storage.uri)
    assert (code, out) == (2, "") and "has no run or sweep" in err
