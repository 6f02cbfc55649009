"""Units of rows to examples, every row accounted for: .venv/bin/pytest tests/modeling/test_examples.py"""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s2l_ray.modeling.examples import PART, ExampleMaker
from s2l_ray.recipe.data import DataConfig
from s2l_ray.rows.reasons import Reason
from s2l_ray.rows.scanning import scan_file
from s2l_ray.rows.units import plan_units

GOOD = {"prompt": "What is 1+2?", "completion": "3"}


def config(**changes):
    return DataConfig(**{"path": "unused", "prompt_style": "plain", **changes})


def units_of(path, content, rows_per_unit=10**6):
    """The units of a JSONL file: `content` is its bytes, or the rows, each an object or the line's own text."""
    if not isinstance(content, bytes):
        lines = [row if isinstance(row, str) else json.dumps(row) for row in content]
        content = "".join(line + "\n" for line in lines).encode()
    path.write_bytes(content)
    return plan_units([scan_file(str(path))], rows_per_unit)


def make(tokenizer, unit, data=None, *, row_format="prompt_completion", keep=None, schema=None):
    maker = ExampleMaker(data or config(), row_format, tokenizer, schema)
    return maker.make(unit, None if keep is None else np.array(keep))


def parquet_unit(path, table, **options):
    pq.write_table(table, path, **options)
    return plan_units([scan_file(str(path))], 10**6)[0]


def text_of(tokenizer, ids):
    return tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)


def test_a_good_row_becomes_one_example(tokenizer, tmp_path):
    [unit] = units_of(tmp_path / "math.jsonl", [GOOD])
    table = make(tokenizer, unit)
    assert table.schema == PART
    [row] = table.to_pylist()
    assert (row["file"], row["row"], row["source"]) == ("math.jsonl", 1, "math")
    assert row["reason"] is row["detail"] is row["user_id"] is None
    assert text_of(tokenizer, row["input_ids"]) == "What is 1+2?\n3<|endoftext|>"
    assert row["num_tokens"] == len(row["input_ids"]) == len(row["supervised"])
    assert row["supervised"] == [False] * (row["num_tokens"] - 2) + [True, True]  # "3" and end-of-sequence
    assert row["num_supervised_tokens"] == 2
    assert row["truncated"] is False
    assert json.loads(row["raw"]) == GOOD


