"""Recipes that are made for rows: .venv/bin/pytest tests/starter/test_starter.py"""

import json

import pytest
from transformers import AutoTokenizer

from s2l_ray.cli.main import main
from s2l_ray.errors import InputError
from s2l_ray.modeling.schedule import plan_training
from s2l_ray.modeling.tokenization import Tokenization
from s2l_ray.quickstart import ASSETS
from s2l_ray.recipe.loading import load_recipe
from s2l_ray.rows.shape import to_conversation
from s2l_ray.starter.kind import is_data
from s2l_ray.starter.recipe import name_of, recipe_text, starter_recipe

ROWS = {
    "alpaca": [{"instruction": f"Double {n}.", "input": "", "output": f"It is {2 * n}, doubled."} for n in range(60)],
    "sharegpt": [{"conversations": [{"from": "human", "value": f"Häuser {n}?"}, {"from": "gpt", "value": f"漢字 {n}"}]}
                 for n in range(60)],
    "messages": [{"messages": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": f"Hi {n}"},
                               {"role": "assistant", "content": f"Hey {n}", "reasoning_content": "a greeting"}]}
                 for n in range(60)],
}


@pytest.fixture
def rows_file(tmp_path, monkeypatch):
    """Return a maker of files of rows, in the folder that commands run in."""
    monkeypatch.chdir(tmp_path)

    def write(shape, name="mine.jsonl"):
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in ROWS[shape]))
        return name

    return write


@pytest.mark.parametrize("count", [2, 40, 191, 192, 300])
def test_however_few_the_rows_there_is_a_step_for_every_point(tmp_path, monkeypatch, count):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "few.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [
        {"instruction": f"Double {n}.", "output": f"It is {2 * n}."} for n in range(count)]))
    recipe = starter_recipe("few.jsonl", ["selection.budget=1.0"])
    plan = plan_training(recipe.proxy, count, recipe.trajectory)
    # Two epochs of 192 rows are 2 x 6 steps of 32: two for each of the six points; fewer rows are seen more often.
    assert plan.total_steps >= 12 and len(plan.points) == 7
    assert (recipe.proxy.epochs is None) == (count < 192)


@pytest.mark.parametrize("shape", ROWS)
def test_the_recipe_of_a_file_sees_all_of_its_rows(rows_file, shape):
    recipe = starter_recipe(rows_file(shape), ["selection.budget=0.2"])
    assert (recipe.name, recipe.selection.budget, recipe.data.path) == ("mine", 0.2, "mine.jsonl")
    tokenizer = AutoTokenizer.from_pretrained(recipe.proxy.model.tokenizer)
    tokenization = Tokenization(tokenizer, recipe.data.prompt_style, recipe.data.max_length)
    pieces = [tokenization.render(to_conversation(row, shape)) for row in ROWS[shape]]
    for row, example in zip(ROWS[shape], tokenization.tokenize(pieces), strict=True):
        text = tokenizer.decode(example.input_ids[example.supervised])
        last = to_conversation(row, shape).turns[-1]
        assert last.content in text and last.thinking in text and text.endswith("<|im_end|>\n")
    assert not any(name for piece in pieces for name in piece[0].unseen)


def test_the_tokenizer_is_of_the_rows_and_learned_once(rows_file, tmp_path):
    first = starter_recipe(rows_file("alpaca"), []).proxy.model.tokenizer
    before = (tmp_path / "out" / "models").stat().st_mtime_ns
    assert starter_recipe("mine.jsonl", []).proxy.model.tokenizer == first
    assert (tmp_path / "out" / "models").stat().st_mtime_ns == before
    words = AutoTokenizer.from_pretrained(first).tokenize("It is 84, doubled.")
    assert len(words) < 9, words  # bytes alone would be 18
    assert starter_recipe(rows_file("messages", "other.jsonl"), []).proxy.model.tokenizer != first


def test_what_is_rows_and_what_a_recipe(rows_file, tmp_path):
    assert is_data(rows_file("alpaca")) and is_data(str(tmp_path)) and is_data("s3://b/rows.parquet") and is_data("a/*.csv.gz")
    assert not is_data("quickstart") and not is_data("mine.yaml")
    for text, rows in [('{"data": {"path": "a.jsonl"}, "selection": {"budget": 3}}', False), ('[{"data": "x"}]', True),
                       ('{"prompt": "a", "completion": "b"}\n{"prompt": "c", "completion": "d"}\n', True)]:
        (tmp_path / "mine.json").write_text(text)
        assert is_data("mine.json") is rows, text
    assert [name_of(path) for path in ("a/mine.jsonl.gz", "my räws (1).csv", "s3://b/set/", "*.jsonl")] == [
        "mine", "my-r-ws-1", "set", "mine"]


