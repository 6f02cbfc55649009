"""What people bring, in small made-up form: .venv/bin/pytest tests/hostile/test_field_cases.py

The cases lie beside the project (shared/research/field-cases); each says what is right.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from s2l_ray.errors import InputError
from s2l_ray.metrics.answers import extract_answer
from s2l_ray.metrics.equality import answers_equal
from s2l_ray.metrics.responses import judge_response
from s2l_ray.recipe.data import DataConfig
from s2l_ray.rows.first_rows import find_shape
from s2l_ray.rows.held_out import held_out_rows
from s2l_ray.rows.scanning import scan_all
from s2l_ray.stages.gold import check_rows, find_rule

CASES = Path(__file__).resolve().parents[3] / "shared" / "research" / "field-cases"
pytestmark = pytest.mark.skipif(not CASES.is_dir(), reason=f"no field cases at {CASES}")
GAP = "\x00"
TOOLS = (
    "{%- if tools -%}<|im_start|>system\nTools:\n{% for tool in tools %}{{ tool | tojson }}\n{% endfor %}<|im_end|>\n{%- endif -%}"
    "{%- for m in messages -%}<|im_start|>{{ m.role }}\n{{ m.content }}"
    "{%- for call in m.tool_calls or [] -%}<tool_call>{{ call.function | tojson }}</tool_call>{%- endfor -%}<|im_end|>\n"
    "{%- endfor -%}{%- if add_generation_prompt -%}<|im_start|>assistant\n{%- endif -%}"
)


def read(name):
    return [json.loads(line) for line in (CASES / name).read_text(encoding="utf-8").splitlines()] if CASES.is_dir() else []


def table(name):
    text = (CASES / name).read_text(encoding="utf-8") if CASES.is_dir() else ""
    return [line.split("\t") for line in text.split("\n")[1:] if line.strip("\n")]


def template(name):
    return (CASES / "templates" / f"{name}.jinja").read_text(encoding="utf-8").rstrip("\n")


def texts(tokenizer, kept):
    """Return what of the examples is seen, and what is learned, as one text each; runs of tokens are parted by GAP."""
    seen, learned = [], []
    for ids, mask in zip(kept["input_ids"].to_pylist(), kept["supervised"].to_pylist(), strict=True):
        seen.append(tokenizer.decode(ids))
        runs = [[]]
        for token, is_learned in zip(ids, mask, strict=True):
            runs = [*runs[:-1], [*runs[-1], token]] if is_learned else [*runs, []] if runs[-1] else runs
        learned.append(GAP.join(tokenizer.decode(run) for run in runs if run))
    return "\n".join(seen), "\n".join(learned)


def lines(rows):
    return "\n".join(json.dumps(row) for row in rows) + "\n"


@pytest.mark.parametrize("case", read("context.jsonl"), ids=lambda case: case["id"])
def test_nothing_of_a_row_is_lost(accounts_of, tokenizer_of, case):
    right, has_tools = case["right"], any("tools" in row for row in case["rows"])
    tokenizer = tokenizer_of(TOOLS)
    settings = {"prompt_style": "chat"} if has_tools else {}
    settings |= {"format": "preference"} if "asked" in right else {}
    apart = [{"rows.jsonl": lines([row])} for row in case["rows"]]
    files = apart if "two files" in right.get("note", "") else [{"rows.jsonl": lines(case["rows"])}]
    found = [accounts_of(each, tokenizer=tokenizer, max_length=4096, **settings) for each in files]
    for accounts, _ in found:
        for name in ("examples", "duplicates", "quarantined"):
            assert getattr(accounts, f"num_{name}") == right.get(name, getattr(accounts, f"num_{name}")), name
        assert accounts.num_examples == right.get("asked", accounts.num_examples)
        assert set(right.get("named", [])) | set(right.get("named_otherwise", [])) <= accounts.not_used.keys()
    seen, learned = ("\n".join(each) for each in zip(*(texts(tokenizer, kept) for _, kept in found), strict=True))
    assert all(text in seen for text in right.get("seen", []))
    assert all(text in learned for text in right.get("learned", []) if "named_otherwise" not in right)
    assert not any(text in learned for text in right.get("not_learned", []))
    assert not any(text in seen for text in right.get("not_seen", []))


def test_thoughts_that_a_template_shows_are_learned(accounts_of, tokenizer_of):
    (case,) = (case for case in read("context.jsonl") if "examples_with_thinking_template" in case["right"])
    tokenizer = tokenizer_of(template("qwen3_like"))
    accounts, kept = accounts_of({"rows.jsonl": lines(case["rows"])}, tokenizer=tokenizer, prompt_style="chat",
                                 max_length=4096)
    assert accounts.num_examples == case["right"]["examples_with_thinking_template"] and accounts.num_duplicates == 0
    assert all(text in texts(tokenizer, kept)[1] for text in case["right"]["learned"]) and not accounts.not_used


def test_a_template_without_tools_says_so(accounts_of, tokenizer_of):
    (case,) = (case for case in read("context.jsonl") if any("tools" in row for row in case["rows"]))
    accounts, _ = accounts_of({"rows.jsonl": lines(case["rows"])}, tokenizer=tokenizer_of(template("marked")),
                              prompt_style="chat", max_length=4096)
    assert accounts.quarantine["detail"].to_pylist() == [
        "the chat template has no place for the tool get_weather: it would be lost"]


@pytest.mark.parametrize(("case", "name"), [(case, name) for case in read("dialogues.jsonl") for name in case["templates"]],
                         ids=lambda value: value if isinstance(value, str) else value["id"])
def test_what_is_learned_of_a_dialogue(accounts_of, tokenizer_of, case, name):
    tokenizer = tokenizer_of(template(name))
    accounts, kept = accounts_of({"rows.jsonl": lines([{"messages": case["messages"]}])}, tokenizer=tokenizer,
                                 prompt_style="chat", max_length=4096)
    assert accounts.num_quarantined == case["quarantined"], accounts.quarantine.to_pylist()
    learned = texts(tokenizer, kept)[1]
    assert all(learned.count(text) == 1 for text in case["learned"]), learned
    assert not any(text in learned for text in case["never"]), learned
    assert learned.count(GAP) == len(case["learned"]) - 1, "each turn with its end, and nothing between them"


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Return the folder of data folders whose files differ as people's do."""
    root = tmp_path_factory.mktemp("files")
    subprocess.run([sys.executable, CASES / "make_files.py", root], check=True)
    return root


