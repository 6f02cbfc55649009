"""Rows as the model will see them: .venv/bin/pytest tests/starter/test_inspect.py"""

import io

import pytest
from rich.console import Console
from transformers import AutoTokenizer

from s2l_ray.modeling.tokenization import Tokenization
from s2l_ray.recipe.model import ModelConfig
from s2l_ray.rows.shape import to_conversation
from s2l_ray.starter.columns import NOT_USED
from s2l_ray.starter.inspect import Run, SeenRow, inspect_rows
from s2l_ray.starter.look import look_at
from s2l_ray.starter.page import render
from s2l_ray.starter.show import marks_of, show_rows
from s2l_ray.starter.vocabulary import learn_tokenizer

ALPACA = {"instruction": "Double 2.", "input": "", "output": "It is 4.", "system": "Be brief.", "topic": "sums"}
MESSAGES = {
    "tools": [{"type": "function", "function": {"name": "add", "parameters": {}}}],
    "messages": [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "wrong", "weight": 0},
                 {"role": "user", "content": "Add."},
                 {"role": "assistant", "content": "4", "weight": 1, "mood": "calm"}, {"role": "user", "content": "Thanks"}],
}
SHAREGPT = {"conversations": [{"from": "human", "value": "漢字 🙂?"}, {"from": "gpt", "value": "Ja, naïve 🙂🙂"}]}
THOUGHTFUL = {"messages": [{"role": "user", "content": "2?"},
                           {"role": "assistant", "content": "4", "reasoning_content": "two and two"}]}


@pytest.fixture
def seen(write, tmp_path):
    """Return a function from rows to what became of all of them, through their own tokenizer."""

    def look(rows, *overrides):
        found = look_at(write(rows), ["data.prompt_style=chat", *overrides])
        model = ModelConfig(path=str(learn_tokenizer(found, tmp_path / "models")))
        return inspect_rows(found, model, found.spread(100))

    return look


def learned(row):
    return "".join(run.text for run in row.runs if run.state == "learned")


def test_what_each_column_became(seen):
    [row] = seen([{**ALPACA, "source": "school"}])
    assert dict(row.columns) == {
        "instruction": "the last user turn", "input": "empty: as if it were not there", "output": "the last assistant turn",
        "system": "the first turn, the system's", "topic": NOT_USED, "source": "the row's source"}
    assert (row.shape, row.source, row.reason, row.duplicate_of) == ("alpaca", "school", "", None)
    assert "Be brief." in "".join(run.text for run in row.runs) and learned(row) == "It is 4.<|im_end|>\n"


def test_messages_with_tools_and_a_weight_of_zero(seen):
    [row] = seen([MESSAGES])
    became = dict(row.columns)
    assert [name for name in became if name.startswith("tools")] == ["tools"]
    assert became["tools"] == "the tools that the chat template is given"
    assert became["messages"].endswith("user, assistant, user, assistant, user")
    assert became["messages[].weight"] == "message 2: seen, not learned"
    assert became["messages: message 5"] == "left out: no assistant answers" and became["messages[].mood"] == NOT_USED
    assert learned(row) == "4<|im_end|>\n" and "wrong" in row.runs[0].text and '"add"' in row.runs[0].text
    assert not any("Thanks" in run.text for run in row.runs)


def test_thoughts_and_renamed_columns_and_roles(seen):
    became = dict(seen([THOUGHTFUL])[0].columns)
    assert became["messages[].reasoning_content"] == "message 2: thoughts, given to the chat template"
    plain = dict(seen([THOUGHTFUL], "data.prompt_style=plain")[0].columns)
    assert plain["messages[].reasoning_content"] == "message 2: thoughts, which the text leaves out"
    renamed = {"messages": [{"role": "guest", "content": "a"}, {"role": "host", "content": "b"}]}
    [row] = seen([renamed], "data.roles.guest=user", "data.roles.host=assistant")
    assert dict(row.columns)["messages"].endswith("user, assistant") and learned(row) == "b<|im_end|>\n"
    [row] = seen([{"q": "a", "output": "b"}], "data.columns.instruction=q")
    assert dict(row.columns)["q"] == "the last user turn"


