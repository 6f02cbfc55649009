"""Hostile recipes: nothing is executed, nothing is read from the environment, nothing multiplies; all in words."""

import itertools
import re
import time

import pytest

from s2l_ray.errors import InputError
from s2l_ray.recipe.loading import load_recipe

GOOD = """data: {path: pool.jsonl}
proxy: {model: {path: some/model}, epochs: 2}
target: {model: {path: some/model}, max_steps: 10}
"""
PLANTED = "planted-value-of-the-environment"


@pytest.fixture(autouse=True)
def planted(monkeypatch):
    monkeypatch.setenv("S2L_TEST_SECRET", PLANTED)


@pytest.fixture
def refused(tmp_path):
    """A function (text, overrides) -> the message that the recipe is refused with, within 3 seconds."""

    def load(text, *overrides):
        file = tmp_path / "recipe.yaml"
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
        started = time.monotonic()
        with pytest.raises(InputError) as caught:
            load_recipe(file, overrides)
        assert time.monotonic() - started < 3
        assert PLANTED not in str(caught.value)
        return str(caught.value)

    return load


ENVIRONMENT = {
    "as documented": "storage: ${oc.env:S2L_TEST_SECRET}",
    "with a blank": "storage: '${ oc.env:S2L_TEST_SECRET}'",
    "with a tab": 'storage: "${\\toc.env:S2L_TEST_SECRET}"',
    "with a default": "storage: ${oc.env:S2L_TEST_SECRET,x}",
    "within a text": "storage: /tmp/${oc.env:S2L_TEST_SECRET}/x",
    "name put together": "storage: '${${name}.env:S2L_TEST_SECRET}'\nname: oc",
    "key put together": "storage: '${oc.${name}:S2L_TEST_SECRET}'\nname: env",
    "decoded": "storage: '${oc.decode:\"${ oc.env:S2L_TEST_SECRET}\"}'",
    "selected": "storage: '${oc.select:data.path}'",
    "in a list": "sweep: {space: {selection.budget: ['${ oc.env:S2L_TEST_SECRET}']}}",
    "in a fresh model's config": "embedding: {model: {config: {model_type: '${ oc.env:S2L_TEST_SECRET}'}, tokenizer: x}}",
    "by way of another key": "storage: ${name}\nname: '${ oc.env:S2L_TEST_SECRET}'",
    "created": "storage: '${oc.create:{a: 1}}'",
}


@pytest.mark.parametrize("case", ENVIRONMENT)
def test_the_environment_stays_out_of_reach(case, refused):
    assert "cannot read the environment or compute" in refused(GOOD + ENVIRONMENT[case] + "\n")


@pytest.mark.parametrize("value", ["${oc.env:S2L_TEST_SECRET}", "'${ oc.env:S2L_TEST_SECRET}'", "['${oc.env:S2L_TEST_SECRET}']"])
def test_nor_does_an_override_reach_it(value, refused):
    assert "cannot read the environment or compute" in refused(GOOD, f"storage={value}")


def test_keys_that_name_other_keys_still_work(tmp_path):
    file = tmp_path / "recipe.yaml"
    file.write_text(GOOD + "storage: /out/${name}/${data.path}\nname: mine\nseed: 7\nselection: {seed: '${seed}'}\n"
                    "evaluation: {tasks: [{name: a, path: x}, {name: b, path: '${evaluation.tasks.0.path}'}]}\n")
    recipe = load_recipe(file)
    assert (recipe.storage, recipe.selection.seed, recipe.evaluation.tasks[1].path) == ("/out/mine/pool.jsonl", 7, "x")


def doubling(levels, form):
    columns = "\n".join(f"  x{i}: {form.format(i + 1)}" for i in range(levels))
    return GOOD.replace("{path: pool.jsonl}", f"\n path: '${{data.columns.x0}}'\n columns:\n{columns}\n  x{levels}: aaaaaaaaaa")


def aliases(levels, width):
    names = [f"a{i}" for i in range(levels)]
    first = f"a0: &a0 [{', '.join(['x'] * width)}]\n"
    return first + "".join(f"{new}: &{new} [{', '.join([f'*{old}'] * width)}]\n" for old, new in itertools.pairwise(names))


BOMBS = {
    "billion laughs": aliases(10, 10),
    "wide laughs": aliases(3, 200),
    "laughs of mappings": "a: &a {x: 1}\n" + "".join(
        f"{new}: &{new} {{p: *{old}, q: *{old}}}\n" for old, new in itertools.pairwise("abcdefghijklmnopqrstuvw")),
    "a list that holds itself": GOOD + "storage: &s [*s]\n",
    "a mapping that holds itself": "data: &a {path: *a}\n",
    "references doubling": doubling(40, "${{data.columns.x{0}}}${{data.columns.x{0}}}"),
    "references to lists doubling": doubling(40, "['${{data.columns.x{0}}}', '${{data.columns.x{0}}}']"),
    "a reference to itself": GOOD + "storage: ${storage}\n",
    "references in a ring": GOOD + "storage: ${name}\nname: ${storage}\n",
    "a text of 10 MB": GOOD + "storage: " + "a" * 10_000_000 + "\n",
    "a big text many times": GOOD + f"name: {'a' * 900_000}\nstorage: '{'${name}' * 50}'\n",
    "9,999 unknown keys": GOOD + "".join(f"k{i}: 1\n" for i in range(9_999)),
    "5,000 open brackets": "[" * 5_000,
    "500 levels": GOOD + "storage: " + "{a: " * 500 + "1" + "}" * 500 + "\n",
}


@pytest.mark.parametrize("case", BOMBS)
def test_what_multiplies_is_refused_at_once(case, refused):
    said = refused(BOMBS[case])
    assert re.search(r"stands for more than|larger than 1,000,000 bytes|too deeply|expansion exceeds|Recursive", said)


