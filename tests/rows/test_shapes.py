"""Every format, every way a row can fail it, and what a user sees when no format fits."""

import datetime
import decimal
import pickle
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from s2l_ray.errors import InputError
from s2l_ray.recipe.registry import SHAPES
from s2l_ray.rows.conversation import BadRow, Conversation, Turn
from s2l_ray.rows.leftovers import leftovers
from s2l_ray.rows.reasons import Reason
from s2l_ray.rows.shape import detect_shape, to_conversation
from s2l_ray.testing import SHAPE_PROMISES

DATA = Path(__file__).parents[3] / "shared" / "data"


def turns(row, format, columns=None):
    conversation = to_conversation(row, format, columns)
    return [(turn.role, turn.content) for turn in conversation.turns]


def why(row, format, columns=None):
    with pytest.raises(BadRow) as caught:
        to_conversation(row, format, columns)
    assert pickle.loads(pickle.dumps(caught.value)).args == caught.value.args
    return str(caught.value.reason), caught.value.detail


def messages(*pairs):
    return {"messages": [{"role": role, "content": content} for role, content in pairs]}


# --- alpaca and prompt_completion --------------------------------------------------------------------


def test_alpaca_keeps_instruction_and_input_apart_and_changes_no_character():
    row = {"instruction": " Add.\n", "input": "1 + 1\n", "output": " 2 "}
    expected = Conversation((Turn("user", " Add.\n", "1 + 1\n"), Turn("assistant", " 2 ")))
    assert to_conversation(row, "alpaca") == expected == pickle.loads(pickle.dumps(expected))


@pytest.mark.parametrize("rest", [{}, {"input": None}, {"input": ""}])
def test_alpaca_without_input(rest):
    row = {"instruction": "Hi", "response": "Hello"} | rest
    assert to_conversation(row, "alpaca").turns == (Turn("user", "Hi"), Turn("assistant", "Hello"))


def test_alpaca_under_other_column_names():
    dolly = {"instruction": "Who?", "context": "Ada wrote it.", "response": "Ada", "output": None}
    assert to_conversation(dolly, "alpaca").turns == (
        Turn("user", "Who?", "Ada wrote it."),
        Turn("assistant", "Ada"),
    )
    row = {"question": "Q", "solution": "A", "hint": "H", "output": "not this", "input": "nor this"}
    renames = {"instruction": "question", "output": "solution", "input": "hint"}
    assert to_conversation(row, "alpaca", renames).turns == (Turn("user", "Q", "H"), Turn("assistant", "A"))


@pytest.mark.parametrize(
    ("row", "reason", "detail"),
    [
        ({"instruction": "Hi"}, "missing_field", "no column 'output' or 'response'; the row has instruction"),
        ({"output": "Hi"}, "missing_field", "no column 'instruction'; the row has output"),
        ({"instruction": None, "output": "Hi"}, "missing_field", "column 'instruction' is null; "),
        ({"instruction": " \n", "output": "Hi"}, "empty_field", "instruction is empty"),
        ({"instruction": "Hi", "output": ""}, "empty_field", "output is empty"),
        ({"instruction": "Hi", "output": 42}, "wrong_type", "output is of type int, expected text"),
        (
            {"instruction": "Hi", "input": ["x"], "output": "Y"},
            "wrong_type",
            "input is of type list, expected text",
        ),
    ],
)
def test_bad_alpaca_rows(row, reason, detail):
    found = why(row, "alpaca")
    assert found[0] == reason and found[1].startswith(detail)


@pytest.mark.parametrize("value", [b"[]", [b"x"], datetime.date(2026, 1, 2), decimal.Decimal("1.5"), [{"name": b"f"}]], ids=repr)
def test_tools_and_calls_of_typed_files_that_no_json_holds_are_bad_rows(value):
    row = {"instruction": "Hi", "output": "Hello", "tools": value}
    reason, detail = why(row, "alpaca")
    assert reason == "wrong_type" and detail.startswith("tools hold what JSON cannot: Object of type ")
    calls = [{"function": {"name": "f", "arguments": {"x": value}}}]
    said = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "", "tool_calls": calls}]
    assert why({"messages": said}, "messages")[0] == "wrong_type"


def test_prompt_completion_as_texts_and_as_messages():
    assert turns({"prompt": "Q", "completion": " A"}, "prompt_completion") == [
        ("user", "Q"),
        ("assistant", " A"),
    ]
    row = {
        "prompt": [{"role": "system", "content": "S"}, {"role": "user", "content": "Q"}],
        "completion": [{"role": "assistant", "content": "A"}],
    }
    assert turns(row, "prompt_completion") == [("system", "S"), ("user", "Q"), ("assistant", "A")]


