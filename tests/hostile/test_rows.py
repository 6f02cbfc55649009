"""Hostile rows, one by one: kept unchanged, or set aside with a reason; every row accounted for."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from s2l_ray.rows.originals import json_lines, typed_table
from s2l_ray.rows.reasons import Reason

GOOD = b'{"prompt":"a","completion":"b"}\n'


def line(prompt, completion="b"):
    return json.dumps({"prompt": prompt, "completion": completion}, ensure_ascii=False)


def pair(text):
    """A good row, then the row in question."""
    return GOOD + (text if isinstance(text, bytes) else text.encode()) + b"\n"


# Name -> the second row of a JSONL file of prompt and completion, and the reason it is quarantined for.
BAD_LINES = {
    "latin-1 bytes": (b'{"prompt":"caf\xe9","completion":"b"}', "invalid_utf8"),
    "overlong encoding": (b'{"prompt":"\xc0\xaf","completion":"b"}', "invalid_utf8"),
    "encoded surrogate": (b'{"prompt":"\xed\xa0\x80","completion":"b"}', "invalid_utf8"),
    "beyond Unicode": (b'{"prompt":"\xf5\x80\x80\x80","completion":"b"}', "invalid_utf8"),
    "UTF-8 cut off": (b'{"prompt":"\xf0\x9f\x98', "invalid_utf8"),
    "high surrogate escape": (r'{"prompt":"\ud800","completion":"b"}', "invalid_utf8"),
    "low surrogate escape": (r'{"prompt":"\udc00","completion":"b"}', "invalid_utf8"),
    "surrogates swapped": (r'{"prompt":"\udc00\ud83d","completion":"b"}', "invalid_utf8"),
    "surrogate in a key": (r'{"\ud800":1,"prompt":"x","completion":"b"}', "invalid_utf8"),
    "surrogate in another column": (r'{"prompt":"x","completion":"b","m":[{"k":"\udfff"}]}', "invalid_utf8"),
    "raw NUL": (b'{"prompt":"a\0b","completion":"b"}', "not_json"),
    "raw tab in a text": ('{"prompt":"a\tb","completion":"b"}', "not_json"),
    "byte order mark in the middle": (b"\xef\xbb\xbf" + GOOD.strip(), "not_json"),
    "line cut off": ('{"prompt":"a","compl', "not_json"),
    "single quotes": ("{'prompt':'a','completion':'b'}", "not_json"),
    "trailing comma": ('{"prompt":"a","completion":"b",}', "not_json"),
    "two objects": ('{"prompt":"a"} {"completion":"b"}', "not_json"),
    "comment": ('// {"prompt":"a","completion":"b"}', "not_json"),
    "bad escape": (r'{"prompt":"\x41","completion":"b"}', "not_json"),
    "only an opening brace": ("{", "not_json"),
    "form feed alone": ("\x0cx", "not_json"),
    "integer of 5,000 digits": ('{"prompt":"a","completion":"b","n":%s}' % ("9" * 5000), "not_json"),
    "100,000 open arrays": ("[" * 100_000, "not_json"),
    "100,000 open objects": ('{"a":' * 100_000, "not_json"),
    "300 levels": ('{"prompt":"a","completion":"b","x":%s}' % ("[" * 300 + "]" * 300), "not_json"),
    "number": ("1", "not_an_object"),
    "null": ("null", "not_an_object"),
    "text": ('"x"', "not_an_object"),
    "array": ("[]", "not_an_object"),
    "true": ("true", "not_an_object"),
    "NaN alone": ("NaN", "not_an_object"),
    "prompt is NaN": ('{"prompt":NaN,"completion":"b"}', "missing_field"),
    "prompt is a number": ('{"prompt":1,"completion":"b"}', "wrong_type"),
    "prompt is an object": ('{"prompt":{"a":1},"completion":"b"}', "wrong_type"),
    "completion is true": ('{"prompt":"a","completion":true}', "wrong_type"),
    "completion is a list of texts": ('{"prompt":["a"],"completion":["b"]}', "missing_field"),
    "one list, one text": ('{"prompt":[{"role":"user","content":"a"}],"completion":"b"}', "wrong_type"),
    "prompt is null": ('{"prompt":null,"completion":"b"}', "missing_field"),
    "no completion": ('{"prompt":"a"}', "missing_field"),
    "empty object": ("{}", "missing_field"),
    "completion is empty": ('{"prompt":"a","completion":""}', "empty_field"),
    "completion is blank": ('{"prompt":"a","completion":" \\n\\t\\u3000"}', "empty_field"),
    "prompt is blank": ('{"prompt":" ","completion":"b"}', "empty_field"),
    "10 MB": (line("x" * 10_000_000), "too_long"),
    "10 MB in another column": (json.dumps({"prompt": "a", "completion": "b", "z": "x" * 10_000_000}), "too_long"),
    "prompt beyond max_length": (line("word " * 500), "no_supervised_token"),
}


@pytest.mark.parametrize("case", BAD_LINES)
def test_a_bad_line_is_set_aside_with_its_place_and_reason(case, accounts_of):
    content, reason = BAD_LINES[case]
    accounts, _ = accounts_of({"rows.jsonl": pair(content)})
    (bad,) = accounts.quarantine.to_pylist()
    assert (bad["file"], bad["row"], bad["reason"]) == ("rows.jsonl", 2, Reason(reason))
    assert bad["detail"] and len(bad["detail"]) <= 300
    assert (accounts.num_read, accounts.num_examples, accounts.num_duplicates) == (2, 1, 0)


TEXTS = {
    "right to left": "שלום עולם، مرحبا بالعالم",
    "direction marks": "a\u202eb\u202cc\u2066d\u2069",
    "emoji": "🙂👩‍👩‍👧‍👦🏳️‍🌈🇺🇳",
    "combining marks": "e\u0301 n\u0303 \u0301\u0301\u0301 Z̷͉̓a̵l̷g̴o̶",
    "composed and decomposed": "é e\u0301 ﬁ ²",
    "escaped NUL": "a\0b",
    "control characters": "\x01\x02\x1b[2J\x7f\x85",
    "line separators": "a\u2028b\u2029c\u0085d",
    "byte order mark inside": "a\ufeffb",
    "beyond the first plane": "𝒳𐍈\U0010fffd",
    "not a character": "\ufffe\uffff",
    "replacement character": "\ufffd",
    "zero width": "\u200b\u200c\u200d\u2060x",
    "carriage returns": "a\rb\r\nc",
    "looks like a template": "${oc.env:HOME} {{7*7}} {% raw %} %s {0}",
    "looks like a special token": "<|endoftext|><s>[INST]",
    "looks like markup": "[red]x[/red] <b>&amp;</b>",
    "looks like a pickle": "cos\nsystem\n(S'true'\ntR.",
    "quotes and backslashes": "\\\\\"\\u0041\\",
}


@pytest.mark.parametrize("case", TEXTS)
@pytest.mark.parametrize("escaped", [False, True], ids=["raw", "escaped"])
def test_odd_texts_come_back_unchanged(case, escaped, accounts_of):
    row = {"prompt": TEXTS[case], "completion": f"{TEXTS[case]} ok"}
    came = json.dumps(row, ensure_ascii=escaped)
    accounts, kept = accounts_of({"rows.jsonl": came + "\n"})
    assert accounts.num_examples == 1
    assert json_lines(kept) == [came] and json.loads(json_lines(kept)[0]) == row
    assert typed_table(kept).to_pylist() == [row]


ODD_BUT_GOOD = {
    "duplicate keys, the last counts": '{"prompt":"x","prompt":"z","completion":"b"}',
    "NaN in another column": '{"prompt":"z","completion":"b","x":NaN,"y":-Infinity}',
    "beyond every float": '{"prompt":"z","completion":"b","x":1e999}',
    "beyond 64 bits": '{"prompt":"z","completion":"b","x":%s}' % ("9" * 30),
    "empty object inside": '{"prompt":"z","completion":"b","x":{}}',
    "mixed list inside": '{"prompt":"z","completion":"b","x":[1,"a",null,{"k":[]}]}',
    "150 levels inside": '{"prompt":"z","completion":"b","x":%s}' % ("[" * 150 + "]" * 150),
    "empty key": '{"prompt":"z","completion":"b","":1}',
    "NUL in a key": '{"prompt":"z","completion":"b","a\\u0000b":1}',
    "2,000 columns": json.dumps({"prompt": "z", "completion": "b", **{f"c{i}": i for i in range(2000)}}),
    "white space around": ' \t{"prompt" : "z" , "completion" : "b"} \r',
}


@pytest.mark.parametrize("case", ODD_BUT_GOOD)
def test_odd_but_good_rows_are_kept(case, accounts_of, tmp_path):
    accounts, kept = accounts_of({"rows.jsonl": pair(ODD_BUT_GOOD[case])})
    assert (accounts.num_read, accounts.num_examples) == (2, 2)
    assert json_lines(kept)[1] == ODD_BUT_GOOD[case].removesuffix("\r")
    assert typed_table(kept)["prompt"].to_pylist() == ["a", "z"]


@pytest.mark.parametrize("column", ["text", "number", "list"])
def test_columns_of_mixed_types_are_given_as_text(column, accounts_of):
    values = {"text": [1, "x"], "number": [1, 10**30], "list": [[1], {"a": 2}]}[column]
    rows = [{"prompt": str(i), "completion": "b", "x": value} for i, value in enumerate(values)]
    _, kept = accounts_of({"rows.jsonl": "".join(json.dumps(row) + "\n" for row in rows)})
    assert [json.loads(cell) for cell in typed_table(kept)["x"].to_pylist()] == values


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3), max_leaves=8)
rows = st.fixed_dictionaries({}, optional={"prompt": json_values, "completion": json_values, "id": json_values})
lines = st.one_of(st.binary(max_size=40), rows.map(lambda row: json.dumps(row).encode()),
                  rows.map(lambda row: json.dumps(row).encode()[:-3]), st.just(GOOD.strip()))


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(lines, max_size=6), st.sampled_from([b"\n", b"\r\n"]), st.sampled_from([None, "id"]))
def test_any_bytes_are_accounted_for(accounts_of, tmp_path, found, ending, id_column):
    first = b'{"prompt":"first","completion":"b","id":"first"}'
    accounts, kept = accounts_of({"rows.jsonl": ending.join([first, *found])}, id_column=id_column)
    assert accounts.num_examples == len(json_lines(kept)) >= 1
    assert set(accounts.quarantine["reason"].to_pylist()) <= set(Reason)
