"""Which parts of an instruction its answer must depend on: a rule on the text alone."""

import re

MASK = "_"

_QUOTED = re.compile(r'"[^"\n]+"|\u201c[^\u201d\n]+\u201d|`[^`\n]+`|\$[^$\n]+\$')
_NUMBER = re.compile(r"\d+(?:[.,:/]\d+)*%?")
_WORD = re.compile(r"[^\W\d_]+(?:[-'\u2019][^\W\d_]+)*")
_SENTENCE_ENDS = ".!?:;\n"
_OPENING = " \t\"'\u201c\u2018(*_-"
_NUM_LONGEST = 3


def mask_key_parts(text: str) -> str:
    """Return the text with each key part replaced by `_`.

    KPIG (arXiv 2403.10056) lets GPT-4 name the key parts; this rule is our own. Key parts are what stands in double
    quotes, backticks or dollar signs; numbers; and names (words with a capital that begin no sentence). Where a text
    has none of these, they are its three longest words that are no English stop words (of equally long ones the
    first). Key parts with only blanks between them are one. A text without words stays as it is.
    """
    pieces: list[str] = []
    end = 0
    for start, stop in _spans(text):
        if not pieces or text[end:start].strip():
            pieces += [text[end:start], MASK]
        end = stop
    return "".join([*pieces, text[end:]])


def _spans(text: str) -> list[tuple[int, int]]:
    """Return the key parts' places in the text, ascending, none within another."""
    quoted = [match.span() for match in _QUOTED.finditer(text)]
    others = [*(match.span() for match in _NUMBER.finditer(text)), *_names(text)]
    bare = [span for span in others if not any(start <= span[0] < stop for start, stop in quoted)]
    return sorted(quoted + bare or _longest_words(text))


def _names(text: str) -> list[tuple[int, int]]:
    """Return the words with a capital that begin no sentence; "I" is none, nor is "I'm"."""
    found = []
    for match in _WORD.finditer(text):
        before = text[: match.start()].rstrip(_OPENING)
        begins_sentence = not before or before[-1] in _SENTENCE_ENDS
        if match[0][0].isupper() and not begins_sentence and re.split("['\u2019]", match[0])[0] != "I":
            found.append(match.span())
    return found


def _longest_words(text: str) -> list[tuple[int, int]]:
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS  # heavy

    words = [match for match in _WORD.finditer(text) if match[0].lower() not in ENGLISH_STOP_WORDS]
    return [match.span() for match in sorted(words, key=lambda match: -len(match[0]))[:_NUM_LONGEST]]
