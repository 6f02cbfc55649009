"""From YAML and overrides to a recipe: one line for each mistake, and nothing is ever executed."""

import itertools
import re
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s2l_ray.errors import InputError
from s2l_ray.recipe.loading import load_recipe, shipped_recipes
from s2l_ray.recipe.parts import parse_selection

SHIPPED = sorted((Path(__file__).parents[2] / "jobs" / "recipes").glob("*.yaml"))

GOOD = """
data: {path: pool.jsonl}
proxy: {model: {path: some/model}, epochs: 2}
target: {model: {path: some/model}, max_steps: 10}
evaluation:
  tasks:
    - {name: first, path: a.jsonl}
    - {name: second, path: b.jsonl, limit: 7}
"""


@pytest.fixture
def recipe_file(tmp_path):
    """A function (text) -> file of that text."""

    def write(text=GOOD, name="trial.yaml"):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


@pytest.fixture
def refused(recipe_file):
    """A function (*overrides, text) -> the message that the recipe is refused with."""

    def load(*overrides, text=GOOD):
        with pytest.raises(InputError) as caught:
            load_recipe(recipe_file(text), overrides)
        return str(caught.value)

    return load


# --- what loads --------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_recipes_load_by_name_and_say_what_they_are(path):
    recipe = load_recipe(path.stem)
    assert recipe == load_recipe(path)
    assert recipe.name == path.stem
    assert path.read_text().startswith("# "), "`s2l recipes` shows the first line"


def test_all_shipped_recipes_are_listed():
    assert SHIPPED and list(shipped_recipes().values()) == SHIPPED


def test_the_file_gives_the_name_unless_the_recipe_does(recipe_file):
    assert load_recipe(recipe_file()).name == "trial"
    assert load_recipe(recipe_file(GOOD + "name: mine\n")).name == "mine"
    assert load_recipe(recipe_file(), ["name=other"]).name == "other"


@pytest.mark.parametrize(
    ("override", "read", "expected"),
    [
        ("proxy.learning_rate=1e-3", lambda r: r.proxy.learning_rate, 0.001),
        ("proxy.epochs=1e1", lambda r: r.proxy.epochs, 10.0),
        ("data.limit=1e4", lambda r: r.data.limit, 10_000),
        ("data.limit=null", lambda r: r.data.limit, None),
        ("data.limit=", lambda r: r.data.limit, None),
        ("data.path=a=b c", lambda r: r.data.path, "a=b c"),
        ("data.path=s3://bucket/x?region=y", lambda r: r.data.path, "s3://bucket/x?region=y"),
        ("data.hub_revision='123'", lambda r: r.data.hub_revision, "123"),
        ("data.columns={output: solution}", lambda r: r.data.columns, {"output": "solution"}),
        ("data.columns.output=solution", lambda r: r.data.columns, {"output": "solution"}),
        ("resources.use_gpu=true", lambda r: r.resources.use_gpu, True),
        ("resources.use_gpu=no", lambda r: r.resources.use_gpu, False),
        ("selection.budget=5", lambda r: r.selection.budget, 5),
        ("selection.budget=0.5", lambda r: r.selection.budget, 0.5),
        ("selection.budget=5e-1", lambda r: r.selection.budget, 0.5),
        ("selection.controls=[random, full]", lambda r: r.selection.controls, ["random", "full"]),
        ("evaluation.tasks.0.limit=5", lambda r: [t.limit for t in r.evaluation.tasks], [5, 7]),
        ("evaluation.tasks.1.limit=5", lambda r: [t.limit for t in r.evaluation.tasks], [None, 5]),
        ("evaluation.tasks.1.metrics=[loss,bleu]", lambda r: r.evaluation.tasks[1].metrics, ["loss", "bleu"]),
        ("evaluation.tasks=[]", lambda r: r.evaluation.tasks, []),
        ("evaluation={include_base: true}", lambda r: [len(r.evaluation.tasks), r.evaluation.include_base], [2, True]),
    ],
)
def test_overrides(recipe_file, override, read, expected):
    value = read(load_recipe(recipe_file(), [override]))
    assert value == expected
    assert type(value) is type(expected)


def test_overrides_apply_left_to_right(recipe_file):
    assert load_recipe(recipe_file(), ["seed=1", "seed=2"]).seed == 2


def test_numbers_in_the_file_may_be_written_with_an_exponent(recipe_file):
    # YAML 1.1 takes 1e4 for a text, and a text is no number of rows.
    recipe = load_recipe(recipe_file(GOOD.replace("path: pool.jsonl", "path: pool.jsonl, limit: 1e4")))
    assert recipe.data.limit == 10_000


