"""What is learned through chat templates of the structures in use: .venv/bin/pytest tests/modeling/test_chat.py"""

import datetime
import json
import random
import re

import pytest

from s2l_ray.errors import InputError
from s2l_ray.modeling.chat import DIFFERENCES, MARKS, PREFIXES, ChatTemplate
from s2l_ray.rows.conversation import BadRow, Conversation, Turn

DATE = datetime.date(2025, 1, 1)
CHATML = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
ASKS = "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
HEADER = "<|start_header_id|>{{ ROLE }}<|end_header_id|>\n\n"
LAST_USER = ("{% set ns = namespace(last=-1) %}{% for m in messages %}{% if m.role == 'user' %}"
             "{% set ns.last = loop.index0 %}{% endif %}{% endfor %}")
SPLIT_SYSTEM = ("{% set system = messages[0].content if messages[0].role == 'system' else '' %}"
                "{% set messages = messages[1:] if system else messages %}")
ROLES = "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}{{ END }}\n{% endfor %}"
TEMPLATES = {
    "chatml": CHATML + ASKS,
    "qwen2.5": "{% if messages[0].role != 'system' %}<|im_start|>system\nYou are kind.<|im_end|>\n{% endif %}" + CHATML + ASKS,
    "qwen3": LAST_USER + "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' and loop.index0 > ns.last %}"
             "<think>\n{{ m.reasoning_content or '' }}\n</think>\n\n{% endif %}{{ m.content }}<|im_end|>\n{% endfor %}" + ASKS,
    "llama3": "{{ bos_token }}{% for m in messages %}" + HEADER.replace("ROLE", "m.role") + "{{ m.content | trim }}<|eot_id|>"
              "{% endfor %}{% if add_generation_prompt %}" + HEADER.replace("{{ ROLE }}", "assistant") + "{% endif %}",
    "r1-distill": "{{ bos_token }}{% for m in messages %}{% if m.role == 'system' %}{{ m.content }}{% elif m.role == 'user' %}"
                  "<|User|>{{ m.content }}{% else %}<|Assistant|>{{ m.content.split('</think>')[-1] }}{{ eos_token }}{% endif %}"
                  "{% endfor %}{% if add_generation_prompt %}<|Assistant|><think>\n{% endif %}",
    "deepseek": "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}User: {{ m.content }}\n\n{% elif m.role == "
                "'assistant' %}Assistant: {{ m.content }}{{ eos_token }}{% else %}{{ m.content }}\n\n{% endif %}{% endfor %}"
                "{% if add_generation_prompt %}Assistant:{% endif %}",
    "mistral-v1": SPLIT_SYSTEM + "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}[INST] {{ system + '\n\n' if "
                  "system and loop.first else '' }}{{ m.content }} [/INST]{% else %} {{ m.content }}{{ eos_token }}{% endif %}"
                  "{% endfor %}",
    "mistral-v3": SPLIT_SYSTEM + LAST_USER + "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}[INST] {{ system + "
                  "'\n\n' if system and loop.index0 == ns.last else '' }}{{ m.content }}[/INST]{% else %} {{ m.content | trim }}"
                  "{{ eos_token }}{% endif %}{% endfor %}",
    "tekken": SPLIT_SYSTEM + LAST_USER + "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}[INST]{{ system + '\n\n' "
              "if system and loop.index0 == ns.last else '' }}{{ m.content }}[/INST]{% else %}{{ m.content }}{{ eos_token }}"
              "{% endif %}{% endfor %}",
    "gemma": SPLIT_SYSTEM + "{{ bos_token }}{% for m in messages %}<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role "
             "}}\n{{ system + '\n\n' if system and loop.first else '' }}{{ m.content | trim }}<end_of_turn>\n{% endfor %}"
             "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}",
    "phi": "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}<|end|>\n{% endfor %}{% if add_generation_prompt %}"
           "<|assistant|>\n{% else %}{{ eos_token }}{% endif %}",
    "zephyr": ROLES.replace("END", "eos_token") + "{% if add_generation_prompt %}<|assistant|>\n{% endif %}",
    "tulu": ROLES.replace("{{ END }}", "{{ eos_token if m.role == 'assistant' and not loop.last else '' }}")
            + "{% if add_generation_prompt %}<|assistant|>\n{% endif %}",
    "olmo": "{{ bos_token }}" + ROLES.replace("{{ END }}", "{{ eos_token if m.role == 'assistant' else '' }}")
            + "{% if add_generation_prompt %}<|assistant|>\n{% endif %}",
    "marked": "{% for m in messages %}<|{{ m.role }}|>\n{% if m.role == 'assistant' %}{% generation %}{{ m.content }}"
              "{{ eos_token }}{% endgeneration %}{% else %}{{ m.content }}{% endif %}\n{% endfor %}",
}
END = re.compile(r"(<\|im_end\|>|<\|eot_id\|>|<end_of_turn>|<\|end\|>|<\|endoftext\|>).*", re.DOTALL)
WORDS = ["two", "three", "Rain.", "a = b", "№ 7", "\n", "- item", "漢字", "user", "assistant", "<b>", "don't", "  ", "[INST", "the"]


