"""What of a row no model sees: .venv/bin/pytest tests/rows/test_leftovers.py"""

from s2l_ray.rows.leftovers import leftovers


def test_columns_that_are_read_for_another_purpose_are_not_left_over_wherever_they_stand():
    row = {"topic": "x", "prompt": "a", "completion": "b", "source": "s", "empty": " ", "id": 1}
    assert leftovers(row, "prompt_completion", {}, filter(None, ("id", None, "source"))) == ["topic"]
    assert leftovers(row, "prompt_completion", {}, ()) == ["topic", "source", "id"]


def test_a_tool_is_taken_whole_and_a_message_by_its_keys():
    row = {"messages": [{"role": "user", "content": "a", "mood": "calm"}, {"role": "assistant", "content": "b"}],
           "tools": [{"type": "function", "function": {"name": "add"}}]}
    assert leftovers(row, "messages", {}, ()) == ["messages[].mood"]