TAGS = ["!!python/object/apply:os.system ['touch TRAP']", "!!python/object/new:os.system ['touch TRAP']",
        "!!python/name:os.system", "!!python/module:os", "!!python/object:s2l_ray.config.Recipe {}", "!!python/tuple [a]",
        "!!python/object/apply:builtins.eval [\"open('TRAP','w')\"]", "!include /etc/passwd", "!!float x"]


@pytest.mark.parametrize("tag", TAGS)
def test_tags_build_nothing(tag, refused, tmp_path):
    trap = tmp_path / "trap"
    assert "not a readable recipe" in refused(GOOD + f"storage: {tag.replace('TRAP', str(trap))}\n")
    assert "cannot be applied" in refused(GOOD, f"storage={tag.replace('TRAP', str(trap))}")
    assert not trap.exists()


NO_RECIPES = {
    "empty": ("", "this file is empty"),
    "a text": ("just words", "this file is a str"),
    "a list": ("- a", "this file is a list"),
    "a number": ("5", "this file is a int"),
    "tabs": ("data:\n\tpath: x\n", r"line 2, column 1: found character"),
    "a raw NUL": (GOOD + "storage: a\0b\n", "special characters are not allowed"),
    "a lone surrogate": (GOOD + 'storage: "\\ud800"\n', "invalid Unicode character escape"),
    "UTF-16 without a mark": (GOOD.encode("utf-16-le"), "not a readable recipe"),
    "latin-1": (GOOD.encode() + b"storage: caf\xe9\n", "'utf-8' codec can't decode"),
    "a binary": (bytes(range(256)), "not a readable recipe"),
    "JSON cut off": ('{"data": {"path": ', "not a readable recipe: line 1"),
    "two documents": (GOOD + "---\n" + GOOD, "but found another document"),
    "a key twice": (GOOD + "seed: 1\nseed: 2\n", "found duplicate key seed"),
    "a list as a key": ("? [a]\n: 2\n" + GOOD, "unhashable key"),
    "null as a key": ("null: 2\n" + GOOD, "not a readable recipe"),
    "a number as a key": ("1: 2\n" + GOOD, "1: unknown key"),
    "an anchor that is not there": (GOOD + "storage: *x\n", "undefined alias 'x'"),
    "another YAML version": ("%YAML 9.9\n---\n" + GOOD, "incompatible YAML document"),
    "a date that is none": (GOOD + "storage: 2020-99-99\n", "month must be in 1..12"),
    "a number of 5,000 digits": (GOOD + "seed: " + "9" * 5000 + "\n", "not a readable recipe"),
    "a hexadecimal number of 4,000 digits": (GOOD + "seed: 0x" + "f" * 4000 + "\n", "seed=a number of thousands of digits"),
    "a seed beyond 32 bits": (GOOD + "seed: 4294967296\n", "seed=4294967296: should be less than 4294967296"),
    "a count beyond 64 bits": (GOOD.replace("pool.jsonl", "p, max_length: 99999999999999999999"), "data.max_length="),
    "a section that is null": (GOOD.replace("{path: pool.jsonl}", ""), "data=None: must be a section"),
    "a section that is a list": (GOOD.replace("{path: pool.jsonl}", "[1]"), r"data=\[1\]: must be a section"),
    "a name that climbs": (GOOD + "name: ../x\n", r"name='../x': String should match"),
    "a name of dots": (GOOD + "name: ..\n", r"name='..': String should match"),
    "a split that climbs": (GOOD.replace("path: pool.jsonl", "hub_name: a/b, split: ../../x"), "data.split='../../x'"),
    "a task that climbs": (GOOD + "evaluation: {tasks: [{name: ../../x, path: a}]}\n", "evaluation.tasks.0.name='../../x'"),
    "a task with an absolute name": (GOOD + "evaluation: {tasks: [{name: /tmp/x, path: a}]}\n", "evaluation.tasks.0.name"),
}


@pytest.mark.parametrize("case", NO_RECIPES)
def test_what_is_no_recipe_is_refused(case, refused):
    text, message = NO_RECIPES[case]
    assert re.search(message, refused(text))


@pytest.mark.parametrize("uri", ["s3://AKIA:planted-key@bucket/x", "s3://:planted-key@bucket/x", "hdfs://me:planted-key@host/x"])
@pytest.mark.parametrize("key", ["storage", "data.path"])
def test_keys_within_uris_are_refused_and_not_repeated(uri, key, s2l, tmp_path):
    (tmp_path / "recipe.yaml").write_text(GOOD)
    code, _, err = s2l("prepare", tmp_path / "recipe.yaml", f"storage={tmp_path / 'out'}",
                       "proxy.model.path=/nowhere", f"{key}={uri}")
    assert code == 2
    assert "planted-key" not in err
    for file in tmp_path.rglob("*.json"):
        assert "planted-key" not in file.read_text()


@pytest.mark.parametrize("command", ["run", "prepare", "sweep", "select", "trajectories"])
def test_a_bad_recipe_exits_2_whatever_the_command(command, s2l, tmp_path):
    (tmp_path / "recipe.yaml").write_text("data: [")
    code, out, err = s2l(command, tmp_path / "recipe.yaml")
    assert (code, out) == (2, "") and "recipe.yaml: not a readable recipe: line 1" in err


def test_what_steers_a_terminal_is_shown_instead(s2l, tmp_path):
    (tmp_path / "recipe.yaml").write_text(GOOD + '"\\e[2J\\e]0;owned\\a": 1\n')
    code, _, err = s2l("run", tmp_path / "recipe.yaml")
    assert code == 2 and "\x1b" not in err and "\\x1b[2J" in err
