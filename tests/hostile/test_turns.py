"""Which answers of a dialogue are learned: .venv/bin/pytest tests/hostile/test_turns.py"""

import json

import pytest

DIALOGUE = {"id": "a", "note": "kept", "conversations": [
    {"from": "system", "value": "Be brief."}, {"from": "human", "value": "One?"}, {"from": "gpt", "value": "First."},
    {"from": "human", "value": "Two?"}, {"from": "gpt", "value": "Second."},
    {"from": "human", "value": "Three?"}, {"from": "gpt", "value": "Third."}]}


@pytest.fixture
def learned_by(accounts_of, tokenizer_of):
    """A function (rows, settings) -> (accounts, seen and learned text of each example)."""
    byte_tokenizer = tokenizer_of(None)

    def run(rows, **settings):
        text = "".join(json.dumps(row) + "\n" for row in rows)
        accounts, kept = accounts_of({"rows.jsonl": text}, tokenizer=byte_tokenizer, prompt_style="plain", max_length=4096,
                                     **settings)
        pairs = []
        for ids, mask in zip(kept["input_ids"].to_pylist(), kept["supervised"].to_pylist(), strict=True):
            learned = [token for token, is_learned in zip(ids, mask, strict=True) if is_learned]
            pairs.append((byte_tokenizer.decode(ids), byte_tokenizer.decode(learned)))
        return accounts, kept, pairs

    return run


def test_all_answers_are_learned_or_the_last_alone(learned_by):
    _, _, ((seen, learned),) = learned_by([DIALOGUE])
    assert all(text in seen and text in learned for text in ("First.", "Second.", "Third."))
    _, _, ((also_seen, learned),) = learned_by([DIALOGUE], turns="last")
    assert also_seen == seen and "Third." in learned and "First." not in learned and "Second." not in learned


def test_each_answer_is_an_example_of_its_own_with_what_came_before(learned_by):
    accounts, kept, pairs = learned_by([DIALOGUE], turns="each", id_column="id")
    assert accounts.num_examples == 3 and accounts.ids.to_pylist() == ["a#1", "a#2", "a#3"]
    for number, (seen, learned) in enumerate(pairs, start=1):
        answers = ["First.", "Second.", "Third."]
        assert [text in seen for text in answers] == [n <= number for n in (1, 2, 3)]
        assert [text in learned for text in answers] == [n == number for n in (1, 2, 3)]
    rows = [json.loads(raw) for raw in kept["raw"].to_pylist()]
    assert [len(row["messages"]) for row in rows] == [3, 5, 7] and all(row["note"] == "kept" for row in rows)
    assert [message.get("weight") for message in rows[1]["messages"]] == [None, None, 0, None, None]
    assert accounts.not_used == {"note": 3}


def test_the_subset_of_single_answers_is_read_as_it_was_learned(learned_by):
    _, kept, pairs = learned_by([DIALOGUE], turns="each")
    again = learned_by([json.loads(raw) for raw in kept["raw"].to_pylist()])[2]
    assert again == pairs


def test_a_bad_row_stays_one_row_with_its_reason(learned_by):
    unanswered = {"conversations": [{"from": "human", "value": "One?"}]}
    silent = {"conversations": [{"from": "human", "value": "One?"}, {"from": "gpt", "value": "No.", "weight": 0}]}
    accounts, _, _ = learned_by([DIALOGUE, unanswered, silent], turns="each")
    assert (accounts.num_examples, accounts.num_quarantined) == (3, 2)
    assert accounts.quarantine["row"].to_pylist() == [2, 3]
    assert accounts.quarantine["detail"].to_pylist() == ["conversations: no assistant turn among 1", "no answer is learned"]
