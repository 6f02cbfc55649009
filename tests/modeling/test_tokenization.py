"""Prompt styles, the supervised tokens and the special ones: .venv/bin/pytest tests/modeling/test_tokenization.py"""

import json
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

from s2l_ray.modeling.tokenization import Tokenization, held, needs_chat_template
from s2l_ray.rows.conversation import BadRow, Conversation, Turn, conversation_key
from s2l_ray.rows.reasons import Reason

END = "<|endoftext|>"
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# As Llama 2's: the system text goes inside the first user turn, and the beginning-of-sequence is the template's.
SYSTEM_INSIDE_USER = (
    "{% if messages[0].role == 'system' %}{% set system = '<<SYS>>\n' + messages[0].content + '\n<</SYS>>\n\n' %}"
    "{% set turns = messages[1:] %}{% else %}{% set system = '' %}{% set turns = messages %}{% endif %}"
    "{% for m in turns %}{% if m.role == 'user' %}{{ bos_token }}[INST] {{ system if loop.first else '' }}"
    "{{ m.content }} [/INST]{% else %} {{ m.content }} {{ eos_token }}{% endif %}{% endfor %}"
)
# As Qwen2's: a conversation without a system turn is given one.
DEFAULT_SYSTEM = "{% if messages[0].role != 'system' %}<|im_start|>system\nBe kind.<|im_end|>\n{% endif %}" + CHATML
FORGETS_THOUGHTS = CHATML.replace(
    "{{ m.content }}", "{{ m.content if loop.last else m.content.split('</think>')[-1] }}"
)
REFUSES_SYSTEM = "{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}" + CHATML

ROLES = {"s": "system", "u": "user", "a": "assistant"}


def conversation(*turns):
    """Turns as "u:text", or as (text of the instruction, text of the input)."""
    made = [Turn("user", *t) if isinstance(t, tuple) else Turn(ROLES[t[0]], t[2:]) for t in turns]
    return Conversation(tuple(made))


def tokenize(tokenizer, style, *turns, max_length=4096):
    tokenization = Tokenization(tokenizer, style, max_length)
    return tokenization.tokenize([tokenization.render(conversation(*turns))])[0]


def text_of(tokenizer, ids):
    return tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)


def supervised_text(tokenizer, example):
    return text_of(tokenizer, example.input_ids[example.supervised])


def test_alpaca_text_is_s2l_s_own_without_an_input(tokenizer):
    example = tokenize(tokenizer, "alpaca", "u:Add 1 and 2.", "a:3")
    assert text_of(tokenizer, example.input_ids) == (
        "Below is an instruction that describes a task. "
        "Write a response that appropriately completes the request.\n\n"
        "### Instruction:\nAdd 1 and 2.\n\n### Response:3<|endoftext|>"
    )
    assert supervised_text(tokenizer, example) == "3<|endoftext|>"


def test_alpaca_text_is_s2l_s_own_with_an_input(tokenizer):
    example = tokenize(tokenizer, "alpaca", ("Add them.", "1 and 2"), "a:3")
    assert text_of(tokenizer, example.input_ids) == (
        "Below is an instruction that describes a task, paired with an input that provides further context. "
        "Write a response that appropriately completes the request.\n\n"
        "### Instruction:\nAdd them.\n\n### Input:\n1 and 2\n\n### Response:3<|endoftext|>"
    )
    assert supervised_text(tokenizer, example) == "3<|endoftext|>"


def test_alpaca_puts_system_turns_in_the_preamble_s_place(tokenizer):
    example = tokenize(tokenizer, "alpaca", "s:Be brief.", "s:Be kind.", "u:Hi", "a:Hey")
    assert text_of(tokenizer, example.input_ids) == (
        "Be brief.\n\nBe kind.\n\n### Instruction:\nHi\n\n### Response:Hey<|endoftext|>"
    )


@pytest.mark.parametrize(
    ("turns", "text"),
    [
        (["u:1+2=", "a:3"], "1+2=\n3<|endoftext|>"),
        (["u:1+2= ", "a:3"], "1+2= 3<|endoftext|>"),
        ([("Add.", "1 2"), "a:3"], "Add.\n1 2\n3<|endoftext|>"),
        (["s:Be brief.", "s:Be kind.", "u:Hi", "a:Hey"], "Be brief.\nBe kind.\nHi\nHey<|endoftext|>"),
        (["a:Once"], "Once<|endoftext|>"),
    ],
)
def test_plain_text_is_the_turns_own_and_one_line_break(tokenizer, turns, text):
    assert text_of(tokenizer, tokenize(tokenizer, "plain", *turns).input_ids) == text