BAD = {
    "not JSON": ('{"prompt": ', Reason.NOT_JSON, "column 12"),
    "a list": ("[1, 2]", Reason.NOT_AN_OBJECT, "type list"),
    "half a surrogate pair": ('{"prompt": "\\ud83d", "completion": "x"}', Reason.INVALID_UTF8, "half a surrogate pair"),
    "no completion": ({"prompt": "Hi"}, Reason.MISSING_FIELD, "no column 'completion'"),
    "null completion": ({"prompt": "Hi", "completion": None}, Reason.MISSING_FIELD, "'completion' is null"),
    "blank completion": ({"prompt": "Hi", "completion": " \n"}, Reason.EMPTY_FIELD, "completion is empty"),
    "a number": ({"prompt": "Hi", "completion": 3}, Reason.WRONG_TYPE, "type int, expected text"),
    "too long": ({**GOOD, "note": "x" * 2000}, Reason.TOO_LONG, r"2,\d{3} characters, data.max_row_chars=2,000"),
    "response cut off": (
        {"prompt": "word " * 200, "completion": "3"}, Reason.NO_SUPERVISED_TOKEN,
        r"all of the response lies beyond data.max_length=100 \(\d+ tokens\)",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_every_bad_row_says_where_and_why_and_spares_its_neighbours(tokenizer, tmp_path, name):
    line, reason, detail = BAD[name]
    [unit] = units_of(tmp_path / "rows.jsonl", [GOOD, line, GOOD])
    table = make(tokenizer, unit, config(max_row_chars=2000, max_length=100))
    before, bad, after = table.to_pylist()
    assert before["reason"] is after["reason"] is None
    assert (bad["file"], bad["row"], bad["reason"]) == ("rows.jsonl", 2, str(reason))
    assert pa.compute.match_substring_regex(table["detail"], detail)[1].as_py(), bad["detail"]
    assert {v for k, v in bad.items() if k not in ("file", "row", "reason", "detail")} == {None}


def test_bytes_that_are_no_text_are_a_bad_row(tokenizer, tmp_path):
    [unit] = units_of(tmp_path / "rows.jsonl", b'{"prompt": "\xff", "completion": "x"}\n')
    assert make(tokenizer, unit)["reason"].to_pylist() == ["invalid_utf8"]


def test_what_the_chat_template_refuses_is_a_bad_row(new_tokenizer, tmp_path):
    template = (
        "{% for m in messages %}{{ raise_exception('no system') if m.role == 'system' else '[' + m.role + ']' }}"
        "{{ m.content }}{% endfor %}{{ '[assistant]' if add_generation_prompt }}"
    )
    tokenizer = new_tokenizer(chat_template=template)
    turns = [{"role": r, "content": r} for r in ("system", "user", "assistant")]
    [unit] = units_of(tmp_path / "rows.jsonl", [{"messages": turns}, {"messages": turns[1:]}])
    table = make(tokenizer, unit, config(prompt_style="chat"), row_format="messages")
    assert table["reason"].to_pylist() == ["template_error", None]
    assert table["detail"][0].as_py() == "the chat template refuses it: no system"


def test_a_long_detail_is_cut(tokenizer, tmp_path):
    [unit] = units_of(tmp_path / "rows.jsonl", [{f"column_{i:04d}": 1 for i in range(500)}])
    [row] = make(tokenizer, unit).to_pylist()
    assert row["reason"] == "missing_field"
    assert len(row["detail"]) <= 300


def test_truncated_rows_are_kept_and_marked(tokenizer, tmp_path):
    # The whole text has n tokens, the last is end-of-sequence: it is cut at n - 1, and complete at n.
    [unit] = units_of(tmp_path / "rows.jsonl", [{"prompt": "What is 1+2?", "completion": "It is 3, says she"}])
    whole = make(tokenizer, unit).to_pylist()[0]
    length = whole["num_tokens"]
    for max_length, truncated in ((length - 1, True), (length, False)):
        row = make(tokenizer, unit, config(max_length=max_length)).to_pylist()[0]
        assert row["truncated"] is truncated
        assert row["input_ids"] == whole["input_ids"][:max_length]
        assert row["num_supervised_tokens"] == whole["num_supervised_tokens"] - (length - max_length)


def test_the_bound_where_the_last_supervised_token_is_lost(tokenizer, tmp_path):
    [unit] = units_of(tmp_path / "rows.jsonl", [GOOD])
    num_prompt = make(tokenizer, unit).to_pylist()[0]["supervised"].index(True)
    tables = [make(tokenizer, unit, config(max_length=num_prompt + extra)) for extra in (0, 1)]
    assert [table["reason"].to_pylist() for table in tables] == [["no_supervised_token"], [None]]


def test_a_response_without_a_prompt_is_not_supervised_at_its_first_token(tokenizer, tmp_path):
    # Nothing precedes the first token, so the model's loss leaves it out, and so does the count.
    [unit] = units_of(tmp_path / "rows.jsonl", [{"messages": [{"role": "assistant", "content": "@@"}]}])
    row = make(tokenizer, unit, row_format="messages").to_pylist()[0]
    assert text_of(tokenizer, row["input_ids"]) == "@@<|endoftext|>"
    assert (row["supervised"], row["num_supervised_tokens"]) == ([False, True, True], 2)
    row = make(tokenizer, unit, config(max_length=1), row_format="messages").to_pylist()[0]
    assert row["reason"] == "no_supervised_token"


def test_source_is_the_named_column_else_source_else_the_file_s_name(tokenizer, tmp_path):
    rows = [{**GOOD, "source": "a", "topic": "t"}, {**GOOD, "topic": 7}, {**GOOD, "source": ""}]
    [unit] = units_of(tmp_path / "gsm8k.train.jsonl", rows)
    assert make(tokenizer, unit)["source"].to_pylist() == ["a", "gsm8k", "gsm8k"]
    table = make(tokenizer, unit, config(source_column="topic"))
    assert table["source"].to_pylist() == ["t", "7", None]
    assert table["reason"].to_pylist() == [None, None, "missing_field"]
    assert table["detail"][2].as_py() == "column 'topic' is missing, empty or no plain value"


def test_ids_come_from_the_id_column(tokenizer, tmp_path):
    rows = [{**GOOD, "id": value} for value in ("x", 7, 0, None, "", [1])]
    [unit] = units_of(tmp_path / "rows.jsonl", rows)
    table = make(tokenizer, unit, config(id_column="id"))
    assert table["user_id"].to_pylist() == ["x", "7", "0", None, None, None]
    assert table["reason"].to_pylist() == [None] * 3 + ["missing_field"] * 3
    assert make(tokenizer, unit)["user_id"].null_count == 6


def test_the_same_conversation_has_the_same_key_whatever_else_the_row_holds(tokenizer, tmp_path):
    rows = [GOOD, {"completion": " 3 ", "prompt": "What is 1+2?", "note": 1}, {**GOOD, "completion": "4"}]
    [unit] = units_of(tmp_path / "rows.jsonl", rows)
    keys = make(tokenizer, unit)["key"].to_pylist()
    assert keys[0] == keys[1] != keys[2]
    assert all(len(key) == 32 for key in keys)


def test_renamed_columns_are_read(tokenizer, tmp_path):
    [unit] = units_of(tmp_path / "rows.jsonl", [{"instruction": "Add 1 and 2.", "solution": "3"}])
    table = make(tokenizer, unit, config(prompt_style="alpaca", columns={"output": "solution"}), row_format="alpaca")
    assert text_of(tokenizer, table["input_ids"][0].as_py()).endswith("Add 1 and 2.\n\n### Response:3<|endoftext|>")


def test_only_kept_rows_are_made_with_their_own_line_numbers(tokenizer, tmp_path):
    rows = [{**GOOD, "completion": f"answer {i}"} for i in range(5)]
    [unit] = units_of(tmp_path / "rows.jsonl", [rows[0], "", *rows[1:]])  # a blank line is no row
    table = make(tokenizer, unit, keep=[0, 2, 4])
    assert table["row"].to_pylist() == [1, 4, 6]
    assert [json.loads(raw) for raw in table["raw"].to_pylist()] == [rows[0], rows[2], rows[4]]
    assert make(tokenizer, unit, keep=[]).num_rows == 0


def test_units_of_a_file_make_what_the_whole_file_makes(tokenizer, tmp_path):
    rows = [{**GOOD, "completion": f"answer {i}"} if i % 3 else "broken" for i in range(10)]
    units = units_of(tmp_path / "rows.jsonl", rows, rows_per_unit=4)
    assert [unit.num_rows for unit in units] == [4, 4, 2]
    [whole] = units_of(tmp_path / "rows.jsonl", rows)
    assert pa.concat_tables([make(tokenizer, unit) for unit in units]).equals(make(tokenizer, whole))


JSON_VALUES = st.one_of(st.none(), st.integers(), st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
                        st.lists(st.integers(), max_size=2))


def test_whatever_the_rows_hold_each_is_an_example_or_has_a_reason(tokenizer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("fuzz")

    @given(st.lists(st.dictionaries(st.sampled_from(["prompt", "completion", "source"]), JSON_VALUES), min_size=1))
    @settings(max_examples=60, deadline=None)
    def check(rows):
        [unit] = units_of(folder / "rows.jsonl", rows)
        table = make(tokenizer, unit, config(max_length=12))
        assert table["row"].to_pylist() == list(range(1, len(rows) + 1))
        for row in table.to_pylist():
            assert (row["reason"] is None) == (row["input_ids"] is not None)
            assert row["reason"] is not None or row["num_supervised_tokens"] == sum(row["supervised"][1:]) > 0

    check()


TYPED = pa.table({
    "prompt": ["What is 1+2?", "Hi", "Bye", "Thanks"],
    "completion": ["3", None, "Ciao", "Welcome"],
    "level": pa.array([1, 2, None, 4], pa.int8()),
    "when": pa.array([0, 1, 2, 3], pa.timestamp("ns")),
    "tags": pa.array([["a"], [], None, ["b", "c"]], pa.list_(pa.string())),
})


def test_parquet_rows_keep_their_types_as_a_struct(tokenizer, tmp_path):
    unit = parquet_unit(tmp_path / "math.parquet", TYPED, row_group_size=3)
    table = make(tokenizer, unit, schema=TYPED.schema)
    assert table["reason"].to_pylist() == [None, "missing_field", None, None]
    assert table["source"].to_pylist() == ["math", None, "math", "math"]
    assert table.schema.field("typed").type == pa.struct(TYPED.schema)
    assert pa.Table.from_struct_array(table["typed"]).equals(TYPED)


def test_kept_parquet_rows_have_their_own_typed_values(tokenizer, tmp_path):
    unit = parquet_unit(tmp_path / "math.parquet", TYPED, row_group_size=3)
    table = make(tokenizer, unit, keep=[0, 3], schema=TYPED.schema)
    assert table["row"].to_pylist() == [1, 4]
    assert pa.Table.from_struct_array(table["typed"]).equals(TYPED.take([0, 3]).combine_chunks())


def test_a_column_that_only_other_files_have_is_null(tokenizer, tmp_path):
    unit = parquet_unit(tmp_path / "math.parquet", TYPED.select(["completion", "prompt"]))
    table = make(tokenizer, unit, schema=TYPED.schema)
    typed = pa.Table.from_struct_array(table["typed"])
    assert typed.schema == TYPED.schema
    assert typed["prompt"].to_pylist() == TYPED["prompt"].to_pylist()
    assert typed["level"].null_count == TYPED.num_rows


def test_parquet_without_a_schema_and_jsonl_have_no_typed_column(tokenizer, tmp_path):
    assert make(tokenizer, parquet_unit(tmp_path / "a.parquet", TYPED)).schema == PART
    [unit] = units_of(tmp_path / "rows.jsonl", [GOOD])
    assert make(tokenizer, unit, schema=TYPED.schema).schema == PART
