"""Examples in another form, token by token: .venv/bin/pytest tests/modeling/test_probes.py"""

import numpy as np
import pyarrow as pa
import pytest

from s2l_ray.modeling.probes import judged, masked_prompt, without_prompt
from s2l_ray.modeling.tokenization import Tokenization
from s2l_ray.recipe.data import DataConfig
from s2l_ray.recipe.scoring import ProbeConfig
from s2l_ray.rows.conversation import Conversation, Turn

DATA = DataConfig(path="x.jsonl", prompt_style="plain", max_length=40)
CHAT = "{% for m in messages %}<|im_start|>{{m.role}}\n{{m.content}}<|im_end|>\n{% endfor %}" \
       "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"


def talk(*texts):
    return Conversation(tuple(Turn(("user", "assistant")[i % 2], text) for i, text in enumerate(texts)))


def examples(conversations, tokenizer, max_length=40):
    tokenization = Tokenization(tokenizer, "plain", max_length)
    made = tokenization.tokenize([tokenization.render(c) for c in conversations])
    return pa.table({
        "input_ids": pa.array([one.input_ids for one in made], pa.list_(pa.int32())),
        "supervised": pa.array([one.supervised for one in made], pa.list_(pa.bool_())),
    })


def texts_of(table, tokenizer):
    """Return each row's text with its supervised part in brackets."""
    texts = []
    for ids, mask in zip(table["input_ids"].to_pylist(), table["supervised"].to_pylist(), strict=True):
        plain = tokenizer.decode([i for i, m in zip(ids, mask, strict=True) if not m])
        texts.append(f"{plain}[{tokenizer.decode([i for i, m in zip(ids, mask, strict=True) if m])}]")
    return texts


def test_the_response_alone_keeps_its_tokens_behind_a_start(tokenizer, new_tokenizer):
    conversations = [talk("Add 1 and 2", "3"), talk("hello", "hi", "and now?", "bye")]
    table = without_prompt(examples(conversations, tokenizer), tokenizer)
    assert texts_of(table, tokenizer) == ["<|endoftext|>[3<|endoftext|>]", "<|endoftext|>[hi<|endoftext|>bye<|endoftext|>]"]
    own_start = new_tokenizer(bos_token="<s>")
    assert without_prompt(examples(conversations, own_start), own_start)["input_ids"][0].as_py()[0] == 1


def test_key_parts_are_masked_in_what_users_say_only(tokenizer):
    conversations = [talk("Add 1 and 2", "3"), Conversation((Turn("user", "Count these:", "7 8"), Turn("assistant", "2")))]
    table = masked_prompt(conversations, np.array([2, 2]), DATA, tokenizer)
    # The second: its instruction has no key part by the first rules, so its longest word; 7 and 8 are neighbours.
    assert texts_of(table, tokenizer) == ["Add _ and _\n[3<|endoftext|>]", "_ these:\n_\n[2<|endoftext|>]"]


def test_a_masked_prompt_keeps_what_truncation_left_of_the_response(tokenizer):
    conversation = talk('Repeat "' + "abc " * 8 + '"', "abc " * 20)
    before = examples([conversation], tokenizer)
    left = int(sum(before["supervised"][0].as_py()))
    assert 0 < left < 20, "some of the response is cut off"
    table = masked_prompt([conversation], np.array([left]), DATA, tokenizer)

    def supervised(made):
        pairs = zip(made["input_ids"][0].as_py(), made["supervised"][0].as_py(), strict=True)
        return [token for token, is_supervised in pairs if is_supervised]

    assert supervised(table) == supervised(before)
    assert len(table["input_ids"][0]) < len(before["input_ids"][0]), "the prompt is shorter"


def test_a_judge_is_asked_about_the_whole_example_and_its_first_answer_token_counts(tokenizer):
    config = ProbeConfig(question="<{example}> good?", answer="yes")
    rows = judged([talk("Add {1}", "2")], config, 1000, tokenizer)
    first = tokenizer.decode(tokenizer("yes")["input_ids"][:1])
    assert texts_of(rows, tokenizer) == [f"<user: Add {{1}}\n\nassistant: 2> good?\n[{first}]"]


def test_a_long_example_is_cut_but_the_question_never(tokenizer):
    config = ProbeConfig(question="<{example}> good?", answer="yes")
    (text,) = texts_of(judged([talk("x" * 500, "y")], config, 10, tokenizer), tokenizer)
    assert text.startswith("<user: x") and "> good?\n[" in text and len(text) < 60


def test_a_judge_can_be_asked_through_its_chat_template(new_tokenizer):
    own = new_tokenizer(chat_template=CHAT)
    config = ProbeConfig(question="<{example}>?", answer="yes", question_style="chat")
    (text,) = texts_of(judged([talk("a", "b")], config, 100, own), own)
    assert text.startswith("<|im_start|>user\n<user: a\n\nassistant: b>?<|im_end|>\n<|im_start|>assistant\n[y")


@pytest.mark.parametrize("question", ["no place", "{example} twice {example}"])
def test_a_question_names_the_example_once(question):
    with pytest.raises(ValueError, match=r"must hold \{example\} exactly once"):
        ProbeConfig(question=question)
