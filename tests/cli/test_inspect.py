"""`s2l inspect`: .venv/bin/pytest tests/cli/test_inspect.py"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from s2l_ray.cli.main import main
from s2l_ray.recipe.registry import SHAPES

ROOT = Path(__file__).parents[2]
ROWS = [{"instruction": f"Double {n}.", "output": f"It is {2 * n}.", "topic": "x"} for n in range(1, 31)]


@pytest.fixture
def inspect(tmp_path, monkeypatch, capsys):
    """Return a function from arguments to (exit code, stdout, stderr), in a folder that holds mine.jsonl."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))

    def run(*arguments):
        with pytest.raises(SystemExit) as ended:
            main(["inspect", *map(str, arguments)])
        output = capsys.readouterr()
        return ended.value.code or 0, output.out, " ".join(output.err.split())

    return run


def test_a_file_is_summed_up_and_three_rows_are_shown(inspect):
    code, out, err = inspect("mine.jsonl")
    found = json.loads(out.splitlines()[-1])
    assert code == 0, err
    assert (found["rows"], found["shape"], found["not_used"]) == (30, "alpaca", {"topic": 30})
    assert [row["row"] for row in found["shown"]] == [1, 15, 30]  # evenly, first and last included
    assert "stands between « and »" in out and "«It is 60.<|im_end|>\n»" in out and "scripts" in out


def test_rows_that_are_asked_for_come_alone_also_as_a_page(inspect, tmp_path):
    code, out, err = inspect("mine.jsonl", "--row", 7, "--row", "mine.jsonl:2", "--html", "page.html")
    found = json.loads(out.splitlines()[-1])
    assert code == 0, err
    assert [row["row"] for row in found["shown"]] == [2, 7] and "scripts" not in out
    page = (tmp_path / "page.html").read_text()
    assert "mine.jsonl row 7" in page and "<mark>It is 14.&lt;|im_end|&gt;\n</mark>" in page


def test_leaks_and_near_duplicates_are_listed_where_they_are_asked_for(inspect, tmp_path):
    long = "Which of the nine rivers that cross the northern plain carries the most water to the sea in spring?"
    rows = [*ROWS, {"instruction": long, "output": "None"}, {"instruction": f"{ROWS[4]['instruction']}!", "output": "it IS 10"}]
    (tmp_path / "mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "held.jsonl").write_text(json.dumps({"instruction": f"Tell me: {long}", "output": "The first"}) + "\n")
    code, out, err = inspect("mine.jsonl", "--eval", "held.jsonl", "data.near_duplicates.threshold=0.9")
    found = json.loads(out.splitlines()[-1])
    assert code == 0, err
    assert [(one["row"], one["task"], one["held_out_row"]) for one in found["leaks"]] == [(31, "held_out", 1)]
    assert [(one["row"], one["kept_row"]) for one in found["near_duplicates"]] == [(32, 5)]
    assert "mine.jsonl row 31: 13 words in a row with held_out" in " ".join(out.split())
    assert "leaks" not in json.loads(inspect("mine.jsonl", "--eval", "held.jsonl", "data.decontaminate=false")[1].splitlines()[-1])


def test_a_threshold_that_is_none_is_refused(inspect):
    code, _, err = inspect("mine.jsonl", "data.near_duplicates.threshold=80")
    assert code == 2 and "data.near_duplicates.threshold=80: should be less than 1" in err


def test_a_recipe_is_inspected_with_its_own_settings(inspect, small_recipe, word_problems, tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(json.dumps(small_recipe(word_problems, tmp_path / "out").model_dump(mode="json")))
    code, out, err = inspect(recipe, "--rows", 1, "data.max_length=16")
    found = json.loads(out.splitlines()[-1])
    assert code == 0, err
    assert found["rows"] == 400 and found["max_length"] == 16 and "proxy_base" in found["tokenizer"]
    assert found["shown"][0]["columns"]["id"] == "the row's id" and len(found["shown"]) == 1
    assert "<|im_start|>" not in out  # the recipe's prompt style is plain


def test_another_tokenizer_is_taken(inspect, small_recipe, word_problems, tmp_path):
    theirs = small_recipe(word_problems, tmp_path / "out").target.model.path
    code, out, err = inspect("mine.jsonl", "--tokenizer", theirs, "data.prompt_style=plain", "--row", 1)
    assert code == 0, err
    assert json.loads(out.splitlines()[-1])["tokenizer"] == theirs and "«It is 2.<|" in out


def test_a_csv_of_odd_names(inspect, tmp_path):
    (tmp_path / "mine räws (1).csv").write_text("Instruktion é,Antwort;x,my topic\nVerdopple 2,4,zahlen\n", encoding="utf-8")
    code, out, err = inspect("mine räws (1).csv", "data.columns.instruction=Instruktion é",
                             "data.columns.output=Antwort;x", "--row", 2)
    shown = json.loads(out.splitlines()[-1])["shown"]
    assert code == 0, err
    assert shown[0]["columns"]["Instruktion é"] == "the last user turn" and "my topic" in out and "«4<|im_end|>" in out


BAD = {
    "beyond the file": (["mine.jsonl", "--row", "31"], "--row 31: mine.jsonl has 30 rows, the last one in line 30"),
    "no file": (["none.jsonl"], "none.jsonl: no such file"),
    "empty": (["empty.jsonl"], "empty.jsonl: the file is empty"),
    "no rows to show": (["mine.jsonl", "--rows", "0"], "--rows"),
    "page over rows": (["mine.jsonl", "--html", "mine.jsonl"], "call the page .html"),
    "page nowhere": (["mine.jsonl", "--html", "/proc/none/x.html"], "--html /proc/none/x.html cannot be written"),
    "no template": (["mine.jsonl", "--tokenizer", "NO_TEMPLATE"], "data.prompt_style=alpaca"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_exits_2_and_leaves_no_page(inspect, case, tmp_path, small_recipe, word_problems):
    (tmp_path / "empty.jsonl").write_text("")
    arguments, message = BAD[case]
    theirs = small_recipe(word_problems, tmp_path / "out").target.model.path
    code, out, err = inspect(*(theirs if word == "NO_TEMPLATE" else word for word in arguments))
    assert code == 2 and message in err, err
    assert out == "" and not list(tmp_path.glob("*.html"))


def test_no_ray_is_needed(inspect, tmp_path):
    code = ("import sys; from s2l_ray.cli.main import main\n"
            "try: main(sys.argv[1:])\n"
            "except SystemExit as end: assert not end.code, end.code\n"
            "assert 'ray' not in sys.modules")
    command = ["inspect", tmp_path / "mine.jsonl", "--row", "1", f"storage={tmp_path}"]
    done = subprocess.run([sys.executable, "-c", code, *map(str, command)], cwd=ROOT, capture_output=True, text=True,
                          check=False)
    assert done.returncode == 0, done.stderr


def test_every_shape_says_what_its_fields_become():
    assert [f"{shape.name}.{field}" for shape in SHAPES for field in shape.fields
            if shape.what_becomes_of(field) == field] == []
