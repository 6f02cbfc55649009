"""A conversation through a tokenizer's chat template, and which of its characters the assistant learns.

Three ways to find them, each where it holds: the template's own {% generation %} marks; what each turn adds to the text
before it; and, of templates that write earlier turns otherwise once others follow, where the text changes with a turn.
"""

import datetime
import json
import re
from dataclasses import dataclass
from typing import Any

from jinja2.exceptions import TemplateError
from transformers import PreTrainedTokenizerBase
from transformers.utils.chat_template_utils import render_jinja_template

from s2l_ray.errors import InputError
from s2l_ray.rows.chat_messages import message_of
from s2l_ray.rows.conversation import BadRow, Conversation, Turn
from s2l_ray.rows.reasons import Reason

Span = tuple[int, int]
Message = dict[str, Any]
MARKS, PREFIXES, DIFFERENCES = "marks", "prefixes", "differences"
_GENERATION = re.compile(r"\{%[-+]?\s*generation\s*[-+]?%\}")
_DATE = re.compile(r"""strftime_now\(\s*(["'])(.*?)\1\s*\)""")
_UNIQUE = "\ue000\ue001"  # of a private range: no text of a user's or a template's has it


@dataclass(frozen=True)
class Rendered:
    """The text of a conversation, the character spans that are learned, and how they were found."""

    text: str
    spans: tuple[Span, ...]
    way: str
    unseen: tuple[str, ...]
    """What of the conversation the template leaves out, as its messages call it."""


class ChatTemplate:
    """One tokenizer's chat template, with its date fixed: else a run of tomorrow would have other tokens."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, date: datetime.date, name: str | None = None) -> None:
        """Take the template, of several the one of this name.

        Raises
        ------
        InputError
            There is none, none of this name, or there are several and none is the default; or it asks for the date in a
            way that cannot be fixed.
        """
        self._tokenizer = tokenizer
        given = tokenizer.chat_template
        if not given:
            raise InputError(f"tokenizer {tokenizer.name_or_path!r} has no chat template: use data.prompt_style=alpaca")
        names = sorted(given) if isinstance(given, dict) else []
        if name is None and len(names) > 1 and "default" not in names:
            raise InputError(f"{tokenizer.name_or_path} has several chat templates and none is the default: set "
                             f"data.template_name to one of {', '.join(names)}")
        if name is not None and name not in names:
            known = f"chat templates are {', '.join(names)}" if names else "one chat template has no name"
            raise InputError(f"data.template_name={name!r}: the tokenizer's {known}")
        template = tokenizer.get_chat_template(name)
        with_tools = tokenizer.get_chat_template(name, tools=[])
        self._template, self._with_tools = (_with_date(each, date) for each in (template, with_tools))

    def render(self, conversation: Conversation) -> Rendered:
        """Return the conversation's text and what of it is learned.

        Raises
        ------
        BadRow
            The template refuses the conversation, or leaves a part of it out.
        """
        messages = [message_of(turn) for turn in conversation.turns]
        tools = json.loads(conversation.tools) if conversation.tools else None
        try:
            text, spans, way = self._found(messages, tools)
        except (TemplateError, TypeError, KeyError, AttributeError) as error:
            raise BadRow(Reason.TEMPLATE_ERROR, f"the chat template refuses it: {error}") from error
        _refuse_loss(text, conversation, tools)
        learned = [span for span, turn in zip(spans, _answers(conversation), strict=True) if turn.is_learned]
        thoughts = [turn.thinking.strip() for turn in conversation.turns if turn.thinking]
        unseen = ("reasoning_content",) if any(thought not in text for thought in thoughts) else ()
        return Rendered(text, tuple(learned), way, unseen)

    def _found(self, messages: list[Message], tools: Any) -> tuple[str, list[Span], str]:
        """Return the text, the span of each assistant turn, and the way that it was found."""
        text = self._text(messages, tools)
        answers = [i for i, message in enumerate(messages) if message["role"] == "assistant"]
        if _GENERATION.search(self._with_tools if tools else self._template):
            marked = self._marked(messages, tools)
            if len(marked) == len(answers):
                return text, marked, MARKS
        spans = self._by_prefixes(messages, tools, text, answers)
        if spans is not None:
            return text, spans, PREFIXES
        return text, self._by_differences(messages, tools, text, answers), DIFFERENCES

    def _text(self, messages: list[Message], tools: Any, *, prompt: bool = False) -> str:
        return self._rendered(messages, tools, add_generation_prompt=prompt)[0][0]

    def _marked(self, messages: list[Message], tools: Any) -> list[Span]:
        (spans,) = self._rendered(messages, tools, return_assistant_tokens_mask=True)[1]
        return [(start, end) for start, end in spans]

    def _rendered(self, messages: list[Message], tools: Any, **options: Any) -> Any:
        template = self._with_tools if tools else self._template
        words: dict[str, Any] = dict(self._tokenizer.special_tokens_map)
        return render_jinja_template([messages], tools=tools, chat_template=template, **options, **words)

    def _by_prefixes(self, messages: list[Message], tools: Any, whole: str, answers: list[int]) -> list[Span] | None:
        """Return what each answer adds to the text; None where the template rewrites earlier turns."""
        spans = []
        for position in answers:
            after = self._text(messages[: position + 1], tools)
            # Templates cannot render nothing, so what precedes an opening answer is found by the answer itself.
            before = (self._text(messages[:position], tools, prompt=True) if position
                      else after[: max(0, after.find(messages[0]["content"].strip()))])
            if not (whole.startswith(after) and after.startswith(before)):
                return None
            spans.append((len(before), len(after)))
        return spans

    def _by_differences(self, messages: list[Message], tools: Any, whole: str, answers: list[int]) -> list[Span]:
        """Return where the text changes with each answer, from what asks for it on, the end of the turn included."""
        places = [self._place(messages, tools, whole, position) for position in range(len(messages))]
        spans, tail = [], whole[places[-1][1]:]
        for position in answers:
            start, end = places[position]
            if start == end and not messages[position].get("tool_calls"):
                raise BadRow(Reason.TEMPLATE_ERROR, f"the chat template leaves out the assistant turn {position + 1}")
            if position:
                before = places[position - 1][1]
                start = before + self._asked(messages, tools, position, whole[before:start])
            following = places[position + 1][0] if position + 1 < len(messages) else len(whole)
            spans.append((start, end + _num_shared(whole[end:following], tail)))
        return spans

    def _place(self, messages: list[Message], tools: Any, whole: str, position: int) -> Span:
        """Return the characters of the text that change with a message's content."""
        other = {"role": messages[position]["role"], "content": _UNIQUE}
        changed = self._text([*messages[:position], other, *messages[position + 1:]], tools)
        start = _num_shared(whole, changed)
        return start, len(whole) - _num_shared(whole[start:][::-1], changed[start:][::-1])

    def _asked(self, messages: list[Message], tools: Any, position: int, gap: str) -> int:
        """Return how much of the text between two messages asks for the second, and is not learned with it."""
        prompt = self._text(messages[:position], tools, prompt=True)
        content = messages[position - 1]["content"].strip()
        _, found, rest = prompt.rpartition(content)
        return _num_shared(gap, rest) if content and found else len(gap)