def dialogue(rng):
    """Turns of user and assistant, half of them after a system turn; every text is another one."""
    numbers = iter(range(1000))
    said = [Turn("system", f"Rule {next(numbers)}: be kind.")] if rng.random() < 0.5 else []
    for _ in range(rng.randint(1, 4)):
        for role in ("user", "assistant"):
            words = " ".join(rng.choices(WORDS, k=rng.randint(1, 9)))
            said.append(Turn(role, f"{role[0]}{next(numbers)} {words} ende"))
    return Conversation(tuple(said))


@pytest.fixture(scope="module")
def template_of(new_tokenizer):
    """Return a maker of chat templates."""

    def make(template):
        return ChatTemplate(new_tokenizer(chat_template=template, bos_token="<s>"), DATE)

    return make


@pytest.mark.parametrize("name", TEMPLATES)
def test_exactly_the_assistants_turns_are_learned_and_none_twice(template_of, name):
    chat, rng, ways = template_of(TEMPLATES[name]), random.Random(name), set()
    for _ in range(70):  # times 15 templates: more than 1,000 dialogues
        said = dialogue(rng)
        found = chat.render(said)
        answers = [turn.content for turn in said.turns if turn.role == "assistant"]
        learned = [found.text[start:end] for start, end in found.spans]
        bare = [END.sub("", text).removeprefix("<think>\n\n</think>\n\n").strip() for text in learned]
        assert bare == [answer.strip() for answer in answers]
        assert all(before[1] <= after[0] for before, after in zip(found.spans, found.spans[1:], strict=False))
        ways.add(found.way)
    assert ways <= {MARKS, PREFIXES, DIFFERENCES} and (ways == {MARKS}) == (name == "marked")


@pytest.mark.parametrize("name", ["chatml", "llama3", "zephyr", "olmo", "gemma", "mistral-v1", "deepseek", "tekken"])
def test_the_ways_find_the_same(template_of, name):
    chat, rng = template_of(TEMPLATES[name]), random.Random(name)
    for _ in range(30):
        said = [{"role": turn.role, "content": turn.content} for turn in dialogue(rng).turns]
        answers = [i for i, message in enumerate(said) if message["role"] == "assistant"]
        whole = chat._text(said, None)
        by_prefixes = chat._by_prefixes(said, None, whole, answers)
        if by_prefixes is not None:
            assert chat._by_differences(said, None, whole, answers) == by_prefixes


def test_the_date_is_the_recipes(new_tokenizer):
    dated = "Today is {{ strftime_now('%d %b %Y') }}, {{ strftime_now(\"%Y\") }}.\n" + CHATML
    said = Conversation((Turn("user", "Hi"), Turn("assistant", "Hey")))
    for date, text in ((DATE, "Today is 01 Jan 2025, 2025.\n"), (datetime.date(2026, 3, 9), "Today is 09 Mar 2026, 2026.\n")):
        assert ChatTemplate(new_tokenizer(chat_template=dated), date).render(said).text.startswith(text)
    made_up = "{% set form = '%Y' %}{{ strftime_now(form) }}" + CHATML
    with pytest.raises(InputError, match="in a form that it makes up"):
        ChatTemplate(new_tokenizer(chat_template=made_up), DATE)


def test_several_templates_without_a_default_are_refused_with_their_names(new_tokenizer):
    tokenizer = new_tokenizer(chat_template={"rag": CHATML, "tool_use": CHATML})
    with pytest.raises(InputError, match=r"set data\.template_name to one of rag, tool_use"):
        ChatTemplate(tokenizer, DATE)
    with pytest.raises(InputError, match=r"template_name='other': the tokenizer's chat templates are rag, tool_use"):
        ChatTemplate(tokenizer, DATE, "other")
    with pytest.raises(InputError, match=r"template_name='rag': the tokenizer's one chat template has no name"):
        ChatTemplate(new_tokenizer(chat_template=CHATML), DATE, "rag")
    asked = Conversation((Turn("user", "Hi"), Turn("assistant", "Hey")))
    alone = ChatTemplate(new_tokenizer(chat_template=CHATML), DATE)
    assert ChatTemplate(tokenizer, DATE, "rag").render(asked) == alone.render(asked)


@pytest.mark.parametrize(("turns", "part"), [
    ([Turn("system", "Be brief."), Turn("user", "Hi"), Turn("assistant", "Hey")], "the system turn 1"),
    ([Turn("user", "Hi"), Turn("assistant", "", calls=json.dumps([{"function": {"name": "look", "arguments": {}}}])),
      Turn("tool", "42"), Turn("assistant", "Hey")], "the call of look"),
])
def test_what_a_template_leaves_out_is_never_lost_in_silence(template_of, turns, part):
    chat = template_of("{% for m in messages if m.role != 'system' %}<|{{ m.role }}|>\n{{ m.content }}{{ eos_token }}\n{% endfor %}")
    with pytest.raises(BadRow, match=f"has no place for {part}: it would be lost"):
        chat.render(Conversation(tuple(turns)))


def test_a_turn_that_is_not_to_be_learned_is_only_seen(template_of):
    said = Conversation((Turn("user", "Hi"), Turn("assistant", "FIVE", is_learned=False), Turn("user", "So?"),
                         Turn("assistant", "four")))
    for name in ("chatml", "qwen3", "marked"):
        found = template_of(TEMPLATES[name]).render(said)
        (span,) = found.spans
        assert "FIVE" in found.text and "four" in found.text[slice(*span)] and "FIVE" not in found.text[slice(*span)]