def test_aliases_may_share_a_part(recipe_file):
    text = GOOD.replace("proxy: {model: {path", "proxy: {model: &m {path").replace(
        "target: {model: {path: some/model}", "target: {model: *m")
    recipe = load_recipe(recipe_file(text))
    assert recipe.proxy.model == recipe.target.model


def test_model_folders_become_absolute_since_workers_run_elsewhere(tmp_path, monkeypatch, recipe_file):
    (tmp_path / "some" / "model").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert load_recipe(recipe_file()).target.model.path == str(tmp_path / "some" / "model")


@pytest.mark.parametrize("key", ["proxy.model.path", "probe.judge.path", "embedding.model.path", "target.model.tokenizer"])
def test_so_do_those_of_every_other_model(tmp_path, monkeypatch, recipe_file, key):
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path)
    found = load_recipe(recipe_file(), [f"{key}=mine"])
    for name in key.split("."):
        found = getattr(found, name)
    assert found == str(tmp_path / "mine")


def test_hub_names_stay_as_they_are(tmp_path, monkeypatch, recipe_file):
    monkeypatch.chdir(tmp_path)
    assert load_recipe(recipe_file()).target.model.path == "some/model"


def test_a_selection_alone():
    assert parse_selection([]).budget == 0.11
    config = parse_selection(["selection.selector=random", "selection.budget=3"])
    assert (config.selector, config.budget) == ("random", 3)
    with pytest.raises(InputError, match="data: unknown key; Allowed here: selection"):
        parse_selection(["data.path=x"])
    with pytest.raises(InputError, match=r"selection.budgt: unknown key; did you mean budget\?"):
        parse_selection(["selection.budgt=3"])
    with pytest.raises(InputError, match=r"recipe: selection.selector: Interpolation key 'nope' not found"):
        parse_selection(["selection.selector=${nope}"])


# --- what is refused, and how ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("selecton.budget=3", "selecton: unknown key; did you mean selection? Allowed here: name, seed, storage,"),
        ("selection.budgt=3", "selection.budgt: unknown key; did you mean budget? Allowed here: selector, budget,"),
        ("evaluation.tasks.0.limt=3", "evaluation.tasks.0.limt: unknown key; did you mean limit? Allowed here: name,"),
        ("data.zzz=3", "data.zzz: unknown key; Allowed here: path, hub_name"),
        ("data.1=2", "data.1: unknown key; Allowed here: path, hub_name"),
        ("seed=abc", "seed='abc': should be a valid integer, unable to parse string as an integer. The one seed"),
        ("seed=1.5", "seed=1.5: should be a valid integer, got a number with a fractional part."),
        ("seed=-1", "seed=-1: should be greater than or equal to 0."),
        ("seed=yes", "seed: true is not possible here (YAML reads yes, no, on and off as true and false)"),
        ("data.format=json", "data.format: row shape 'json' is unknown; known: auto, alpaca, messages,"),
        ("selection.stratify_by=none", "selection.stratify_by='none': should be 'source'. Give each source an equal"),
        ("proxy.learning_rate=.nan", "proxy.learning_rate=nan: should be a finite number. Peak learning rate"),
        ("data.columns.output=1", "data.columns.output=1: should be a valid string. Renames:"),
        ("selection=3", "selection=3: must be a section with the keys selector, budget,"),
        ("evaluation.tasks=x", "evaluation.tasks='x': should be a valid list"),
        ("evaluation.tasks.0.metrics=[los]", "evaluation.tasks.0.metrics.0: metric 'los' is unknown; did you mean loss?"),
        ("proxy.max_steps=3", "proxy: give exactly one of epochs (now 2.0) and max_steps (now 3)"),
        ("data.hub_name=a/b", "data: give exactly one of data.path (files) and data.hub_name (a Hugging Face"),
        ("resources.num_workers=3", "recipe: proxy.global_batch_size=128 must be a multiple of"),
        ("name=a/b", "name='a/b': String should match pattern '^[A-Za-z0-9][A-Za-z0-9._-]*$'. Name of the run"),
        ("storage=${nope}", "recipe: storage: Interpolation key 'nope' not found"),
        ("data.path=[1", "override 'data.path=[1' cannot be applied: line 1, column 3: expected ',' or ']'"),
        ("evaluation.tasks.2.limit=5", "override 'evaluation.tasks.2.limit=5' cannot be applied: evaluation.tasks[2]:"),
        ("evaluation.tasks.x.limit=5", "override 'evaluation.tasks.x.limit=5' cannot be applied: Index 'x'"),
        ("seed", "override 'seed' must have the form key.path=value"),
        ("=3", "override '=3' must have the form key.path=value"),
        ("data..path=3", "override 'data..path=3' must have the form key.path=value"),
        ("data.columns=&a [*a]", "override 'data.columns=&a [*a]' cannot be applied: it stands for more than 10,000"),
    ],
)
def test_each_mistake_is_one_line(refused, override, message):
    said = refused(override)
    assert said.startswith(message)
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize("budget", ["0", "-3", "1.5", "0.0", "abc", "null", ".inf", "[1]"])
def test_a_budget_that_is_neither_number_nor_share_is_one_line(refused, budget):
    said = refused(f"selection.budget={budget}")
    assert said.endswith(": is not possible. Examples to select: a whole number from 1, or a share of the pool above 0 "
                         "and up to 1 (1.0 is all of it).")
    assert len(said.splitlines()) == 1


