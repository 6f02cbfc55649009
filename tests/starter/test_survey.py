"""What a sample of rows is like: .venv/bin/pytest tests/starter/test_survey.py"""

import json

import numpy as np
import pytest
import yaml

from s2l_ray.recipe.data import DataConfig
from s2l_ray.recipe.loading import load_recipe
from s2l_ray.recipe.model import ModelConfig
from s2l_ray.rows.held_out import HeldOutRows
from s2l_ray.rows.leaks import index_held_out
from s2l_ray.starter.findings import facts, findings
from s2l_ray.starter.look import look_at
from s2l_ray.starter.recipe import recipe_text, starter_recipe
from s2l_ray.starter.survey import Lengths, measure, survey
from s2l_ray.starter.vocabulary import learn_tokenizer
from s2l_ray.storage.files import Storage

ALPACA = {"instruction": "Double 2.", "input": "", "output": "It is 4.", "system": "Be brief.", "topic": "sums"}


@pytest.fixture
def surveyed(write, tmp_path):
    """Return a function from rows to their survey, through their own tokenizer."""

    def look(rows, *overrides):
        found = look_at(write(rows), ["data.prompt_style=chat", *overrides])
        return survey(found, ModelConfig(path=str(learn_tokenizer(found, tmp_path / "models"))))

    return look


def test_rows_are_counted_as_prepare_counts_them(surveyed):
    rows = [{**ALPACA, "instruction": f"Double {n}.", "source": "ab"[n % 2]} for n in range(6)]
    found = surveyed([*rows, rows[0], {**rows[1], "topic": None}, "no json", "{}", {**rows[2], "output": " "}, "nor this"])
    assert (found.look.num_rows, found.num_rows, found.num_duplicates) == (12, 12, 2)
    assert found.fields == {"instruction": 9, "system": 9, "source": 9, "output": 8, "topic": 8}
    assert found.sources == {"a": 4, "b": 4} and found.not_used == {"topic": 7}
    assert {reason: (bad.count, bad.row) for reason, bad in found.bad.items()} == {
        "not_json": (2, 9), "missing_field": (1, 10), "empty_field": (1, 11)}
    said = dict(findings(found, 512))
    assert said["columns"].startswith("instruction (9), system (9)") and said["sources"] == "a (4), b (4) (by column)"
    assert "output is empty" in " ".join(how for what, how in findings(found, 512) if what == "quarantined")
    assert json.loads(json.dumps(facts(found, 512)))["quarantined"] == {"not_json": 2, "missing_field": 1, "empty_field": 1}


def test_near_duplicates_are_listed_where_they_are_asked_for(surveyed):
    text = "The quick brown fox jumps over the lazy dog while eleven other animals of the wood look on and say nothing at all"
    rows = [{"instruction": text, "output": "Yes."}, {"instruction": "Something else entirely.", "output": "No."},
            {"instruction": f"{text}!!", "output": "yes"}]
    assert surveyed(rows).near_duplicates is None
    found = surveyed(rows, "data.near_duplicates.threshold=0.8")
    expected = {"file": "mine.jsonl", "row": 3, "kept_file": "mine.jsonl", "kept_row": 1, "similarity": 1.0}
    assert found.near_duplicates == [expected] == facts(found, 512)["near_duplicates"]
    said = findings(found, 512)
    assert ("near-duplicates", "1 (rows that are nearly an earlier one)") in said
    assert ("near-duplicate", "mine.jsonl row 3 is 100% like mine.jsonl row 1") in said


def test_leaks_of_a_task_are_listed(write, tmp_path):
    long = "Which of the nine rivers that cross the northern plain carries the most water to the sea in spring?"
    held_out = write([{"instruction": long, "output": "None."}], "held.jsonl")
    found = look_at(write([{"instruction": "Hello", "output": "you"}, {"instruction": f"Say: {long}", "output": "No."}]),
                    ["data.prompt_style=chat"])
    model = ModelConfig(path=str(learn_tokenizer(found, tmp_path / "models")))
    index = index_held_out([("rivers", HeldOutRows.scanned(Storage(str(tmp_path)), "rivers", DataConfig(path=held_out), 0).read())])
    [leak] = survey(found, model, held_out=index).leaks
    assert (leak["file"], leak["row"], leak["task"], leak["held_out_row"]) == ("mine.jsonl", 2, "rivers", 1)
    assert survey(found, model).leaks is None
    said = dict(findings(survey(found, model, held_out=index), 512))
    assert said["leaks"].startswith("1 (rows that hold text")
    assert said["leak"] == ("mine.jsonl row 2: 13 words in a row with rivers, held.jsonl row 1: "
                            "'which of the nine rivers that cross the northern plain carries the most'")