@pytest.mark.parametrize(
    ("prompt", "completion", "reason"),
    [
        ("Q", None, "missing_field"),
        ("", "A", "empty_field"),
        ("Q", " ", "empty_field"),
        ("Q", 1, "wrong_type"),
        ("Q", [{"role": "assistant", "content": "A"}], "wrong_type"),
        ([{"role": "user", "content": "Q"}], "A", "wrong_type"),
        ([{"role": "user", "content": "Q"}], [], "empty_field"),
        ([{"role": "assistant", "content": "A"}], [{"role": "user", "content": "Q"}], "missing_field"),
    ],
)
def test_bad_prompt_completion_rows(prompt, completion, reason):
    assert why({"prompt": prompt, "completion": completion}, "prompt_completion")[0] == reason


# --- messages and sharegpt ---------------------------------------------------------------------------


def test_messages_keep_their_turns():
    pairs = [("system", "S"), ("user", "Q"), ("assistant", "A"), ("user", "Q2"), ("assistant", "A2 ")]
    assert turns(messages(*pairs), "messages") == pairs
    assert turns(messages(("developer", "S"), *pairs), "messages") == [("system", "S"), *pairs]


def test_messages_may_repeat_a_role_start_with_the_assistant_and_end_unanswered():
    pairs = [("assistant", "A0"), ("user", "Q"), ("user", "Q'"), ("assistant", "A"), ("assistant", "A'")]
    assert turns(messages(*pairs), "messages") == pairs
    assert turns(messages(*pairs, ("user", "more?")), "messages") == pairs
    assert turns(messages(*pairs, ("user", ""), ("user", " ")), "messages") == pairs


def test_an_empty_system_turn_stays():
    pairs = [("system", ""), ("user", "Q"), ("assistant", "A")]
    assert turns(messages(*pairs), "messages") == pairs


def test_text_parts_are_joined():
    parts = [{"type": "text", "text": "a "}, {"type": "text", "text": "b", "image_url": None}]
    assert turns(messages(("user", parts), ("assistant", "A")), "messages")[0] == ("user", "a b")


def test_nulls_that_a_table_fills_in_do_not_matter():
    row = {"messages": [{"role": "user", "content": "Q", "from": None, "tool_calls": None},
                        {"role": "assistant", "content": "A", "value": None, "tool_calls": []}]}  # fmt: skip
    assert turns(row, "messages") == [("user", "Q"), ("assistant", "A")]


@pytest.mark.parametrize(
    ("user", "assistant"),
    [("human", "gpt"), ("user", "assistant"), ("Human", "chatgpt"), ("user", "bot"), ("user", "model")],
)
def test_sharegpt(user, assistant):
    for role_key, content_key in [("from", "value"), ("role", "content")]:
        pairs = [("system", "S"), (user, "Q"), (assistant, "A"), (user, "dropped")]
        row = {"conversations": [{role_key: role, content_key: content} for role, content in pairs]}
        assert turns(row, "sharegpt") == [("system", "S"), ("user", "Q"), ("assistant", "A")]


@pytest.mark.parametrize(
    ("value", "reason", "detail"),
    [
        (None, "missing_field", "is null"),
        ([], "empty_field", "is empty"),
        ("[]", "empty_field", "empty list"),
        ("[1", "wrong_type", "is text that is no JSON"),
        ("hello", "wrong_type", "type str, not a list"),
        ({"role": "user"}, "wrong_type", "type dict, not a list"),
        (["hi"], "missing_field", "no assistant turn among 1"),
        (["hi", 1], "wrong_type", "turn 1 is of type str, expected an object"),
        (messages(("user", "Q")), "missing_field", "no assistant turn among 1"),
        (messages(("user", "Q"), ("assistant", " ")), "empty_field", "the assistant turn 2 is empty"),
        (messages(("user", ""), ("assistant", "A")), "empty_field", "the user turn 1 is empty"),
        (messages(("user", None), ("assistant", "A")), "missing_field", "turn 1: content is missing or null"),
        (messages(("user", 3), ("assistant", "A")), "wrong_type", "content is of type int"),
        (messages(("user", "Q"), ("function", "42")), "missing_field", "no assistant turn among 2"),
        (messages(("user", "Q"), ("narrator", "42")), "wrong_type", "data.roles={narrator: system | user | assistant | tool}"),
        (messages((3, "Q")), "wrong_type", "unknown role '3'"),
        (messages((None, "Q")), "missing_field", "neither `role` nor `from`"),
        (
            messages(("user", "Q"), ("system", "S"), ("assistant", "A")),
            "wrong_type",
            "turn 2 is a system turn after",
        ),
        (messages(("user", [{"type": "image_url"}])), "wrong_type", "part of type 'image_url', not text"),
        (messages(("user", ["Q"])), "wrong_type", "part of type 'str'"),
        (messages(("user", [{"type": "text"}])), "missing_field", "text part is missing"),
        (messages(("user", []), ("assistant", "A")), "empty_field", "the user turn 1 is empty"),
        ([{"role": "assistant", "content": None, "tool_calls": [{}]}], "wrong_type", "turn 1: tool calls: a call has no name"),
        ([{"role": "assistant", "content": "A", "weight": 0.5}], "wrong_type", "weight=0.5: a message is learned or not"),
    ],
)
def test_bad_conversations(value, reason, detail):
    value = value["messages"] if isinstance(value, dict) and "messages" in value else value
    for format, field in [("messages", "messages"), ("sharegpt", "conversations")]:
        found = why({field: value}, format)
        assert found[0] == reason and detail in found[1] and field in found[1]


