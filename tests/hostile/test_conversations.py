"""Hostile conversations, ids and renames: quarantined with a reason, or refused in words."""

import json

import pytest

from s2l_ray.errors import InputError


def jsonl(*rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


def said(role, content):
    return {"role": role, "content": content}


GOOD = {"messages": [said("user", "q"), said("assistant", "a")]}
SHAREGPT = {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]}

BAD_MESSAGES = {
    "unknown role": ([said("wizard", "x"), said("assistant", "a")], "wrong_type", "the unknown role 'wizard'"),
    "tool role": ([said("user", "q"), said("tool", "x"), said("assistant", "a")], "template_error", "no place for tools"),
    "role is a number": ([said(1, "x"), said("assistant", "a")], "wrong_type", "the unknown role '1'"),
    "role is a list": ([said(["user"], "x")], "wrong_type", "the unknown role"),
    "role is null": ([said(None, "x"), said("assistant", "a")], "missing_field", "neither `role` nor `from`"),
    "role of 10,000 letters": ([said("u" * 10_000, "x")], "wrong_type", "the unknown role"),
    "empty answer": ([said("user", "q"), said("assistant", "")], "empty_field", "assistant turn 2 is empty"),
    "blank question": ([said("user", " \n"), said("assistant", "a")], "empty_field", "user turn 1 is empty"),
    "answer is null": ([said("user", "q"), said("assistant", None)], "missing_field", "content is missing or null"),
    "content is a number": ([said("user", 5), said("assistant", "a")], "wrong_type", "type int"),
    "content is an object": ([said("user", {"text": "q"}), said("assistant", "a")], "wrong_type", "type dict"),
    "content has an image": ([said("user", [{"type": "image", "url": "x"}]), said("assistant", "a")], "wrong_type", "'image'"),
    "content is a list of texts": ([said("user", ["q"]), said("assistant", "a")], "wrong_type", "'str'"),
    "text part without text": ([said("user", [{"type": "text"}]), said("assistant", "a")], "missing_field", "text part"),
    "no assistant turn": ([said("user", "q"), said("user", "r")], "missing_field", "no assistant turn among 2"),
    "only a system turn": ([said("system", "s")], "missing_field", "no assistant turn"),
    "system turn in the middle": ([said("user", "q"), said("system", "s"), said("assistant", "a")], "wrong_type", "system"),
    "tool call": ([said("user", "q"), {"role": "assistant", "content": "", "tool_calls": [{"id": 1}]}], "wrong_type", "tool"),
    "no messages": ([], "empty_field", "messages is empty"),
    "messages is a text": ('[{"role":"user"}]', "missing_field", "content is missing"),
    "messages is an object": ({"role": "user"}, "wrong_type", "not a list"),
    "message is a text": (["hi"], "missing_field", "no assistant turn"),
    "message is null": ([None, said("assistant", "a")], "wrong_type", "expected an object"),
    "message is empty": ([{}], "missing_field", "neither `role` nor `from`"),
    "messages in a list": ([[said("user", "q")]], "wrong_type", "type list"),
}


@pytest.mark.parametrize("case", BAD_MESSAGES)
def test_a_bad_conversation_is_set_aside(case, accounts_of):
    messages, reason, detail = BAD_MESSAGES[case]
    accounts, _ = accounts_of({"x.jsonl": jsonl(GOOD, {"messages": messages})})
    (bad,) = accounts.quarantine.to_pylist()
    assert (bad["row"], bad["reason"], accounts.num_examples) == (2, reason, 1)
    assert detail in bad["detail"] and len(bad["detail"]) <= 300


BAD_SHAREGPT = {
    "value is null": ([{"from": "human", "value": None}, {"from": "gpt", "value": "a"}], "missing_field"),
    "from is unknown": ([{"from": "wizard", "value": "x"}, {"from": "gpt", "value": "a"}], "wrong_type"),
    "nobody answers": ([{"from": "human", "value": "q"}], "missing_field"),
    "value is a list of numbers": ([{"from": "human", "value": [1]}, {"from": "gpt", "value": "a"}], "wrong_type"),
    "neither key": ([{"speaker": "human", "text": "q"}], "missing_field"),
    "empty": ([], "empty_field"),
}


@pytest.mark.parametrize("case", BAD_SHAREGPT)
def test_a_bad_sharegpt_row_is_set_aside(case, accounts_of):
    conversations, reason = BAD_SHAREGPT[case]
    accounts, _ = accounts_of({"x.jsonl": jsonl(SHAREGPT, {"conversations": conversations})})
    (bad,) = accounts.quarantine.to_pylist()
    assert (bad["row"], bad["reason"], accounts.num_examples) == (2, reason, 1)