def _num_shared(one: str, other: str) -> int:
    """Return the number of characters that two texts begin with alike."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if one[low:middle] == other[low:middle] else (low, middle - 1)
    return low


def _with_date(template: str, date: datetime.date) -> str:
    """Return a template that writes this date wherever it asks for today's.

    Raises
    ------
    InputError
        It makes up the form of the date as it goes.
    """
    fixed = _DATE.sub(lambda found: json.dumps(date.strftime(found[2])), template)
    if "strftime_now(" in fixed:
        raise InputError("the chat template asks for the date in a form that it makes up: its tokens would change from "
                         "day to day. Write the form into the template as a text, or use data.prompt_style=alpaca")
    return fixed


def _answers(conversation: Conversation) -> list[Turn]:
    return [turn for turn in conversation.turns if turn.role == "assistant"]


def _refuse_loss(text: str, conversation: Conversation, tools: Any) -> None:
    """Refuse a text that lacks what was said to the assistant, a tool, or a call.

    Raises
    ------
    BadRow
        With the part that is left out.
    """
    names = [tool.get("function", tool).get("name") for tool in tools or () if isinstance(tool, dict)]
    missing = [f"the tool {name}" for name in names if name and str(name) not in text]
    for number, turn in enumerate(conversation.turns, start=1):
        if turn.role != "assistant" and turn.content.strip() not in text:
            missing.append(f"the {turn.role} turn {number}")
        calls = json.loads(turn.calls) if turn.calls else []
        missing += [f"the call of {call['function']['name']}" for call in calls if call["function"]["name"] not in text]
    if missing:
        raise BadRow(Reason.TEMPLATE_ERROR, f"the chat template has no place for {missing[0]}: it would be lost")