json_values = st.recursive(
    st.sampled_from([None, True, 3, 0.5, "", " ", "x", "user", "assistant", "system", "text"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["role", "from", "content", "type", "text"]), inner, max_size=3)
    ),
    max_leaves=12,
)
columns = ["instruction", "input", "output", "response", "prompt", "completion", "messages", "conversations"]


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.dictionaries(st.sampled_from(columns), json_values),
    st.sampled_from(["alpaca", "prompt_completion", "messages", "sharegpt"]),
)
def test_any_row_gives_a_sound_conversation_or_a_reason(row, format):
    try:
        conversation = to_conversation(row, format)
    except BadRow as bad:
        assert isinstance(bad.reason, Reason) and bad.detail
    else:
        assert conversation.turns[-1].role == "assistant"
        assert all(turn.content.strip() for turn in conversation.turns if turn.role != "system")


# --- detection ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["instruction", "output"], "alpaca"),
        (["id", "instruction", "input", "response", "source"], "alpaca"),
        (["prompt", "completion"], "prompt_completion"),
        (["prompt", "prompt_id", "messages"], "messages"),
        (["conversations", "id"], "sharegpt"),
        (["messages", "conversations"], "messages"),
        (["instruction", "output", "prompt", "completion"], "alpaca"),
    ],
)
def test_detect_format_and_its_precedence(names, expected):
    assert detect_shape(names) == detect_shape(iter(reversed(names))) == expected


def test_detection_follows_renamed_columns():
    assert detect_shape(["q", "a"], {"instruction": "q", "output": "a"}) == "alpaca"
    assert detect_shape(["q", "response"], {"instruction": "q"}) == "alpaca"
    assert detect_shape(["chat"], {"messages": "chat"}) == "messages"
    # Naming Alpaca's fields says that Alpaca is meant, whatever else is there.
    assert detect_shape(["messages", "q", "a"], {"instruction": "q", "output": "a"}) == "alpaca"


def test_when_nothing_fits_the_message_says_what_to_do():
    with pytest.raises(InputError) as caught:
        detect_shape(["Instructions", "outputs", "source"])
    message = str(caught.value)
    assert "no known format fits the columns: Instructions, outputs, source" in message
    assert "alpaca needs instruction and output or response" in message
    assert "messages needs messages" in message and "sharegpt needs conversations" in message
    assert "prompt_completion needs prompt or inputs or user and completion or response or output or ..." in message
    assert "near names: data.columns.instruction=Instructions, data.columns.output=outputs\n" in message
    assert "data.format=" in message and "source=" not in message


def test_when_nothing_is_near():
    with pytest.raises(InputError, match=r"\(none\)"):
        detect_shape([])
    with pytest.raises(InputError, match="no column has a similar name"):
        detect_shape(["x", "y"])


def test_renames_that_cannot_be():
    with pytest.raises(InputError, match="columns that are not there: sol"):
        detect_shape(["q", "a"], {"instruction": "q", "output": "sol"})
    with pytest.raises(InputError, match="instruction, messages, not the fields of any one format"):
        detect_shape(["q", "m"], {"instruction": "q", "messages": "m"})
    with pytest.raises(
        InputError, match=r"data\.columns: prompt is no field of format alpaca; .*instruction, output"
    ):
        to_conversation({"instruction": "q"}, "alpaca", {"prompt": "q"})
    with pytest.raises(
        InputError, match=r"row shape 'csv' is unknown; known: alpaca, messages"
    ):
        to_conversation({}, "csv")


def test_reasons_are_the_ones_reports_know():
    assert {str(reason) for reason in Reason} == {
        "not_json", "not_an_object", "not_csv", "invalid_utf8", "missing_field", "empty_field", "wrong_type",
        "no_supervised_token", "too_long", "duplicate_id", "template_error",
    }  # fmt: skip


