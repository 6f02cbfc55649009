"""Leaks of held-out questions, by hand: .venv/bin/pytest tests/rows/test_leaks.py"""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s2l_ray.recipe.data import DataConfig
from s2l_ray.rows.compared import Texts
from s2l_ray.rows.held_out import HeldOutRow, HeldOutRows
from s2l_ray.rows.leaks import SAME_ROW, HeldOut, index_held_out
from s2l_ray.storage.files import Storage

LETTERS = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o", "p", "q", "r", "s", "t", "u", "v", "w", "x", "y", "z"]


def words(start, stop, name="h"):
    """Words that occur nowhere else: h3 h4 ..."""
    return " ".join(f"{name}{n}" for n in range(start, stop))


def held_out(*prompts, answers=None, task="test"):
    rows = [HeldOutRow("held.jsonl", n + 1, f"key {n}", Texts((prompt,), (answer,)))
            for n, (prompt, answer) in enumerate(zip(prompts, answers or [""] * len(prompts), strict=True))]
    return index_held_out([(task, rows)])


def find(index, *rows, keys=None):
    """What each (prompt, answer) is: (held-out row, how, shared words), None where it is no leak."""
    texts = [None if row is None else Texts((row[0],), (row[1],)) for row in rows]
    found = index.find(texts, keys or [None] * len(rows)).to_pylist()
    return [None if one is None else (one["held_out_row"], one["how"], one["shared"]) for one in found]


def test_thirteen_words_in_a_row_are_a_leak_and_twelve_are_not():
    index = held_out(words(0, 40), words(50, 90))
    assert find(index, (f"Well, {words(20, 33)} so?", "yes"), (f"Well, {words(20, 32)} so what is it then?", "yes"),
                ("nothing", f"The question was: {words(60, 80).upper()}!"), None, ("", "")) == [
        (1, "13 words in a row", words(20, 33)), None, (2, "13 words in a row", words(60, 73)), None, None]


def test_a_run_does_not_reach_from_one_text_into_the_next():
    index = held_out(words(0, 40))
    assert find(index, (f"a b c d e f {words(10, 17)}", f"{words(17, 24)} a b c d e f")) == [None]


def test_of_a_shorter_prompt_half_of_its_runs_of_eight_are_enough():
    # 12 words have 5 runs of 8. 10 shared words hold 3 of them, 9 hold 2.
    index = held_out(words(0, 40))
    assert find(index, (f"{words(5, 15)} x y", "long"), (f"{words(5, 14)} x y z", "long"), (words(5, 13), "long"),
                (words(5, 12), "long"), ("x", f"{words(5, 15)} x y")) == [
        (1, "half of its runs of 8 words", words(5, 13)), None, (1, "half of its runs of 8 words", words(5, 13)), None, None]


def test_a_short_held_out_prompt_is_found_whole_within_a_longer_text():
    index = held_out(words(0, 9), words(20, 27))
    around = "please answer this question as well as you can"
    assert find(index, (f"{around}: {words(0, 9)}", ""), (f"{around}: {words(0, 8)}", ""), (f"{around}: {words(20, 27)}", "")) == [
        (1, "a whole prompt", words(0, 9)), None, None]


def test_what_many_rows_of_a_task_share_is_no_evidence():
    template = "read the following passage with care and then say in one word whether the statement below follows from it"
    prompts = [f"{template}: {words(100 * n, 100 * n + 30)}" for n in range(20)]
    index = held_out(*prompts)
    own = [(f"{template}: {words(0, 30, 'p')}", ""), (f"{template}: {words(0, 3)} {words(0, 30, 'p')}", ""),
           (f"{template}: {words(300, 330)}", ""), (f"{template}.", "")]
    assert find(index, *own) == [None, None, (4, "13 words in a row", words(300, 313)), None]
    # Where two rows alone have it, it may as well be a passage with two questions.
    assert find(held_out(*prompts[:2]), own[0])[0][1] == "13 words in a row"