@pytest.mark.parametrize("style", ["alpaca", "plain"])
def test_every_assistant_turn_is_supervised_with_its_own_end(tokenizer, style):
    example = tokenize(tokenizer, style, "u:one", "a:first answer", "u:two", "a:second")
    assert supervised_text(tokenizer, example) == "first answer<|endoftext|>second<|endoftext|>"
    assert np.count_nonzero(example.input_ids == tokenizer.eos_token_id) == 2


def test_chatml_supervises_what_the_assistant_adds(new_tokenizer):
    tokenizer = new_tokenizer(eos_token="<|im_end|>", chat_template=CHATML)
    example = tokenize(tokenizer, "chat", "s:Be kind.", "u:Hi", "a:Hey", "u:Bye", "a:Ciao")
    assert text_of(tokenizer, example.input_ids) == (
        "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHey<|im_end|>\n"
        "<|im_start|>user\nBye<|im_end|>\n<|im_start|>assistant\nCiao<|im_end|>\n"
    )
    assert supervised_text(tokenizer, example) == "Hey<|im_end|>\nCiao<|im_end|>\n"


def test_chat_joins_instruction_and_input(new_tokenizer):
    tokenizer = new_tokenizer(eos_token="<|im_end|>", chat_template=CHATML)
    example = tokenize(tokenizer, "chat", ("Add.", "1 2"), "a:3")
    assert "user\nAdd.\n\n1 2<|im_end|>" in text_of(tokenizer, example.input_ids)


def test_end_of_sequence_follows_a_template_that_ends_turns_with_another_token(new_tokenizer):
    tokenizer = new_tokenizer(chat_template=CHATML)
    example = tokenize(tokenizer, "chat", "u:Hi", "a:Hey")
    assert supervised_text(tokenizer, example) == "Hey<|im_end|>\n<|endoftext|>"


@pytest.mark.parametrize("after", ["", "\n", "\n\n", " \n \n"])
def test_a_template_s_own_end_of_sequence_is_not_doubled(new_tokenizer, after):
    tokenizer = new_tokenizer(chat_template=CHATML.replace("<|im_end|>\n", END + after))
    example = tokenize(tokenizer, "chat", "u:Hi", "a:Hey")
    assert supervised_text(tokenizer, example) == f"Hey{END}{after}"


def test_an_end_of_sequence_of_the_prompt_does_not_stand_for_the_response_s(new_tokenizer):
    # "user<eos>X": the second token from the end is the prompt's, so the response still needs its own.
    template = "{% for m in messages %}{{ m.content }}{% if m.role == 'user' %}{{ eos_token }}{% endif %}{% endfor %}"
    example = tokenize(tokenizer := new_tokenizer(chat_template=template), "chat", "u:Hi", "a:X")
    assert text_of(tokenizer, example.input_ids) == f"Hi{END}X{END}"
    assert supervised_text(tokenizer, example) == f"X{END}"


def test_chat_with_the_system_text_inside_the_first_user_turn(new_tokenizer):
    tokenizer = new_tokenizer(adds_bos=True, chat_template=SYSTEM_INSIDE_USER)
    example = tokenize(tokenizer, "chat", "s:Be kind.", "u:Hi", "a:Hey", "u:Bye", "a:Ciao")
    assert text_of(tokenizer, example.input_ids) == (
        "<s>[INST] <<SYS>>\nBe kind.\n<</SYS>>\n\nHi [/INST] Hey <|endoftext|><s>[INST] Bye [/INST] Ciao <|endoftext|>"
    )
    assert supervised_text(tokenizer, example) == " Hey <|endoftext|> Ciao <|endoftext|>"


def test_a_system_turn_that_the_template_adds_is_not_supervised(new_tokenizer):
    tokenizer = new_tokenizer(eos_token="<|im_end|>", chat_template=DEFAULT_SYSTEM)
    for turns in (["u:Hi", "a:Hey"], ["a:Hey"]):
        example = tokenize(tokenizer, "chat", *turns)
        assert text_of(tokenizer, example.input_ids).startswith("<|im_start|>system\nBe kind.<|im_end|>\n")
        assert supervised_text(tokenizer, example) == "Hey<|im_end|>\n"