@pytest.mark.parametrize("name", ["alpaca.parquet", "clinical.parquet"])
def test_real_data_becomes_conversations(name):
    if not (DATA / name).exists():
        pytest.skip(f"{DATA / name} is not here")
    table = pq.read_table(DATA / name)
    assert detect_shape(table.column_names) == "alpaca"
    num_good, reasons = 0, set()
    for row in table.to_pylist():
        try:
            user, assistant = to_conversation(row, "alpaca").turns
        except BadRow as bad:
            reasons.add(bad.reason)
        else:
            num_good += 1
            assert (user.content, user.context, assistant.content) == (
                row["instruction"],
                row["input"],
                row["response"],
            )
    assert reasons <= {Reason.EMPTY_FIELD} and num_good >= 0.99 * table.num_rows


# --- names and forms in use elsewhere -----------------------------------------------------------------

EXCHANGE = [("user", "a"), ("assistant", "b")]


@pytest.mark.parametrize(("row", "shape"), [
    ({"prompt": "a", "response": "b"}, "prompt_completion"), ({"inputs": "a", "targets": "b"}, "prompt_completion"),
    ({"user": "a", "assistant": "b"}, "prompt_completion"), ({"input": "a", "output": "b"}, "question_answer"),
    ({"problem": "a", "generated_solution": "b"}, "question_answer"),
    ({"question": "a", "response": "b", "input": "c"}, "question_answer"),
    ({"dialogue": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}, "messages"),
    ({"dialog": ["a", "b"]}, "messages"), ({"conversation": [{"human": "a", "assistant": "b"}]}, "sharegpt"),
    ({"conversations": [{"human": "a", "gpt": None}, {"human": None, "gpt": "b"}]}, "sharegpt"),
    ({"conversations": {"from": ["human", "gpt"], "value": ["a", "b"]}}, "sharegpt"),
])
def test_names_and_forms_that_are_in_use(row, shape):
    assert detect_shape(row) == shape and turns(row, shape) == EXCHANGE


@pytest.mark.parametrize(("value", "said"), [(True, "yes"), (7, "7"), (7.0, "7"), (["Danube", "Donau"], "Danube"),
                                             ({"text": ["Rome"], "answer_start": [1]}, "Rome")])
def test_an_answer_may_be_a_number_a_truth_value_or_one_of_several(value, said):
    assert turns({"question": "q", "answer": value}, "question_answer") == [("user", "q"), ("assistant", said)]


def test_what_is_read_of_a_column_only_in_part_is_named():
    row = {"question": "q", "answer": ["Danube", "Donau"], "context": {"title": ["t"]}}
    assert set(leftovers(row, "question_answer", {}, [])) == {"answer beside the first", "context", "context[].title"}
    assert leftovers({"question": "q", "answer": "a", "context": "c"}, "question_answer", {}, []) == []


@pytest.mark.parametrize(("row", "said"), [
    ({"question": "q", "choices": ["ant", "whale"], "answer": 1}, "(B) whale"),
    ({"question": "q", "choices": {"text": ["ant", "whale"], "label": ["1", "2"]}, "answerKey": "1"}, "(A) ant"),
    ({"question": "q", "options": ["A)21", "B)22"], "rationale": "why", "correct": "B"}, "why\nThe answer is (B) 22"),
])
def test_multiple_choice_is_asked_with_letters(row, said):
    assert detect_shape(row) == "multiple_choice"
    (_, asked), (_, answered) = turns(row, "multiple_choice")
    assert answered == said and asked.startswith("q\n(A) ") and "\n(B) " in asked


@pytest.mark.parametrize(("row", "detail"), [
    ({"question": "q", "choices": ["ant", "whale"], "answer": 2}, "answer: 2 is none of the 2 choices"),
    ({"question": "q", "choices": ["ant"], "answer": 0}, "choices: expected 2 to 10 texts, with labels or without"),
])
def test_a_choice_that_is_not_there_is_a_reason(row, detail):
    assert why(row, "multiple_choice") == ("wrong_type", detail)


# --- what every shape promises -----------------------------------------------------------------------

GOOD = {
    "alpaca": {"instruction": "Add.", "input": "1 + 1", "output": "2"},
    "messages": messages(("system", "Be brief."), ("user", "Hi"), ("assistant", "Hello")),
    "multiple_choice": {"question": "1 + 1?", "choices": ["1", "2"], "answer": 1},
    "preference": {"prompt": "1 + 1?", "chosen": "2", "rejected": "3"},
    "prompt_completion": {"prompt": "1 + 1?", "completion": "2"},
    "question_answer": {"question": "1 + 1?", "answer": "2", "context": "Sums."},
    "sharegpt": {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]},
    "ultrachat": {"data": ["Hi", "Hello"]},
}


@pytest.mark.parametrize("promise", SHAPE_PROMISES, ids=lambda promise: promise.__name__)
@pytest.mark.parametrize("name", SHAPES.own)
def test_ours_keep_every_promise_that_is_asked_of_others(name, promise):
    promise(SHAPES.find(name), GOOD[name])
