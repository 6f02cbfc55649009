"""A key within a URI goes nowhere, whichever way it comes in: no file, no message."""

import pytest

from s2l_ray.cli.main import main
from s2l_ray.errors import InputError
from s2l_ray.recipe.loading import load_recipe
from s2l_ray.recipe.parts import parse_selection
from s2l_ray.storage.files import Storage
from s2l_ray.submit.submit import address_of

PLANTED = "plantedKey0f1e2d3c"
GOOD = """data: {path: pool.jsonl}
proxy: {model: {path: some/model}, epochs: 2}
target: {model: {path: some/model}, max_steps: 10}
"""
KEYS = ["storage", "data.path", "data.hub_name", "proxy.model.path", "target.model.tokenizer", "selection.scores",
        "resources.ray_address", "data.limit", "no.such.key", "evaluation.tasks.0.path", "sweep.space", "name"]
SOME = ["s3://AKIA:{}@bucket/x", "s3://bucket/x?sig={}", "https://{}@host/x"]
MORE = [*SOME, "s3://AKIA:ab/{}@bucket/x", "s3:/AKIA:{}@bucket/x", "s3://bucket/x y?token={}", "s3://bucket/x#token={}",
        "abfs://c@a.dfs.core.windows.net/x?sv=1&sig={}", "s3://bucket/x?endpoint_override=me:{}@host:9000&scheme=http"]


def secret_in(text):
    return PLANTED in text


@pytest.mark.parametrize("form", SOME)
@pytest.mark.parametrize("key", KEYS)
def test_no_key_of_a_recipe_takes_one(key, form, s2l, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipe.yaml").write_text(GOOD)
    uri = form.format(PLANTED)
    value = {"sweep.space": f"{{data.path: ['{uri}']}}"}.get(key, uri)
    code, out, err = s2l("run", tmp_path / "recipe.yaml", f"{key}={value}")
    assert code == 2 and not secret_in(out + err)
    assert [path.name for path in tmp_path.rglob("*")] == ["recipe.yaml"], "nothing was written"


@pytest.mark.parametrize("form", SOME)
@pytest.mark.parametrize("text", ["storage: '{}'\n", "'{}': 1\n", "name: x\nstorage: '${{name}}{}'\n", "storage: '{}/${{oc.env:HOME}}'\n",
                                  "evaluation: {{tasks: [{{name: a, path: '{}'}}]}}\n"])
def test_nor_does_a_recipes_file(text, form, tmp_path):
    (tmp_path / "recipe.yaml").write_text(GOOD + text.format(form.format(PLANTED)))
    with pytest.raises(InputError) as caught:
        load_recipe(tmp_path / "recipe.yaml")
    assert not secret_in(str(caught.value))


def test_nor_one_put_together_from_keys(tmp_path):
    parts = f"trajectory: {{precision: token}}\nname: {PLANTED}\nstorage: 's3://bucket/x?${{trajectory.precision}}=${{name}}'\n"
    (tmp_path / "recipe.yaml").write_text(GOOD + parts)
    with pytest.raises(InputError, match="holds a key or password") as caught:
        load_recipe(tmp_path / "recipe.yaml")
    assert not secret_in(str(caught.value))


@pytest.mark.parametrize("form", MORE)
def test_no_command_takes_one(form, s2l, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    uri = form.format(PLANTED)
    for words in (["status", f"{uri}/runs/x"], ["status", "x", "--storage", uri], ["report", f"{uri}/runs/x"],
                  ["report", "x", "--storage", uri], ["run", uri], ["compare", uri, uri]):
        code, out, err = s2l(*words)
        assert code in (1, 2) and not secret_in(out + err), words
    assert list(tmp_path.rglob("*")) == []


@pytest.mark.parametrize("form", SOME)
def test_nor_does_a_storage_a_selection_or_a_job_server(form):
    uri = form.format(PLANTED)
    for refuse in (lambda: Storage.open(uri), lambda: parse_selection([f"selection.scores={uri}"]), lambda: parse_selection([uri]),
                   lambda: address_of(uri, {}), lambda: address_of(None, {"RAY_API_SERVER_ADDRESS": uri})):
        with pytest.raises(InputError) as caught:
            refuse()
        assert not secret_in(str(caught.value))


def test_nor_does_a_traceback_say_it(capsys):
    with pytest.raises(SystemExit):
        main(["select", "--trajectories", f"s3://AKIA:{PLANTED}@bucket/losses.parquet", "--debug"])
    said = capsys.readouterr().err
    assert "Traceback" in said and "s3:/AKIA:***@bucket/losses.parquet" in said and not secret_in(said)
