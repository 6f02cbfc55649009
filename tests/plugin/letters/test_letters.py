import pytest
from s2l_letters.by_length import SELECTOR
from s2l_letters.last_word import METRIC
from s2l_letters.letters import SHAPE

from s2l_ray.testing import SELECTOR_PROMISES, check_metric, check_selector, check_shape


def test_they_keep_every_promise():
    check_selector(SELECTOR)
    check_metric(METRIC)
    check_shape(SHAPE, {"letter": "How are you?", "reply": "Well, thank you."})


@pytest.mark.parametrize("promise", SELECTOR_PROMISES, ids=lambda promise: promise.__name__)
def test_the_same_one_by_one(promise):
    promise(SELECTOR)
