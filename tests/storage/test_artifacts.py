"""Artifacts: named by what decides their content, finished only when the manifest is there."""

import json
import os
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s2l_ray.storage import artifacts
from s2l_ray.storage.artifacts import Artifact, file_digest, fingerprint, folder_digest, git_commit, package_versions
from s2l_ray.storage.files import SCHEMA_VERSION, Storage

IDENTITY = {"budget": 0.11, "columns": {"output": "solution", "input": "é"}, "limit": None, "tasks": [{"name": "a"}]}
PARENTS = {"examples": "0" * 16, "trajectories": "1" * 16}

plain = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
json_values = st.recursive(plain, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner,
                                                                                           max_size=3), max_leaves=6)


@pytest.fixture
def artifact(tmp_path):
    return Artifact(Storage.open(str(tmp_path)), "select", IDENTITY, PARENTS)


# --- fingerprints ------------------------------------------------------------------------------------


def test_a_fingerprint_is_the_same_in_every_process():
    program = f"from s2l_ray.storage.artifacts import fingerprint; print(fingerprint('select', {IDENTITY!r}, {PARENTS!r}))"
    said = {
        subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True,
                       env={**os.environ, "PYTHONHASHSEED": seed}).stdout.strip()
        for seed in ("1", "2")
    }
    assert said == {fingerprint("select", IDENTITY, PARENTS)}


def test_the_schema_version_enters_the_fingerprint(monkeypatch):
    before = fingerprint("select", IDENTITY, PARENTS)
    monkeypatch.setattr(artifacts, "SCHEMA_VERSION", SCHEMA_VERSION + 1)
    assert fingerprint("select", IDENTITY, PARENTS) != before


def test_every_ingredient_changes_the_fingerprint():
    names = {
        fingerprint("select", IDENTITY, PARENTS),
        fingerprint("finetune", IDENTITY, PARENTS),
        fingerprint("select", {**IDENTITY, "budget": 0.12}, PARENTS),
        fingerprint("select", {**IDENTITY, "columns": {"output": "solution"}}, PARENTS),
        fingerprint("select", {**IDENTITY, "tasks": [{"name": "b"}]}, PARENTS),
        fingerprint("select", {**IDENTITY, "more": None}, PARENTS),
        fingerprint("select", IDENTITY, {**PARENTS, "examples": "2" * 16}),
        fingerprint("select", IDENTITY, {"examples": PARENTS["examples"]}),
        # The same two parents in each other's roles.
        fingerprint("select", IDENTITY, {"examples": "1" * 16, "trajectories": "0" * 16}),
    }
    assert len(names) == 9
    assert all(len(name) == 16 and set(name) <= set("0123456789abcdef") for name in names)


@settings(deadline=None)
@given(st.dictionaries(st.text(), json_values, max_size=5), st.randoms())
def test_the_order_of_keys_does_not_matter(identity, random):
    def shuffled(value):
        if isinstance(value, list):
            return [shuffled(item) for item in value]
        if not isinstance(value, dict):
            return value
        items = [(key, shuffled(item)) for key, item in value.items()]
        random.shuffle(items)
        return dict(items)

    assert fingerprint("s", shuffled(identity), {}) == fingerprint("s", identity, {})


@settings(deadline=None)
@given(st.dictionaries(st.text(), json_values, max_size=4), st.dictionaries(st.text(), json_values, max_size=4))
def test_other_content_has_another_fingerprint(one, other):
    same = json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
    assert (fingerprint("s", one, {}) == fingerprint("s", other, {})) is same


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_number_that_equals_nothing_is_refused(value):
    with pytest.raises(ValueError, match="Out of range float values"):
        fingerprint("select", {"budget": value}, {})


def test_what_is_no_json_is_refused():
    with pytest.raises(TypeError, match="not JSON serializable"):
        fingerprint("select", {"points": {1, 2}}, {})


# --- manifests ---------------------------------------------------------------------------------------


def test_an_artifact_is_finished_by_its_manifest(artifact):
    assert not artifact.is_finished
    artifact.storage.write_bytes(artifact.file("selection.parquet"), b"data")
    assert not artifact.is_finished, "data alone is unfinished work"
    published = artifact.publish({"rows": {"selected": 3}}, time.time() - 2)
    assert artifact.is_finished
    assert artifact.manifest() == published