def test_of_a_template_that_rewrites_earlier_turns_what_is_there_is_learned(new_tokenizer):
    tokenizer = new_tokenizer(eos_token="<|im_end|>", chat_template=FORGETS_THOUGHTS)
    assert supervised_text(tokenizer, tokenize(tokenizer, "chat", "u:Hi", "a:Hm</think>Hey")) == "Hm</think>Hey<|im_end|>\n"
    example = tokenize(tokenizer, "chat", "u:Hi", "a:Hm</think>Hey", "u:Bye", "a:Oh</think>Ciao")
    assert supervised_text(tokenizer, example) == "Hey<|im_end|>\nOh</think>Ciao<|im_end|>\n"


def test_what_a_template_refuses_is_a_bad_row_with_its_reason(new_tokenizer):
    tokenization = Tokenization(new_tokenizer(chat_template=REFUSES_SYSTEM), "chat", 512)
    with pytest.raises(BadRow, match="the chat template refuses it: no system role") as caught:
        tokenization.render(conversation("s:Be kind.", "u:Hi", "a:Hey"))
    assert caught.value.reason == Reason.TEMPLATE_ERROR


def test_only_a_tokenizer_with_a_template_serves_chat(new_tokenizer, tokenizer):
    assert needs_chat_template(tokenizer)
    assert not needs_chat_template(new_tokenizer(chat_template=CHATML))


def test_truncation_cuts_on_the_right_and_tells_the_full_length(tokenizer):
    whole = tokenize(tokenizer, "alpaca", "u:one two three", "a:four five six")
    total = len(whole.input_ids)
    for length in (1, total - 3, total - 1, total, total + 1):
        cut = tokenize(tokenizer, "alpaca", "u:one two three", "a:four five six", max_length=length)
        np.testing.assert_array_equal(cut.input_ids, whole.input_ids[:length])
        np.testing.assert_array_equal(cut.supervised, whole.supervised[:length])
        assert cut.full_length == whole.full_length == total


def test_ids_are_int32_and_the_mask_is_bool(tokenizer):
    example = tokenize(tokenizer, "plain", "u:a", "a:b")
    assert (example.input_ids.dtype, example.supervised.dtype) == (np.int32, np.bool_)


@pytest.mark.parametrize("style", ["alpaca", "plain"])
def test_beginning_of_sequence_is_added_once_where_the_tokenizer_adds_it_itself(new_tokenizer, style):
    example = tokenize(tokenizer := new_tokenizer(adds_bos=True), style, "u:one", "a:two", "u:three", "a:four")
    assert np.flatnonzero(example.input_ids == tokenizer.bos_token_id).tolist() == [0]
    assert not example.supervised[0]
    assert supervised_text(tokenizer, example) == "two<|endoftext|>four<|endoftext|>"


def test_a_beginning_of_sequence_that_is_only_named_is_not_added(new_tokenizer):
    tokenizer = new_tokenizer(bos_token="<s>")
    assert tokenizer.bos_token_id not in tokenize(tokenizer, "alpaca", "u:one", "a:two").input_ids


def test_chat_leaves_the_beginning_of_sequence_to_the_template(new_tokenizer):
    example = tokenize(tokenizer := new_tokenizer(adds_bos=True, chat_template=CHATML), "chat", "u:Hi", "a:Hey")
    assert tokenizer.bos_token_id not in example.input_ids


@pytest.mark.parametrize("style", ["alpaca", "plain"])
@pytest.mark.parametrize("special", ["<|endoftext|>", "<|im_end|>", "<s>"])
def test_a_special_token_s_name_in_a_text_stays_text(new_tokenizer, style, special):
    tokenizer = new_tokenizer(adds_bos=True)
    example = tokenize(tokenizer, style, f"u:What is {special}?", f"a:{special} ends a text{special}")
    assert np.flatnonzero(example.input_ids <= 3).tolist() == [0, len(example.input_ids) - 1]
    assert supervised_text(tokenizer, example) == f"{special} ends a text{special}{END}"


