"""The checks that others run on theirs find what is wrong: .venv/bin/pytest tests/test_testing.py"""

import subprocess
import sys

import numpy as np
import pytest

from s2l_ray.errors import InputError
from s2l_ray.metrics.intervals import Estimate
from s2l_ray.metrics.metric import Answer, Metric
from s2l_ray.rows.conversation import BadRow, Conversation, Turn
from s2l_ray.rows.shape import Shape
from s2l_ray.rows.turns import text
from s2l_ray.selectors.selector import Choice, Selector, highest_first
from s2l_ray.tables.needs import Need
from s2l_ray.testing import check_metric, check_selector, check_shape


def test_it_needs_no_pytest_and_nothing_heavy():
    program = ("import sys\nimport s2l_ray.testing\n"
               "print({'pytest', 'hypothesis', 'torch', 'ray', 'transformers'} & sys.modules.keys())")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


# --- selectors ---------------------------------------------------------------------------------------


class Longest(Selector):
    """The most supervised tokens first."""

    name = "longest"
    needs = frozenset({Need.LENGTHS})

    def select(self, pool, budget, config, rng):
        return highest_first(pool.lengths_N, budget)


class Drawn(Longest):
    """Any."""

    takes_seed = True

    def select(self, pool, budget, config, rng):
        return Choice(rng.permutation(len(pool))[:budget])


def wrong(base, said, **members):
    """Return a class that breaks one promise: its body beside that of a base, and the message that finds it."""
    return pytest.param(type("Wrong", (base,), {"__doc__": "Wrong.", **members}), said, id=said[:50])


def choosing(positions, **reasons):
    return lambda self, pool, budget, config, rng: Choice(np.asarray(positions(pool, budget, rng)), **{
        name: make(budget) for name, make in reasons.items()})


def first(pool, budget, rng):
    return np.arange(budget)


def fails(self, pool, budget, config, rng):
    raise KeyError("cluster")


def catches(self, pool, budget, config, rng):
    try:
        return highest_first(pool.last_losses_N, budget)
    except InputError:
        return Choice(np.arange(budget))


def quotients(self, pool, budget, config, rng):
    with np.errstate(all="ignore"):
        perplexities = np.exp(pool.losses_NC[:, [0, -1]])
        return Choice(np.arange(budget), scores_B=(perplexities[:, 0] / perplexities[:, 1])[:budget])


calls = iter(range(10**6))