@pytest.mark.parametrize("style", ["chat", "plain", "alpaca"])
@pytest.mark.parametrize("row", [ALPACA, SHAREGPT, THOUGHTFUL], ids=["alpaca", "sharegpt", "messages"])
def test_what_is_marked_is_what_is_supervised(seen, tmp_path, row, style):
    [found] = seen([row], f"data.prompt_style={style}")
    [folder] = (tmp_path / "models").iterdir()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenization = Tokenization(tokenizer, style, 512)
    pieces = tokenization.render(to_conversation(row, found.shape))
    [tokens] = tokenization.tokenize([pieces])
    assert learned(found) == tokenizer.decode(tokens.input_ids[tokens.supervised])
    assert "".join(run.text for run in found.runs) == tokenizer.decode(tokens.input_ids)
    assert (found.num_tokens, found.num_learned) == (len(tokens.input_ids), tokens.supervised.sum())
    assert "".join(tokenization.spell(pieces)) == tokenizer.decode(tokens.input_ids)


def test_a_cut_row_says_what_no_model_sees(seen):
    [whole], [cut] = seen([ALPACA]), seen([ALPACA], "data.max_length=40")
    assert (cut.num_tokens, cut.num_cut) == (40, whole.num_tokens - 40) and cut.num_learned < whole.num_learned
    assert "".join(run.text for run in cut.runs) == "".join(run.text for run in whole.runs)
    [gone] = seen([ALPACA], "data.max_length=5")
    assert gone.reason == "no_supervised_token" and "max_length=5" in gone.detail and learned(gone) == ""


def test_bad_rows_among_good_ones_and_repeated_ones(seen):
    rows = seen([ALPACA, "no json", {**ALPACA, "output": ""}, {**ALPACA, "output": ["x"]}, {**ALPACA, "topic": "more"}])
    assert [(row.row, row.reason) for row in rows] == [
        (1, ""), (2, "not_json"), (3, "empty_field"), (4, "wrong_type"), (5, "")]
    assert rows[1].raw == "no json" and not rows[1].columns and not rows[1].runs
    assert dict(rows[2].columns)["output"] == "empty, and the row needs it"
    assert rows[4].duplicate_of == ("mine.jsonl", 1) and rows[0].duplicate_of is None


def test_a_repeated_row_is_known_from_rows_that_are_not_shown(write, tmp_path):
    look = look_at(write([ALPACA, {**ALPACA, "output": "5"}, ALPACA]), ["data.prompt_style=chat"])
    model = ModelConfig(path=str(learn_tokenizer(look, tmp_path / "models")))
    assert [row.duplicate_of for row in inspect_rows(look, model, [look.row("3"), look.row("2")])] == [
        None, ("mine.jsonl", 1)]


def shown(rows, **settings):
    console = Console(file=io.StringIO(), width=100, highlight=False, **settings)
    show_rows(console, rows, "rows count from 1", 512)
    return console.file.getvalue()


def test_a_pipe_gets_marks_that_no_text_holds_and_a_terminal_colour(seen):
    rows = seen([{**ALPACA, "output": "«4»"}])
    assert marks_of(rows) == ("⟦", "⟧") and "⟦«4»<|im_end|>\n⟧" in shown(rows)
    in_colour = shown(rows, force_terminal=True, color_system="truecolor", legacy_windows=False)
    assert "\x1b[1;32m«4»" in in_colour and "⟦" not in in_colour and "bold and green" in in_colour


def test_a_text_cannot_steer_the_terminal_nor_the_markup(seen):
    rows = seen([{**ALPACA, "output": "[red]a[/red] \x1b[2Jb", "to\x1bpic": "c"}, '{"\x1b[2J'])
    text = shown(rows)
    assert "\x1b" not in text and "«[red]a[/red] \\x1b[2Jb" in text


def test_the_page_holds_the_same_and_runs_nothing(seen):
    evil = "<script>alert(1)</script>"
    rows = seen([{**ALPACA, "output": f"{evil} &amp;", evil: "x"}, f'{{"{evil}'])
    page = render(evil, [(evil, evil)], rows, "rows count from 1", 512).decode()
    assert "<script" not in page and "http-equiv" in page and "default-src 'none'" in page
    assert "<mark>&lt;script&gt;alert(1)&lt;/script&gt; &amp;amp;&lt;|im_end|&gt;\n</mark>" in page
    assert "would be quarantined: not_json" in page and "//" not in page.replace("</", "")


def test_the_page_shows_what_is_cut_and_every_surrogate():
    runs = [Run("a", "seen"), Run("b\ud83d", "learned"), Run("c" * 3_000, "cut")]
    page = render("x", [], [SeenRow("f", 1, "alpaca", "s", [("a", "b")], runs, num_cut=9)], "n", 2).decode()
    assert "<pre>a<mark>b?</mark><del>" + "c" * 2_000 + "... (1,000 characters more)</del></pre>" in page
    assert "cut at max_length 2: 9 tokens more" in page