@pytest.mark.parametrize("case", read("files.jsonl"), ids=lambda case: case["folder"])
def test_files_as_people_have_them(accounts_of, folders, case):
    right, path = case["right"], str(folders / case["folder"])
    if "refused" in right:
        with pytest.raises(InputError, match=r"split=test or split=train|column 'output' is double, but string in"):
            accounts_of({}, path=path)
        if "train" in case["folder"]:
            assert accounts_of({}, path=path, split="train")[0].num_examples == 6
        return
    accounts, _ = accounts_of({}, path=path)
    assert (accounts.num_examples, accounts.num_quarantined) == (right["examples"], right.get("quarantined", 0))
    if "reasons" in right:
        assert accounts.quarantine["row"].to_pylist() == [1, 2] and all(accounts.quarantine["detail"].to_pylist())


@pytest.mark.parametrize("case", read("gold.jsonl"), ids=lambda case: case["id"])
def test_gold_answers_and_what_is_judged_by_them(tmp_path, case):
    (tmp_path / "task.jsonl").write_text(lines(case["task"]))
    data, scans = DataConfig(path=str(tmp_path / "task.jsonl")), scan_all(str(tmp_path / "task.jsonl"), None)
    rows = list(held_out_rows(scans, find_shape(scans, data), data))
    rule = find_rule([(row, response) for _, row, response in rows], "auto", None)
    if case["gold"] == "refused":
        with pytest.raises(InputError, match="row 1 has no gold answer"):
            check_rows(rule, rows, "task")
        return
    check_rows(rule, rows, "task")
    golds = [rule.read(row, response) for _, row, response in rows]
    right = [one if isinstance(one, list) else [one] for one in case["gold"]]
    assert [list(gold.accepted) for gold in golds] == right
    for said, is_right in case["pairs"]:
        assert judge_response(said, golds[0].accepted, golds[0].choices).is_equal == bool(is_right), said


@pytest.mark.parametrize(("said", "kind", "answer"), table("extraction.tsv"))
def test_the_final_answer_of_a_response(said, kind, answer):
    found = extract_answer(said.replace("\\n", "\n"), "expression" if kind == "latex" else kind)
    assert (found or "") == answer


@pytest.mark.parametrize(("given", "gold", "equal"), table("equality.tsv"))
def test_equal_answers(given, gold, equal):
    assert answers_equal(given, gold) == (equal == "1")