def test_a_tokenizer_saved_with_truncation_and_padding_is_not_cut_or_padded(new_tokenizer):
    tokenizer = new_tokenizer()
    expected = tokenize(tokenizer, "alpaca", "u:one", "a:two").input_ids
    tokenizer.backend_tokenizer.enable_truncation(5)
    tokenizer.backend_tokenizer.enable_padding(length=300)
    np.testing.assert_array_equal(tokenize(tokenizer, "alpaca", "u:one", "a:two").input_ids, expected)


TEXT = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20),
    st.sampled_from([END, "<s>", " ", "  ", "\n\n", " 42", "42  ", ":", "é", "🙂", "漢字", "a\r\n", "\u200d", "\x00"]),
)
EXCHANGES = st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=3)


def turns_of(exchanges):
    return [turn for asked, answer in exchanges for turn in ("u:" + asked, "a:" + answer)]


@pytest.mark.parametrize("trim_offsets", [False, True])
def test_supervised_tokens_decode_to_exactly_the_responses(new_tokenizer, trim_offsets):
    tokenizer = new_tokenizer(trim_offsets=trim_offsets)  # Pythia's offsets leave out a token's blanks
    tokenization = Tokenization(tokenizer, "alpaca", 10**6)

    @given(EXCHANGES)
    @settings(max_examples=150, deadline=None)
    def check(exchanges):
        example = tokenization.tokenize([tokenization.render(conversation(*turns_of(exchanges)))])[0]
        assert supervised_text(tokenizer, example) == "".join(answer + END for _, answer in exchanges)
        assert np.count_nonzero(example.input_ids == tokenizer.eos_token_id) == len(exchanges)

    check()


LINES = ["the answer   is\n\n\n42, thé ansẅer: naïve, 漢字, 🙂🙂", "### Instruction:\nAdd 12 and 30.\n\n### Response:\n42"]


def unigram(normalizer):
    backend = Tokenizer(models.Unigram())
    backend.normalizer = normalizer
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    # Bytes stand for what the vocabulary lacks: several tokens of one character.
    trainer = trainers.UnigramTrainer(vocab_size=400, unk_token="<unk>", show_progress=False,
                                      special_tokens=["<unk>", *(f"<0x{byte:02X}>" for byte in range(256))])
    backend.train_from_iterator(LINES, trainer)
    model = json.loads(backend.to_str())
    model["model"]["byte_fallback"] = True
    return Tokenizer.from_str(json.dumps(model))


def word_pieces(normalizer):
    backend = Tokenizer(models.WordPiece(unk_token="<unk>"))
    backend.normalizer = normalizer
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(vocab_size=200, special_tokens=["<unk>"], show_progress=False)
    backend.train_from_iterator(LINES, trainer)
    return backend


@pytest.mark.parametrize("backend", [
    unigram(normalizers.NFKC()), unigram(normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])),
    word_pieces(normalizers.BertNormalizer(lowercase=True, strip_accents=True)), word_pieces(normalizers.NFD()),
    False, True,
], ids=["unigram NFKC", "unigram Llama", "word pieces BERT", "word pieces NFD", "bytes", "bytes, trimmed"])
def test_a_span_holds_the_tokens_that_the_rule_says_of_each(backend, new_tokenizer):
    if isinstance(backend, bool):
        backend = new_tokenizer(trim_offsets=backend).backend_tokenizer

    @given(st.lists(TEXT, min_size=1, max_size=4), st.data())
    @settings(max_examples=300, deadline=None)
    def check(texts, data):
        text = "".join(texts)
        start = data.draw(st.integers(0, len(text)))
        end = data.draw(st.integers(start, len(text)))
        encoding = backend.encode(text, add_special_tokens=False)
        tokens = np.zeros(len(encoding), dtype=bool)
        tokens[held(encoding, (start, end))] = True
        # It ends behind the span's start, and begins before the span's end or lies, emptied of blanks, within it.
        rule = [last > start and (first < end or last <= end) for first, last in encoding.offsets]
        assert tokens.tolist() == rule, (text, (start, end), encoding.offsets)

    check()


@pytest.mark.parametrize("trim_offsets", [False, True])
def test_a_token_that_begins_in_the_prompt_is_the_response_s(new_tokenizer, trim_offsets):
    tokenizer = new_tokenizer(trim_offsets=trim_offsets)
    assert tokenizer.tokenize(" the") == ["Ġthe"]
    example = tokenize(tokenizer, "plain", "u:42, ", "a:the")
    assert text_of(tokenizer, example.input_ids) == "42, the<|endoftext|>"
    assert supervised_text(tokenizer, example) == " the<|endoftext|>"