def test_answers_of_held_out_rows_are_no_evidence_but_the_row_itself_is():
    answer = "there are 60 minutes in an hour and 60 seconds in a minute so it is 3600"
    index = held_out("How long?", words(0, 20), answers=[answer, "x"])
    assert find(index, ("Of something else", answer), ("How long?", answer), ("b", "c"), keys=["z", "key 0", "key 1"]) == [
        None, (1, SAME_ROW, ""), (2, SAME_ROW, "")]


def test_several_tasks_are_named_each():
    rows = [HeldOutRow("x.jsonl", 1, "k", Texts((words(0, 20),), ()))], [HeldOutRow("y.jsonl", 7, "l", Texts((words(10, 40),), ()))]
    index = index_held_out([("one", rows[0]), ("other", rows[1])])
    found = index.find([Texts((words(0, 13),), ()), Texts((words(20, 40),), ()), Texts((words(6, 40),), ())], [None] * 3).to_pylist()
    assert [(one["task"], one["held_out_file"], one["held_out_row"]) for one in found] == [
        ("one", "x.jsonl", 1), ("other", "y.jsonl", 7), ("one", "x.jsonl", 1)]


@pytest.mark.parametrize("rows", [[], [("", "")], [("?!", "...")]])
def test_held_out_rows_without_words(rows):
    index = held_out(*[prompt for prompt, _ in rows])
    assert find(index, (words(0, 30), "x"), ("", "")) == [None, None]
    assert find(held_out(words(0, 30))) == []


texts = st.lists(st.lists(st.sampled_from(LETTERS[:6]), min_size=1, max_size=30).map(" ".join), max_size=8)


@given(texts, texts, st.lists(st.integers(0, 8), max_size=3))
def test_units_change_nothing_and_every_leak_has_its_words(held, pool, cuts):
    index = held_out(*held)
    rows = [(prompt, "") for prompt in pool]
    whole = find(index, *rows)
    bounds = [0, *sorted(min(cut, len(rows)) for cut in cuts), len(rows)]
    assert [one for a, b in itertools.pairwise(bounds) for one in find(index, *rows[a:b])] == whole
    again = HeldOut(index.rows, index.grams)
    assert find(again, *rows) == whole
    for (prompt, _), leak in zip(rows, whole, strict=True):
        if leak is not None:
            assert leak[2] in prompt and leak[2] in held[leak[0] - 1]


@given(texts)
def test_copies_of_long_prompts_are_always_found(held):
    """Unless other rows of the task share their words."""
    index = held_out(*(f"{prompt} {words(20 * n, 20 * n + 13)}" for n, prompt in enumerate(held)))
    found = find(index, *((f"x {words(20 * n, 20 * n + 13)} {prompt}", "") for n, prompt in enumerate(held)))
    assert [one and one[0] for one in found] == [n + 1 for n in range(len(held))]


def test_the_rows_of_a_task_are_those_that_it_is_evaluated_on(tmp_path):
    lines = [f'{{"prompt": "question {n}", "completion": "answer {n}"}}\n' for n in range(50)]
    (tmp_path / "task.jsonl").write_text("".join([*lines, "no json\n", '{"prompt": "x"}\n']))
    storage = Storage.open(str(tmp_path / "out"))
    every = HeldOutRows.scanned(storage, "t", DataConfig(path=str(tmp_path / "task.jsonl")), 0)
    assert [row.texts.prompt for row in every.read()] == [(f"question {n}",) for n in range(50)]
    some = HeldOutRows.scanned(storage, "t", DataConfig(path=str(tmp_path / "task.jsonl"), limit=10), 3)
    assert len(list(some.read())) <= 10 and "seed" not in every.identity and some.identity["seed"] == 3
    other = HeldOutRows.scanned(storage, "t", DataConfig(path=str(tmp_path / "task.jsonl"), limit=10), 4)
    assert [row.row for row in some.read()] != [row.row for row in other.read()] and other.identity != some.identity