SELECTORS_THAT_ARE_WRONG = [
    wrong(Longest, r"name='a-b' must be letters", name="a-b"),
    wrong(Longest, "needs a docstring", __doc__=""),
    wrong(Longest, r"needs \['lenghts'\], which are none of", needs=frozenset({"lenghts"})),
    wrong(Longest, r"parameters names \['budget', 'top_k'\]", parameters=frozenset({"budget", "top_k", "num_neighbours"})),
    wrong(Longest, r"longest chose 2 rows, budget 1", select=choosing(lambda pool, budget, rng: np.arange(min(len(pool), budget + 1)))),
    wrong(Longest, "selected twice", select=choosing(lambda pool, budget, rng: np.zeros(budget, dtype=int))),
    wrong(Longest, "raised .*(IndexError|ArrowIndexError)", select=choosing(lambda pool, budget, rng: np.arange(budget) + len(pool))),
    wrong(Longest, r"raised KeyError: 'cluster'", select=fails),
    wrong(Longest, "a score is not finite", select=choosing(first, scores_B=lambda budget: np.full(budget, np.nan))),
    wrong(Longest, "budget 20: a score is not finite", needs=frozenset({Need.TRAJECTORIES}), select=quotients),
    wrong(Longest, "raised ArrowInvalid", select=choosing(first, scores_B=lambda budget: np.zeros(budget + 1))),
    wrong(Longest, "quotas_B must say how many", select=choosing(first, clusters_B=lambda budget: np.zeros(budget, dtype=int), quotas_B=lambda budget: np.full(budget, 99))),
    wrong(Longest, "must be JSON-able", select=choosing(first, facts=lambda budget: {"size": np.int64(3)})),
    wrong(Longest, "rows in another order", select=choosing(lambda pool, budget, rng: np.roll(np.arange(len(pool)), next(calls))[:budget])),
    wrong(Longest, "rows in another order", select=choosing(lambda pool, budget, rng: np.random.permutation(len(pool))[:budget]), takes_seed=True),
    wrong(Drawn, r"takes_seed is False, and 6 seeds gave", takes_seed=False),
    wrong(Longest, "takes_seed is True, and 6 seeds gave one choice", takes_seed=True),
    wrong(Longest, "say is_nested = False", select=choosing(lambda pool, budget, rng: np.arange(len(pool))[::max(1, len(pool) // budget)][:budget])),
    wrong(Longest, "needs trajectories, and chose from a pool where one is None", needs=frozenset({Need.TRAJECTORIES}), select=catches),
    wrong(Longest, r"longest: choosing 1 of 1 .*raised .*its pool holds what `needs` names, \[\], and no more", needs=frozenset()),
    wrong(Longest, "select reads selection.num_neighbours, which `parameters` does not name", select=lambda self, pool, budget, config, rng: highest_first(pool.lengths_N % config.num_neighbours, budget)),
    wrong(Longest, "select reads selection.budget: it is given", select=lambda self, pool, budget, config, rng: highest_first(pool.lengths_N * (config.budget > 0), budget)),
    wrong(Longest, "longest: another choice where the pool holds more", select=lambda self, pool, budget, config, rng: highest_first(pool.lengths_N * (1 if pool.sources is None else -1), budget)),
    wrong(Longest, r"select draws \(rng.random\)", select=lambda self, pool, budget, config, rng: highest_first(pool.lengths_N + 0 * rng.random(), budget)),
]


@pytest.mark.parametrize("right", [Longest, Drawn])
def test_a_selector_that_keeps_every_promise_passes(right):
    check_selector(right())


@pytest.mark.parametrize(("wrong_one", "said"), SELECTORS_THAT_ARE_WRONG)
def test_a_selector_that_breaks_one_is_told_which(wrong_one, said):
    with pytest.raises(AssertionError, match=f"(?s){said}"):
        check_selector(wrong_one())


def test_a_selector_must_be_an_object_of_the_class():
    with pytest.raises(AssertionError, match="is no object of a class of s2l_ray"):
        check_selector(Longest)


def test_settings_are_for_those_that_cannot_do_with_the_defaults():
    def needs_neighbours(self, pool, budget, config, rng):
        if config.num_neighbours != 3:
            raise InputError("set selection.num_neighbours=3")
        return highest_first(pool.lengths_N, budget)

    picky = type("Picky", (Longest,), {"__doc__": "P.", "parameters": frozenset({"num_neighbours"}), "select": needs_neighbours})()
    check_selector(picky, num_neighbours=3)
    with pytest.raises(InputError, match="num_neighbours=3"):
        check_selector(picky)


def test_one_that_draws_from_large_pools_only_says_so():
    class DrawsRarely(Longest):
        """Draws of more than 10,000."""

        takes_seed = True

    check_selector(DrawsRarely(), always_draws=False)


# --- metrics -----------------------------------------------------------------------------------------


class LastWord(Metric):
    """Whether the last words are the same, 0 to 1."""

    name = "last_word"

    def score(self, answer):
        return float(answer.prediction.split()[-1:] == answer.reference.split()[-1:])


METRICS_THAT_ARE_WRONG = [
    wrong(LastWord, "needs a docstring", __doc__=None),
    wrong(LastWord, r"better='greater' is none of higher, lower", better="greater"),
    wrong(LastWord, r"needs='answer' is none of losses, answers, options", needs="answer"),
    wrong(LastWord, r"decimals=0\.5 must be", decimals=0.5),
    wrong(LastWord, r"raised IndexError", score=lambda self, answer: float(answer.prediction.split()[-1] == "4.")),
    wrong(LastWord, r"has the value 41\.0, which must be from 0 to 1", score=lambda self, answer: 41.0),
    wrong(LastWord, r"has the value nan, which must be from 0 to 1", score=lambda self, answer: float("nan")),
    wrong(LastWord, "another value the second time", score=lambda self, answer: next(calls) % 7 / 7),
    wrong(LastWord, r"and better='lower': give a right and a wrong answer", better="lower"),
    wrong(LastWord, "an answer without a gold one has the value 1.0", needs_gold=True, score=lambda self, answer: float("4" in answer.prediction)),
    wrong(LastWord, "its value outside its interval", estimate=lambda self, rows, rng: Estimate(2.0, 0.0, 1.0, rows.num_rows)),
    wrong(LastWord, "is of 7 rows, not 5", estimate=lambda self, rows, rng: Estimate(0.5, 0.0, 1.0, 7)),
    wrong(LastWord, "draw from the generator that is given", estimate=lambda self, rows, rng: Estimate(np.random.default_rng().random(), 0.0, 1.0, rows.num_rows)),
    wrong(LastWord, "where the right option has the lowest loss its value is 0.5", needs="options", rank=lambda self, options: 0.5),
]


def test_a_metric_that_keeps_every_promise_passes():
    check_metric(LastWord())
    check_metric(type("Errors", (LastWord,), {"__doc__": "E.", "better": "lower", "score": lambda self, answer: float(answer.prediction != "x")})(),
                 right=Answer("x", "x", None), wrong=Answer("y", "x", None))


@pytest.mark.parametrize(("wrong_one", "said"), METRICS_THAT_ARE_WRONG)
def test_a_metric_that_breaks_one_is_told_which(wrong_one, said):
    with pytest.raises(AssertionError, match=f"(?s){said}"):
        check_metric(wrong_one())


# --- row shapes --------------------------------------------------------------------------------------

ROW = {"letter": "1 + 1?", "reply": "2"}


class Letters(Shape):
    """A letter and the reply to it."""

    name = "letters"
    required = {"letter": ("letter",), "reply": ("reply", "answer")}
    optional = {"place": ("place",)}
    precedence = 0

    def conversation(self, fields):
        asked, said = (text(fields[name], name) for name in ("letter", "reply"))
        return Conversation((Turn("user", asked), Turn("assistant", said)))


def reading(make):
    return lambda self, fields: Conversation(make(fields))


def changes_the_row(self, fields):
    if isinstance(fields["place"], list):
        fields["place"].append("x")
    return Letters.conversation(self, fields)


SHAPES_THAT_ARE_WRONG = [
    wrong(Letters, "needs a docstring", __doc__=" "),
    wrong(Letters, "required names no field", required={}),
    wrong(Letters, r"a tuple of names, not \['reply'\]", required={"letter": ("letter",), "reply": "reply"}),
    wrong(Letters, r"becomes names \['lettre'\]", becomes={"lettre": "the user turn"}),
    wrong(Letters, r"precedence='high' must be a whole number", precedence="high"),
    wrong(Letters, "the row has no column for date", required={**Letters.required, "date": ("date",)}),
    wrong(Letters, "is refused", conversation=lambda self, fields: text(None, "x")),
    wrong(Letters, "raised AttributeError", conversation=reading(lambda fields: (Turn("user", fields["letter"].strip()), Turn("assistant", fields["reply"].strip())))),
    wrong(Letters, "something is no text", conversation=reading(lambda fields: (Turn("user", fields["letter"]), Turn("assistant", fields["reply"])))),
    wrong(Letters, "the last turn is not the assistant's", conversation=reading(lambda fields: (Turn("assistant", "2"), Turn("user", "1 + 1?")))),
    wrong(Letters, "a role is none of system, user", conversation=reading(lambda fields: (Turn("writer", "1"), Turn("assistant", "2")))),
    wrong(Letters, "a system turn follows others", conversation=reading(lambda fields: (Turn("user", "1"), Turn("system", "x"), Turn("assistant", "2")))),
]


def test_a_shape_that_keeps_every_promise_passes():
    check_shape(Letters(), ROW)


@pytest.mark.parametrize(("wrong_one", "said"), SHAPES_THAT_ARE_WRONG)
def test_a_shape_that_breaks_one_is_told_which(wrong_one, said):
    with pytest.raises(AssertionError, match=f"(?s){said}"):
        check_shape(wrong_one(), ROW)


def test_a_shape_that_changes_what_it_reads_is_told():
    wrong_one = type("Wrong", (Letters,), {"__doc__": "W.", "conversation": changes_the_row})()
    with pytest.raises(AssertionError, match="reading changed the row"):
        check_shape(wrong_one, {**ROW, "place": ["here"]})


def test_a_row_without_a_reason_is_no_bad_row():
    def without(self, fields):
        if fields["reply"] != "2":
            raise BadRow("because", "it is")
        return Letters.conversation(self, fields)

    with pytest.raises(AssertionError, match="a BadRow has a Reason and a text"):
        check_shape(type("Wrong", (Letters,), {"__doc__": "W.", "conversation": without})(), ROW)
