"""Conversations to token ids and the mask of supervised tokens (the assistant's, end-of-sequence included)."""

import datetime
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from tokenizers import Encoding
from transformers import PreTrainedTokenizerBase

from s2l_ray.modeling.chat import ChatTemplate
from s2l_ray.recipe.data import TEMPLATE_DATE, PromptStyle
from s2l_ray.rows.conversation import BadRow, Conversation, Turn
from s2l_ray.rows.reasons import Reason

_ALPACA = "Below is an instruction that describes a task. Write a response that appropriately completes the request."
_ALPACA_WITH_INPUT = (
    "Below is an instruction that describes a task, paired with an input that provides further context. "
    "Write a response that appropriately completes the request."
)


@dataclass(frozen=True)
class Piece:
    """Text that is tokenised in one go, and the character spans in it that the assistant wrote."""

    text: str
    spans: tuple[tuple[int, int], ...]
    ends_sequence: bool
    """Whether an end-of-sequence token follows."""
    has_special_tokens: bool
    """Whether the names of special tokens in the text mean those tokens, as a chat template's do.

    In the other styles a user's own text never counts as one; in a chat's text the two cannot be told apart.
    """
    is_end_learned: bool = True
    """Whether the end-of-sequence token is learned."""
    way: str = ""
    """How the spans of a chat were found (see `chat`)."""
    unseen: tuple[str, ...] = ()
    """What of the conversation is not in the text, as its messages call it."""


@dataclass(frozen=True)
class TokenizedExample:
    """Token ids (T,) int32, the mask of supervised tokens (T,) bool, and the length before truncation."""

    input_ids: np.ndarray
    supervised: np.ndarray
    full_length: int

    @property
    def learned(self) -> np.ndarray:
        """Return which tokens are learned, (T,) bool: the first has nothing before it to be predicted from."""
        learned = self.supervised.copy()
        learned[:1] = False
        return learned

    def cut(self, max_length: int) -> "TokenizedExample":
        """Return what is left of it within so many tokens."""
        return TokenizedExample(self.input_ids[:max_length], self.supervised[:max_length], self.full_length)


class Tokenization:
    """Turns conversations into tokens in one prompt style, cut on the right at `max_length` tokens.

    `date`, in ISO form, is the one that a chat template is told is today; `template_name` says which one it is, of a
    tokenizer that has several.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, style: PromptStyle, max_length: int,
                 date: str = TEMPLATE_DATE, template_name: str | None = None) -> None:
        self._tokenizer, self._style, self._max_length = tokenizer, style, max_length
        today = datetime.date.fromisoformat(date)
        self._chat = ChatTemplate(tokenizer, today, template_name) if style == "chat" else None
        # Beginning-of-sequence, only where the tokenizer adds it itself; a chat template writes its own.
        empty = tokenizer("")["input_ids"] if style != "chat" else []
        self._start = [i for i in empty[:1] if i == tokenizer.bos_token_id]

    def render(self, conversation: Conversation) -> list[Piece]:
        """Return the text of a conversation.

        Raises
        ------
        BadRow
            The prompt style, or the chat template, has no place for a part of it.
        """
        if self._chat is None:
            return list(_text_pieces(conversation, self._style))
        chat = self._chat.render(conversation)
        ends_itself = chat.text.rstrip().endswith(str(self._tokenizer.eos_token))
        is_end_learned = conversation.turns[-1].is_learned
        return [Piece(chat.text, chat.spans, ends_sequence=not ends_itself, has_special_tokens=True,
                      is_end_learned=is_end_learned, way=chat.way, unseen=chat.unseen)]

    def tokenize(self, rendered: Sequence[Sequence[Piece]]) -> list[TokenizedExample]:
        """Tokenise many rendered conversations at once."""
        pieces = [piece for example in rendered for piece in example]
        encoded = iter(self._encode(pieces))
        return [self._join([next(encoded) for _ in example]) for example in rendered]

    def spell(self, pieces: Sequence[Piece]) -> list[str]:
        """Return the text of each token of one conversation, cut nowhere; one after the other they are all of it."""
        texts = [str(self._tokenizer.bos_token) for _ in self._start]
        for piece, encoding in self._encodings(pieces):
            ends = np.maximum.accumulate([0, *(end for _, end in encoding.offsets)])
            if len(encoding):
                ends[-1] = len(piece.text)  # white space that no token holds is the last one's
            texts += [piece.text[start:end] for start, end in pairwise(ends.tolist())]
            texts += [str(self._tokenizer.eos_token)] if piece.ends_sequence else []
        return texts

    def _encodings(self, pieces: Sequence[Piece]) -> Iterator[tuple[Piece, Encoding]]:
        """Yield each piece with its tokens, without its end-of-sequence.

        By the tokenizer's own Rust core: what transformers makes of its answer, lists of Python's for every token's
        offsets among it, takes longer than tokenising.
        """
        if not pieces:
            return
        backend = self._tokenizer.backend_tokenizer  # type: ignore[attr-defined]
        backend.no_truncation()
        backend.no_padding()
        backend.encode_special_tokens = not pieces[0].has_special_tokens
        yield from zip(pieces, backend.encode_batch([piece.text for piece in pieces], add_special_tokens=False),
                       strict=True)

    def _encode(self, pieces: Sequence[Piece]) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return ids and supervised mask of each piece, its end-of-sequence included."""
        encoded = []
        for piece, encoding in self._encodings(pieces):
            end = [self._tokenizer.eos_token_id] if piece.ends_sequence else []
            ids = np.array([*encoding.ids, *end], dtype=np.int32)
            supervised = np.zeros(len(ids), dtype=bool)
            for span in piece.spans:
                supervised[held(encoding, span)] = True
            supervised[len(encoding):] = piece.is_end_learned
            encoded.append((ids, supervised))
        return encoded

    def _join(self, parts: Sequence[tuple[np.ndarray, np.ndarray]]) -> TokenizedExample:
        if len(parts) == 1 and not self._start:
            ids, supervised = parts[0]
            return TokenizedExample(ids, supervised, len(ids)).cut(self._max_length)
        ids = np.concatenate([np.array(self._start, dtype=np.int32), *(part[0] for part in parts)])
        supervised = np.concatenate([np.zeros(len(self._start), dtype=bool), *(part[1] for part in parts)])
        return TokenizedExample(ids, supervised, len(ids)).cut(self._max_length)