def test_several_mistakes_are_told_at_once(refused):
    lines = refused("selection.budgt=3", "seed=-1", "target.precision=fp8").splitlines()
    assert sorted(line.partition(":")[0].partition("=")[0] for line in lines) == [
        "seed", "selection.budgt", "target.precision"]


def test_missing_sections_name_their_keys(refused):
    lines = refused(text="data: {path: a}").splitlines()
    assert [line.partition(", with")[0] for line in lines] == [
        "proxy: missing; add this section to the recipe", "target: missing; add this section to the recipe"]
    assert "model, epochs, max_steps" in lines[0]
    assert refused(text=GOOD.replace("name: second, ", "")) == (
        "evaluation.tasks.1.name: missing; set it in the recipe or as evaluation.tasks.1.name=VALUE")


def test_long_values_are_cut(refused):
    assert len(refused(f"data.limit={'x' * 5000}")) < 300


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "a recipe is a mapping of sections .* this file is empty"),
        ("# nothing\n", "this file is empty"),
        ("- a\n- b", "this file is a list"),
        ("just words", "this file is a str"),
        ("data: [a", "not a readable recipe: line 1, column 9: expected ',' or ']'"),
        ("a: b: c", "not a readable recipe: line 1, column 5: mapping values are not allowed here"),
        (b"\xff\xfe\x00", "not a readable recipe: 'utf-8' codec can't decode byte 0xff"),
        ("[" * 1500, "not a readable recipe: nested too deeply"),
        (GOOD + "data: {path: other.jsonl}\n", "not a readable recipe: line 9, column 1: found duplicate key data"),
    ],
)
def test_what_is_no_recipe(refused, text, message):
    assert re.search(message, refused(text=text))


def test_a_recipe_that_is_not_there(tmp_path):
    near = SHIPPED[0].stem[:-1]
    with pytest.raises(InputError, match=rf"'{near}' is neither a file nor .*Did you mean {SHIPPED[0].stem}\?"):
        load_recipe(near)
    with pytest.raises(InputError, match=r"neither a file nor one of the shipped recipes \(.*\)\.$"):
        load_recipe(tmp_path / "qqqqqqqq.yaml")
    with pytest.raises(InputError, match="neither a file nor"):
        load_recipe(tmp_path)  # a folder


# --- what must never happen --------------------------------------------------------------------------


@pytest.mark.parametrize("tag", ["!!python/object/apply:os.system", "!!python/object/new:os.system"])
def test_python_tags_are_not_executed(refused, tmp_path, tag):
    trap = tmp_path / "trap"
    assert "could not determine a constructor" in refused(text=GOOD + f"seed: {tag} ['touch {trap}']\n")
    assert "could not determine a constructor" in refused(f"seed={tag} ['touch {trap}']")
    assert not trap.exists()


def test_aliases_that_multiply_are_refused_at_once(refused):
    # Nine levels of nine aliases stand for 9^9, about 400 million values.
    letters = "abcdefghi"
    bomb = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n" for old, new in itertools.pairwise(letters))
    started = time.monotonic()
    assert "stands for more than 10,000 values" in refused(text=bomb)
    assert time.monotonic() - started < 2


def test_a_value_that_holds_itself_is_refused(refused):
    assert "stands for more than 10,000 values" in refused(text="data: &a {path: *a}")


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="ab1.-=:,'\"[]{}$&*!|>?%@# \n\\é", max_size=20))
def test_any_override_is_taken_or_refused_in_words(text):
    for override in (text, f"selection.budget={text}", f"selection.{text}=3", f"selection.controls.{text}=3"):
        try:
            parse_selection([override])
        except InputError as error:
            assert str(error)
