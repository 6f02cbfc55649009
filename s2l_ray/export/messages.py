"""Turns of a conversation as chat messages: what the layouts of several trainers share."""

from s2l_ray.rows.chat_messages import content_of
from s2l_ray.rows.conversation import Conversation, Turn

NOT_LEARNED = "answers that are not to be learned"
THOUGHTS_INLINE = "thoughts are written in the answer, as <think> ... </think>"
NOT_IN_TURN = "turns that are not a question and an answer in turn"
SYSTEMS_JOINED = "several system texts are written as one"
TOOL_NAMES = "the name of the tool that answers has no place and is left out"


def with_thoughts(turn: Turn) -> str:
    """Return what a turn says behind its thoughts, as reasoning models write them."""
    return f"<think>\n{turn.thinking.strip()}\n</think>\n\n{turn.content}" if turn.thinking else content_of(turn)


def has_unlearned(conversation: Conversation) -> bool:
    """Tell whether some answer is only to be seen."""
    return any(turn.role == "assistant" and not turn.is_learned for turn in conversation.turns)


def has_thoughts(conversation: Conversation) -> bool:
    """Tell whether some answer keeps its thoughts apart."""
    return any(turn.thinking for turn in conversation.turns)


def has_tools(conversation: Conversation) -> bool:
    """Tell whether tools are offered, called or answer."""
    return bool(conversation.tools) or any(turn.calls or turn.role == "tool" for turn in conversation.turns)


def has_tool_names(conversation: Conversation) -> bool:
    """Tell whether some tool's answer says which tool it is."""
    return any(turn.name for turn in conversation.turns)


def rest_of(conversation: Conversation) -> list[Turn]:
    """Return the turns behind the system's."""
    return [turn for turn in conversation.turns if turn.role != "system"]


def system_of(conversation: Conversation) -> str:
    """Return what the system says, as one text."""
    return "\n\n".join(content_of(turn) for turn in conversation.turns if turn.role == "system")


def has_several_systems(conversation: Conversation) -> bool:
    """Tell whether the system speaks more than once."""
    return sum(turn.role == "system" for turn in conversation.turns) > 1


def alternates(conversation: Conversation) -> bool:
    """Tell whether the assistant has every second turn, answers of several tools counted as one."""
    turns = rest_of(conversation)
    asks = [turn.role for i, turn in enumerate(turns) if not (i and turn.role == turns[i - 1].role == "tool")]
    return all((role == "assistant") == bool(i % 2) for i, role in enumerate(asks))