def held(encoding: Encoding, span: tuple[int, int]) -> slice:
    """Return the tokens that hold a character of a span; their offsets rise, so that two searches find them.

    A token that begins in the prompt and ends in the response counts as the response's: otherwise the prompt
    given to generation would hold the response's first characters. Some tokenizers' offsets leave out blanks, so
    that a token of blanks alone is empty and lies at their end.
    """
    start, end = span

    def characters(token: int) -> tuple[int, int]:
        found = encoding.token_to_chars(token)
        assert found is not None, "nothing was added to the text's own tokens"
        return found

    def reaches(token: int) -> bool:
        return characters(token)[1] > start

    def lies_behind(token: int) -> bool:
        first, last = characters(token)
        return first >= end and last > end

    tokens = range(len(encoding))
    begin = bisect_left(tokens, True, key=reaches)
    if begin == len(encoding) or not lies_behind(len(encoding) - 1):  # most spans end with the text
        return slice(begin, len(encoding))
    return slice(begin, bisect_left(tokens, True, begin, key=lies_behind))


def _text_pieces(conversation: Conversation, style: PromptStyle) -> Iterable[Piece]:
    """Yield one piece for each exchange: everything said before an assistant turn, and that turn.

    Raises
    ------
    BadRow
        There are tools: these styles are of texts alone.
    """
    system, asked = [], []
    if conversation.tools or any(turn.calls or turn.role == "tool" for turn in conversation.turns):
        raise BadRow(Reason.TEMPLATE_ERROR, f"data.prompt_style={style} has no place for tools and their calls; chat "
                     "has, with a chat template that takes them")
    for turn in conversation.turns:
        if turn.role == "system":
            system.append(turn.content)
        elif turn.role == "user":
            asked.append(turn)
        else:
            prompt = _alpaca_prompt(system, asked) if style == "alpaca" else _plain_prompt(system, asked)
            text = prompt + turn.content
            spans = ((len(prompt), len(text)),) if turn.is_learned else ()
            yield Piece(text, spans, ends_sequence=True, has_special_tokens=False, is_end_learned=turn.is_learned,
                        unseen=("reasoning_content",) if turn.thinking else ())
            system, asked = [], []


def _alpaca_prompt(system: Sequence[str], asked: Sequence[Turn]) -> str:
    """Return the Alpaca template as S2L uses it: no blank after "### Response:". System turns replace the preamble."""
    instruction = "\n\n".join(turn.content for turn in asked)
    context = "\n\n".join(turn.context for turn in asked if turn.context)
    preamble = "\n\n".join(filter(None, system)) or (_ALPACA_WITH_INPUT if context else _ALPACA)
    given = f"\n\n### Input:\n{context}" if context else ""
    return f"{preamble}\n\n### Instruction:\n{instruction}{given}\n\n### Response:"


def _plain_prompt(system: Sequence[str], asked: Sequence[Turn]) -> str:
    """Return the turns' own text; a line break parts it from the response unless it ends in white space."""
    texts = [*system, *(text for turn in asked for text in (turn.content, turn.context))]
    prompt = "\n".join(text for text in texts if text)
    return prompt if not prompt or prompt[-1].isspace() else prompt + "\n"


def needs_chat_template(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Tell whether the tokenizer brings no chat template, so that the chat prompt style cannot be used."""
    return not tokenizer.chat_template