ODD_CONVERSATIONS = {
    "two answers in a row": [said("user", "q"), said("assistant", "a"), said("assistant", "b")],
    "the assistant begins": [said("assistant", "hello"), said("user", "q"), said("assistant", "a")],
    "two system turns": [said("system", "s"), said("system", "t"), said("user", "q"), said("assistant", "a")],
    "empty system turn": [said("system", ""), said("user", "q"), said("assistant", "b")],
    "roles in capitals": [said("USER", "q"), said("Assistant", "c")],
    "an unanswered end": [said("user", "q"), said("assistant", "d"), said("user", "and?")],
    "keys of both styles": [{"from": "human", "value": "q"}, {"role": "assistant", "content": "e"}],
    "content in parts": [said("user", [{"type": "text", "text": "q"}, {"type": "text", "text": "r"}]), said("assistant", "f")],
}


@pytest.mark.parametrize("case", ODD_CONVERSATIONS)
def test_an_odd_conversation_is_kept(case, accounts_of):
    accounts, _ = accounts_of({"x.jsonl": jsonl({"messages": ODD_CONVERSATIONS[case]})})
    assert (accounts.num_examples, accounts.num_quarantined) == (1, 0)


def numbered(ids, column="id"):
    return jsonl(*({column: value, "prompt": str(number), "completion": "b"} for number, value in enumerate(ids)))


# Name -> (ids, those kept as text, rows quarantined with their reason)
IDS = {
    "twice": (["a", "a"], ["a"], {2: "duplicate_id"}),
    "number and text": ([1, "1"], ["1"], {2: "duplicate_id"}),
    "float and text": ([1.0, "1.0", 1], ["1.0", "1"], {2: "duplicate_id"}),
    "true and its name": ([True, "True"], ["True"], {2: "duplicate_id"}),
    "NaN twice": ([float("nan"), float("nan")], ["nan"], {2: "duplicate_id"}),
    "null": ([None, "x"], ["x"], {1: "missing_field"}),
    "empty": (["", "x"], ["x"], {1: "missing_field"}),
    "list and object": ([[1], {"a": 1}, "x"], ["x"], {1: "missing_field", 2: "missing_field"}),
    "0 and false are values": ([0, False], ["0", "False"], {}),
    "400 digits": ([10**400], [str(10**400)], {}),
    "differ in case and space": (["a", "A", "a "], ["a", "A", "a "], {}),
    "composed and decomposed": (["é", "e\u0301"], ["é", "e\u0301"], {}),
    "NUL inside": (["a\0", "a"], ["a\0", "a"], {}),
    "right to left": (["א", "ب"], ["א", "ب"], {}),
    "path": (["../../etc/passwd"], ["../../etc/passwd"], {}),
}


@pytest.mark.parametrize("case", IDS)
def test_ids_that_collide_or_are_none(case, accounts_of):
    ids, kept, bad = IDS[case]
    accounts, _ = accounts_of({"x.jsonl": numbered(ids)}, id_column="id")
    assert accounts.ids.to_pylist() == kept
    assert {row["row"]: row["reason"] for row in accounts.quarantine.to_pylist()} == bad


def test_a_duplicate_row_with_the_same_id_is_a_duplicate_not_bad(accounts_of):
    row = {"id": "a", "prompt": "p", "completion": "c"}
    accounts, _ = accounts_of({"x.jsonl": jsonl(row, row, {**row, "completion": "d"})}, id_column="id")
    assert (accounts.num_read, accounts.num_examples, accounts.num_duplicates, accounts.num_quarantined) == (3, 1, 1, 1)


def test_ids_made_of_hashes_cannot_collide_with_repetitions(accounts_of):
    row = {"prompt": "p", "completion": "c"}
    accounts, _ = accounts_of({"x.jsonl": jsonl(row, row, row)}, drop_duplicates=False)
    assert accounts.num_examples == 3


@pytest.mark.parametrize(("value", "reason"), [(None, "missing_field"), ([1], "missing_field"), ("", "missing_field")],
                         ids=["null", "list", "empty"])
def test_a_source_that_is_none_is_set_aside(value, reason, accounts_of):
    accounts, _ = accounts_of({"x.jsonl": numbered(["s", value], "kind")}, source_column="kind")
    assert [row["reason"] for row in accounts.quarantine.to_pylist()] == [reason]


BAD_SETTINGS = {
    "renamed to nothing": ({"columns": {"prompt": "question"}}, r"names columns that are not there: question"),
    "renamed to an empty name": ({"columns": {"prompt": ""}}, r"names columns that are not there"),
    "no such field": ({"columns": {"prmpt": "prompt"}}, r"data.columns has prmpt, not the fields of any one format"),
    "field of another format": ({"format": "alpaca", "columns": {"prompt": "prompt"}}, r"prompt is no field of format alpaca"),
    "wrong format": ({"format": "messages"}, r"x\.jsonl: no row fits data.format=messages: no column 'messages'"),
    "no such id": ({"id_column": "uuid"}, r"x\.jsonl has no column 'uuid'; it has id, prompt, completion"),
    "no such source": ({"source_column": "kind"}, r"x\.jsonl has no column 'kind'"),
}


@pytest.mark.parametrize("case", BAD_SETTINGS)
def test_settings_that_do_not_fit_the_rows(case, accounts_of):
    changes, message = BAD_SETTINGS[case]
    with pytest.raises(InputError, match=message):
        accounts_of({"x.jsonl": numbered(["a"])}, **changes)