def test_ids_that_two_rows_bear_are_quarantined(surveyed):
    found = surveyed([{**ALPACA, "output": f"{n}", "id": "same"} for n in range(2)], "data.id_column=id")
    assert [(reason, bad.count, bad.row) for reason, bad in found.bad.items()] == [("duplicate_id", 1, 2)]
    assert found.not_used == {"topic": 2}


def test_letters_are_told_by_their_scripts(surveyed):
    found = surveyed([{"prompt": "abcd, 123!", "completion": "漢字ab"}, {"prompt": "Привет", "completion": "مرحبا"}])
    assert found.scripts == pytest.approx({"Latin": 6 / 19, "Cyrillic": 6 / 19, "Arabic": 5 / 19, "Han": 2 / 19})
    assert surveyed([{"prompt": "1 + 1?", "completion": "2"}]).scripts == {}


@pytest.mark.parametrize(("lengths", "fitting"), [
    ([10] * 100, 512), ([10] * 95 + [600] * 5, 512), ([10] * 94 + [600] * 6, 1024), ([10] * 90 + [1500] * 10, 2048),
    ([9000] * 10, 2048), ([], 512),
])
def test_the_length_is_the_smallest_that_holds_95_percent(lengths, fitting):
    assert Lengths(np.array(lengths, dtype=int), np.ones(len(lengths), dtype=int)).fitting == fitting


def test_long_rows_get_a_longer_recipe_that_says_why(write):
    words = " ".join(f"w{n}" for n in range(500))
    source = write([{"prompt": f"{n}", "completion": words} for n in range(30)])
    text, found = recipe_text(source, storage="out")
    recipe = yaml.safe_load(text)
    length = recipe["data"]["max_length"]
    assert length in (1024, 2048) and recipe["proxy"]["model"]["config"]["max_position_embeddings"] == length
    assert recipe["proxy"]["micro_batch_size"] == 8 * 512 // length and "holds 95% of the rows whole" in text
    assert "0.0% of them longer" in dict(found)["tokens"]
    assert starter_recipe(source, []).data.max_length == length


def test_rows_without_a_response_within_the_length_are_told(surveyed):
    found = surveyed([{"prompt": "word " * 700, "completion": "x"}, {"prompt": "a", "completion": "b"}])
    said = [how for what, how in findings(found, 512) if what == "quarantined"]
    assert said == ["1 of 2 no_supervised_token: nothing to learn within max_length 512"]
    assert facts(found, 512)["without_response"] == 1 and facts(found, 1024)["without_response"] == 0


def test_lengths_are_those_before_cutting(surveyed, tmp_path):
    found = surveyed([{**ALPACA, "output": "a longer one"}, ALPACA], "data.max_length=4")
    assert found.lengths.at(1.0) > 4 and found.lengths.share_longer(4) == 1.0
    again = measure(found.look, ModelConfig(path=str(learn_tokenizer(found.look, tmp_path / "models"))))
    assert again.num_tokens_N.tolist() == found.lengths.num_tokens_N.tolist()


def test_a_column_cannot_write_itself_into_the_recipe(write):
    name = "x\nstorage: /etc\u2028seed: 7\x85"
    text, _ = recipe_text(write([{**ALPACA, name: "y"}]), storage="out")
    assert yaml.safe_load(text)["storage"] == "out" and "seed" not in yaml.safe_load(text)
    with open("recipe.yaml", "w", encoding="utf-8") as file:
        file.write(text)
    assert isinstance(load_recipe("recipe.yaml").data, DataConfig)