def test_a_crash_before_the_end_leaves_it_unfinished(artifact):
    artifact.storage.write_bytes(artifact.file("selection.parquet"), b"data")
    with pytest.raises(TypeError, match="not JSON serializable"):
        artifact.publish({"rows": {1, 2}}, time.time())
    assert not artifact.is_finished
    assert artifact.storage.list_names(artifact.folder) == ["selection.parquet"]


def test_the_manifest_tells_where_the_artifact_comes_from(artifact):
    manifest = artifact.publish({"rows": {"selected": 3}}, time.time() - 2)
    assert manifest["identity"] == IDENTITY
    assert manifest["parents"] == PARENTS
    assert (manifest["stage"], manifest["fingerprint"]) == ("select", artifact.fingerprint)
    assert manifest["schema_version"] == SCHEMA_VERSION
    assert manifest["rows"] == {"selected": 3}
    assert manifest["git_commit"] == git_commit()
    assert {"pyarrow", "numpy", "torch", "ray", "transformers"} <= manifest["packages"].keys()
    assert 2 <= manifest["wall_s"] < 60
    # Whoever reads the manifest can work out the name again.
    assert fingerprint(manifest["stage"], manifest["identity"], manifest["parents"]) == artifact.fingerprint


def test_an_artifact_lies_under_its_stage_and_fingerprint(artifact):
    assert artifact.file("x.parquet") == f"select/{fingerprint('select', IDENTITY, PARENTS)}/x.parquet"


def test_absent_packages_have_no_version(monkeypatch):
    monkeypatch.setattr(artifacts, "_PACKAGES", ("numpy", "no-such-package"))
    assert list(package_versions()) == ["numpy"]


# --- the commit --------------------------------------------------------------------------------------


def test_the_commit_and_what_is_not_committed(tmp_path, monkeypatch):
    monkeypatch.setattr(artifacts, "__file__", str(tmp_path / "s2l_ray" / "storage" / "artifacts.py"))
    commit = git_commit.__wrapped__  # a process asks once
    assert commit() is None, "no checkout"

    def git(*arguments):
        identity = ("-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false")
        command = ["git", "-C", tmp_path, *identity, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True)

    git("init", "--quiet")
    assert commit() is None, "no commit yet"
    (tmp_path / "a").write_text("1")
    git("add", "a")
    git("commit", "--quiet", "-m", "first")
    head = git("rev-parse", "HEAD").stdout.strip()
    assert commit() == head
    (tmp_path / "a").write_text("2")
    assert commit() == head + "+"
    monkeypatch.setenv("PATH", "")
    assert commit() is None, "no git"


# --- digests of model folders ------------------------------------------------------------------------


@pytest.fixture
def model_folder(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"weights")
    return SimpleNamespace(path=folder, digest=lambda: folder_digest(folder, (".json", ".safetensors")))


def test_a_folders_digest_follows_names_and_bytes(model_folder):
    seen = [model_folder.digest()]
    (model_folder.path / "model.safetensors").write_bytes(b"weighty")
    seen.append(model_folder.digest())
    (model_folder.path / "config.json").rename(model_folder.path / "other.json")
    seen.append(model_folder.digest())
    (model_folder.path / "tokenizer.json").write_text("")
    seen.append(model_folder.digest())
    assert len(set(seen)) == 4


def test_a_folders_digest_ignores_place_time_and_other_files(model_folder, tmp_path):
    before = model_folder.digest()
    os.utime(model_folder.path / "config.json", (0, 0))
    (model_folder.path / "README.md").write_text("notes")
    (model_folder.path / "deep").mkdir()
    (model_folder.path / "deep" / "config.json").write_text("{}")
    assert model_folder.digest() == before
    moved = model_folder.path.rename(tmp_path / "elsewhere")
    assert folder_digest(moved, (".json", ".safetensors")) == before


def test_swapping_two_files_contents_changes_the_digest(tmp_path):
    for folder, contents in (("one", ("x", "y")), ("two", ("y", "x"))):
        (tmp_path / folder).mkdir()
        for name, content in zip(("a.json", "b.json"), contents, strict=True):
            (tmp_path / folder / name).write_text(content)
    assert folder_digest(tmp_path / "one", (".json",)) != folder_digest(tmp_path / "two", (".json",))


def test_a_files_digest_is_sha_256(tmp_path):
    (tmp_path / "f").write_bytes(b"abc")  # FIPS 180-2, appendix B.1
    assert file_digest(tmp_path / "f") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
