"""The key parts of instructions, by hand: .venv/bin/pytest tests/modeling/test_key_parts.py"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s2l_ray.modeling.key_parts import mask_key_parts


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("Add 12 and 3.5, then 40%.", "Add _ and _, then _."),  # numbers
        ('Translate "good night" to French.', "Translate _ to _."),  # a quotation, a name
        ("Who wrote War and Peace? Ask Leo Tolstoy.", "Who wrote _ and _? Ask _."),  # neighbours are one part
        ("Tell me what I'm to do with `x = 1`, I ask.", "Tell me what I'm to do with _, I ask."),  # "I" is no name
        ("Solve $x^2 = 4$ in 2 steps", "Solve _ in _ steps"),  # the 2 and the 4 in the formula are part of it
        ("Is it so?\nNames begin lines. They do: Always.", "Is it so?\n_. They do: Always."),  # 3 x 5 letters, neighbours
        ("Explain why the photosynthesis of plants matters.", "_ why the _ of plants _."),  # 7, 14 and 7 letters
        ("the of and", "the of and"),  # stop words alone
        ("", ""),
        ("???", "???"),
        ("Sag mir, wo Köln liegt", "Sag mir, wo _ liegt"),
    ],
)
def test_by_hand(text, masked):
    assert mask_key_parts(text) == masked


@given(st.text(max_size=200))
def test_masking_only_ever_replaces(text):
    masked = mask_key_parts(text)
    assert len(masked) <= len(text)
    rest, end = masked.split("_"), 0
    if "_" not in text:
        for piece in rest:  # what is left stands in the text in its order
            place = text.find(piece, end)
            assert place >= 0
            end = place + len(piece)