def test_gpt2_s_tokens_across_prompt_and_response_are_the_response_s(gpt2_tokenizer):
    tokenization = Tokenization(gpt2_tokenizer, "plain", 10**6)

    @given(TEXT, TEXT)
    @settings(max_examples=150, deadline=None)
    def check(asked, answer):
        example = tokenization.tokenize([tokenization.render(conversation("u:" + asked, "a:" + answer))])[0]
        decoded = supervised_text(gpt2_tokenizer, example)
        assert decoded.endswith(answer + END)
        # What is supervised beyond the response is the end of the prompt, always white space in this style.
        assert (asked + "\n").endswith(surplus := decoded.removesuffix(answer + END)) or asked.endswith(surplus)
        assert not surplus.strip() and len(surplus) <= len(asked) + 1

    check()


@given(st.lists(EXCHANGES, max_size=5), st.sampled_from(["alpaca", "plain"]), st.integers(1, 200))
@settings(max_examples=40, deadline=None)
def test_a_batch_of_conversations_equals_one_by_one(tokenizer, pool, style, max_length):
    tokenization = Tokenization(tokenizer, style, max_length)
    rendered = [tokenization.render(conversation(*turns_of(exchanges))) for exchanges in pool]
    together = tokenization.tokenize(rendered)
    assert len(together) == len(pool)
    for example, pieces in zip(together, rendered, strict=True):
        alone = tokenization.tokenize([pieces])[0]
        np.testing.assert_array_equal(example.input_ids, alone.input_ids)
        np.testing.assert_array_equal(example.supervised, alone.supervised)
        assert example.full_length == alone.full_length


@given(TEXT, TEXT)
@settings(max_examples=80, deadline=None)
def test_ids_are_those_of_the_whole_text_in_one_call(tokenizer, asked, answer):
    whole = (
        "Below is an instruction that describes a task. Write a response that appropriately completes the request."
        f"\n\n### Instruction:\n{asked}\n\n### Response:{answer}"
    )
    if re.search("<s>|<.endoftext.>", whole):
        return  # in this one call they would become special tokens
    ids = tokenize(tokenizer, "alpaca", "u:" + asked, "a:" + answer).input_ids
    assert ids.tolist() == [*tokenizer(whole)["input_ids"], tokenizer.eos_token_id]


def test_gpt2_s_ids_are_those_of_the_whole_text(gpt2_tokenizer):
    ids = tokenize(gpt2_tokenizer, "plain", "u:What is 6 x 7?", "a:It is 42.").input_ids
    assert ids.tolist() == [*gpt2_tokenizer("What is 6 x 7?\nIt is 42.")["input_ids"], 50256]


def test_duplicates_are_told_by_roles_and_texts_without_the_blanks_around_them():
    key = conversation_key(conversation("u:Hi", "a:Hey"))
    assert key == conversation_key(conversation("u: Hi\n", "a:\tHey"))
    others = [("u:Hi", "a:hey"), ("s:Hi", "a:Hey"), (("Hi", "Hey"), "a:Hey"), ("u:H i", "a:Hey"), ("u:Hi", "u:Hey")]
    assert key not in [conversation_key(conversation(*turns)) for turns in others]
    assert re.search("[\x1e\x1f]", key)


@pytest.mark.parametrize("settings", [{}, {"trim_offsets": True}, {"adds_bos": True}], ids=str)
@pytest.mark.parametrize("style", ["plain", "alpaca"])
def test_what_each_token_spells_is_the_text_in_order(new_tokenizer, settings, style):
    tokenizer = new_tokenizer(**settings)
    tokenization = Tokenization(tokenizer, style, 4096)
    pieces = tokenization.render(conversation("u:the  answer \n", "a:  42 is,\n\n naïve 漢字 ", "u:x", "a:🙂🙂  "))
    texts, [example] = tokenization.spell(pieces), tokenization.tokenize([pieces])
    assert len(texts) == example.full_length
    assert "".join(texts) == text_of(tokenizer, example.input_ids)
    learned = "".join(text for text, is_learned in zip(texts, example.supervised, strict=True) if is_learned)
    assert learned == supervised_text(tokenizer, example)
