"""Numbers and texts as people read them."""

import math

import pytest

from s2l_ray.report.figures import cut, number, percent, plot_text, probability, sign


@pytest.mark.parametrize(
    ("value", "text"), [(0.12345, "0.123"), (0.00963, "0.0096"), (0, "0.000"), (12.3, "12.300"), (math.nan, "-")]
)
def test_numbers(value, text):
    assert number(value) == text


@pytest.mark.parametrize(("share", "text"), [(0.11, "11"), (0.005, "0.5"), (0.0333, "3.33"), (1.0, "100"), (0.125, "12.5")])
def test_shares(share, text):
    assert percent(share) == f"{text}\u00a0%"


def test_signs_and_probabilities():
    assert (sign(0.5), sign(-0.5), probability(1e-9), probability(0.04)) == ("+0.500", "\u22120.500", "below 0.001", "0.040")


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("short", "short"),
        ("0123456789", "0123456789"),
        ("0123456789x", "012345678…"),
        ("漢" * 11, "漢" * 9 + "…"),  # three bytes each: as many as of any other letter
        ("🙂" * 11, "🙂" * 6 + "…"),  # four bytes each, and 9 x 3 = 27 are free: 6
        ("<" * 11, "<" * 4 + "…"),  # six bytes each in the page: 4
    ],
)
def test_texts_are_cut_by_characters_and_by_what_they_take(text, kept):
    assert cut(text, 10) == kept


def test_labels_in_plots_are_no_markup():
    assert plot_text("<b>a</b> & <a href='x'>b</a>") == "&lt;b&gt;a&lt;/b&gt; &amp; &lt;a href='x'&gt;b&lt;/a&gt;"