def test_what_the_errors_advise_is_followed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.jsonl").write_text('{"instruction": "Say hi", "outptu": "hi"}\n')
    with pytest.raises(InputError, match=r"near names: data\.columns\.output=outptu"):
        starter_recipe("bad.jsonl", [])
    assert starter_recipe("bad.jsonl", ["data.columns.output=outptu"]).data.columns == {"output": "outptu"}
    for split in ("train", "test"):
        (tmp_path / f"{split}.jsonl").write_text('{"prompt": "a", "completion": "b"}\n')
    with pytest.raises(InputError, match="split=test or split=train"):
        starter_recipe("t*.jsonl", [])
    assert starter_recipe("t*.jsonl", ["data.split=train"]).data.split == "train"


def test_init_writes_a_recipe_that_loads_and_never_over_another_file(rows_file, capsys):
    text, found = recipe_text(rows_file("alpaca"), storage="./out")
    assert text.count("#") > 10 and all(f"# {what}: {how}\n" in text for what, how in found)
    with pytest.raises(SystemExit) as done:
        main(["init", "mine.jsonl"])
    assert done.value.code == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == {"recipe": "recipe.yaml"}
    recipe, own = load_recipe("recipe.yaml"), starter_recipe("mine.jsonl", [])
    assert recipe.model_copy(update={"name": "mine"}) == own
    with pytest.raises(SystemExit) as done:
        main(["init", "mine.jsonl"])
    assert done.value.code == 2 and "recipe.yaml is there already" in " ".join(capsys.readouterr().err.split())


def test_rows_that_are_none_are_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.jsonl").write_text('{"a": 1}\n')
    with pytest.raises(InputError, match="no known format fits the columns: a"):
        starter_recipe("bad.jsonl", [])
    with pytest.raises(InputError, match=r"none\.jsonl: no such file"):
        starter_recipe("none.jsonl", [])
    with pytest.raises(InputError, match=r"storage='s3://b/x'.*local folder"):
        (tmp_path / "good.jsonl").write_text('{"prompt": "a", "completion": "b"}\n')
        starter_recipe("good.jsonl", ["storage=s3://b/x"])


def test_how_rows_are_read_is_written_into_their_recipe(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.csv").write_text("frage,antwort,id\n" + "".join(f"Double {n},It is {2 * n},{n}\n" for n in range(30)))
    with pytest.raises(InputError, match=r"no known format fits the columns: frage, antwort"):
        recipe_text("mine.csv", storage="./out")
    settings = ["data.columns.question=frage", "data.columns.answer=antwort", "data.id_column=id", "data.max_length=256"]
    (tmp_path / "recipe.yaml").write_text(recipe_text("mine.csv", settings, storage="./out")[0])
    made = load_recipe("recipe.yaml", [])
    assert made.data.columns == {"question": "frage", "answer": "antwort"} and made.data.id_column == "id"
    assert (made.data.max_length, made.proxy.model.config["max_position_embeddings"]) == (256, 256)
    with pytest.raises(InputError, match=r"selection.budget=5: only data.KEY=VALUE"):
        recipe_text("mine.csv", ["selection.budget=5"], storage="./out")


def test_the_length_is_measured_through_the_tokenizer_that_is_given(tmp_path, monkeypatch):
    # 300 characters of three bytes: about 900 tokens for one that has learned none of them, few for the rows' own.
    monkeypatch.chdir(tmp_path)
    rows = [{"instruction": "漢字" * 150, "output": f"{n}"} for n in range(60)]
    (tmp_path / "mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    path = json.dumps(str(ASSETS / "proxy_base"))
    given = ["proxy.model.config=null", "proxy.model.tokenizer=null", f"proxy.model.path={path}", "data.prompt_style=alpaca"]
    own, theirs = (starter_recipe("mine.jsonl", settings).data.max_length for settings in ([], given))
    assert (own, theirs) == (512, 1024)


def test_a_storage_that_is_a_file_is_refused_before_anything_is_written(rows_file, tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(InputError, match=r"storage './taken' cannot be written: .*Set storage= to a place you own"):
        starter_recipe(rows_file("alpaca"), ["storage=./taken"])
