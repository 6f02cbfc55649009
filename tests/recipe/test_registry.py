"""Things of other packages, whole and broken: .venv/bin/pytest tests/recipe/test_registry.py"""

import sys

import pytest
from pydantic import ValidationError

from s2l_ray.errors import InputError
from s2l_ray.recipe.data import DataConfig
from s2l_ray.recipe.evaluation import TaskConfig
from s2l_ray.recipe.registry import FORMATS, METRICS, SELECTORS, SHAPES, TRAINERS
from s2l_ray.recipe.selection import SelectionConfig
from s2l_ray.rows.shape import detect_shape
from s2l_ray.selectors.methods.random import SELECTOR as RANDOM
from s2l_ray.stages.tasks import predictions_schema

SELECTOR = """
from s2l_ray.selectors.methods.random import Random
class Mine(Random):
    name = NAME
MINE = Mine()
"""
SHAPE = """
from s2l_ray.rows.conversation import Conversation, Turn
from s2l_ray.rows.shape import Shape
class Letters(Shape):
    name, required, precedence = "letters", {"letter": ("letter",), "reply": ("reply",)}, 0
    def conversation(self, fields):
        return Conversation((Turn("user", fields["letter"]), Turn("assistant", fields["reply"])))
MINE = Letters()
"""
METRIC = """
from s2l_ray.metrics.metric import Metric
class Same(Metric):
    name = "same"
    def score(self, answer):
        return float(answer.prediction == answer.reference)
MINE = Same()
"""
TRAINER = """
from s2l_ray.export.trainers.trl import Trl
class Mine(Trl):
    name = "my_trainer"
MINE = Mine()
"""


def selector(name):
    return SELECTOR.replace("NAME", repr(name))


@pytest.fixture
def mine(installed):
    """A selector of another package."""
    return installed("s2l-mine", {"selectors": {"mine": "mine_module:MINE"}}, {"mine_module": selector("mine")}, "1.2")


def test_it_is_named_as_ours_are(mine):
    assert SELECTORS.names == (*SELECTORS.own, "mine") and "mine_module" not in sys.modules
    assert SELECTORS.check("s2l") == "s2l" and "mine_module" not in sys.modules, "ours are found without it"
    assert SelectionConfig(selector="mine", controls=["mine"]).selector == "mine"
    assert SELECTORS.find("mine") is SELECTORS.get("mine") is sys.modules["mine_module"].MINE
    assert [one.name for one in SELECTORS] == [*SELECTORS.own, "mine"] and SELECTORS.broken == {}


def test_metrics_shapes_and_trainers_are_too(installed):
    groups = {"metrics": {"same": "a:MINE"}, "shapes": {"letters": "b:MINE"}, "trainers": {"my_trainer": "c:MINE"}}
    installed("s2l-all", groups, {"a": METRIC, "b": SHAPE, "c": TRAINER})
    task = TaskConfig(name="held", path="x.jsonl", metrics=["same"], format="letters")
    assert "same" in predictions_schema([task]).names and METRICS.find("same").mode == "max"
    assert DataConfig(path="x", format="letters").format == "letters"
    assert detect_shape(["letter", "reply"]) == "letters" and SHAPES.find("letters").missing(["letter"], {}) == ["reply"]
    assert TRAINERS.find("my_trainer").title == "TRL"


def test_file_formats_are_ours_alone(installed):
    installed("s2l-formats", {"formats": {"xml": "not_there:FORMAT"}})
    assert FORMATS.names == FORMATS.own and "xml" not in FORMATS.own
    with pytest.raises(InputError, match=r"file format 'xml' is unknown; .*parquet$"):
        FORMATS.find("xml")


def test_identities_name_the_version_of_others_and_nothing_of_ours(mine):
    assert SELECTORS.identity_of("s2l", "random", "mine") == {"plugins": {"mine": "s2l-mine 1.2"}}
    assert SELECTORS.identity_of("s2l") == SELECTORS.identity_of() == SELECTORS.identity_of("nothing") == {}


BROKEN = {
    "raises": ("raise RuntimeError('no licence')", "m:MINE", r"cannot be loaded: RuntimeError: no licence; repair"),
    "ends the process": ("raise SystemExit(3)", "m:MINE", r"cannot be loaded: SystemExit: 3"),
    "recurses": ("from s2l_ray.recipe.registry import SELECTORS; SELECTORS.find('mine')", "m:MINE", r"cannot be loaded"),
    "is no Python": ("class :", "m:MINE", r"cannot be loaded: SyntaxError"),
    "imports what is not there": ("import torch_of_tomorrow", "m:MINE", r"ModuleNotFoundError: .*torch_of_tomorrow"),
    "is not there": ("", "nowhere_at_all:MINE", r"ModuleNotFoundError: .*nowhere_at_all"),
    "has no such attribute": ("", "m:MINE", r"AttributeError: .*'MINE'"),
    "names nothing": ("", "!", r"cannot be loaded"),
    "names its class": (selector("mine"), "m:Mine", r"is the class Mine: the entry point must name an object whose class is a s2l_ray.selectors.selector.Selector"),
    "is of another kind": (METRIC, "m:MINE", r"is of type Same: the entry point must name an object"),
    "is a text": ("MINE = 'mine'", "m:MINE", r"is of type str"),
    "has another name": (selector("others"), "m:MINE", r"has name='others' in its class: both must be the same"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_one_is_an_error_for_who_names_it_alone(case, installed, caplog):
    source, value, why = BROKEN[case]
    installed("s2l-bad", {"selectors": {"mine": value}}, {"m": source}, "0.3")
    whole = rf"selector 'mine' of s2l-bad 0\.3 \(entry point .*\) .*{why}"
    for naming in (SELECTORS.find, SELECTORS.check):
        with pytest.raises(InputError, match=f"(?s){whole}"):
            naming("mine")
    with pytest.raises(ValidationError, match=f"(?s){whole}"):
        SelectionConfig(selector="mine")
    assert SelectionConfig(selector="random").selector == "random" and SELECTORS.find("random") is RANDOM
    assert SELECTORS.get("mine") is None and list(SELECTORS.broken) == ["mine"] and "mine" in SELECTORS.names
    with pytest.raises(InputError, match=r"selector 'main' is unknown; did you mean mine\? known: ask_llm, .*, stratified_random, mine \(broken\)"):
        SELECTORS.find("main")


def test_a_broken_one_is_left_out_of_all_and_said_once(installed, caplog):
    installed("s2l-bad", {"shapes": {"letters": "m:MINE"}}, {"m": "raise ValueError('half written')"})
    assert detect_shape(["instruction", "output"]) == detect_shape(["instruction", "output"]) == "alpaca"
    assert caplog.text.count("left out: row shape 'letters' of s2l-bad 1.0") == 1
    with pytest.raises(InputError, match=r"no known format fits(?s:.*)letters is broken: .*half written"):
        detect_shape(["letter", "reply"])


def test_what_raises_is_imported_once(installed, tmp_path):
    source = f"open({str(tmp_path / 'tries')!r}, 'a').write('x'); raise ValueError"
    installed("s2l-bad", {"selectors": {"mine": "m:MINE"}}, {"m": source})
    for _ in range(3):
        assert SELECTORS.get("mine") is None
    assert (tmp_path / "tries").read_text() == "x"


def test_a_name_of_ours_is_refused_with_both_packages(installed):
    installed("s2l-mine", {"selectors": {"density": "m:MINE"}}, {"m": selector("density")}, "1.2")
    said = r"selector 'density' is offered by s2l-ray and s2l-mine 1\.2: uninstall one of them"
    with pytest.raises(InputError, match=said):
        SELECTORS.find("density")
    with pytest.raises(ValidationError, match=said):
        SelectionConfig(selector="density")
    assert SELECTORS.names.count("density") == 1 and "density" not in [one.name for one in SELECTORS]
    assert "m" not in sys.modules, "nobody has asked for it alone"


def test_a_name_of_two_packages_is_refused_with_both(installed):
    installed("s2l-a", {"selectors": {"mine": "m:MINE"}}, {"m": selector("mine")})
    installed("s2l-b", {"selectors": {"mine": "n:MINE"}}, {"n": selector("mine")}, "2.0")
    with pytest.raises(InputError, match=r"'mine' is offered by s2l-a 1\.0 and s2l-b 2\.0"):
        SELECTORS.find("mine")


@pytest.mark.parametrize(("group", "name", "registry"), [
    ("selectors", "base", SELECTORS), ("metrics", "prediction", METRICS), ("shapes", "auto", SHAPES), ("selectors", "a-b", SELECTORS),
    ("shapes", "alpaca+letters", SHAPES), ("selectors", "../x", SELECTORS),
])
def test_names_with_a_meaning_of_their_own_are_refused(installed, group, name, registry):
    installed("s2l-mine", {group: {name: "m:MINE"}}, {"m": "MINE = None"})
    with pytest.raises(InputError, match=r"needs another name: of letters, digits and underscores"):
        registry.find(name)


def test_no_metric_may_be_called_as_a_column_of_the_predictions():
    texts = set(predictions_schema([]).names)
    ranking = set(predictions_schema([TaskConfig(name="t", path="x", metrics=["acc"])]).names) - {"acc"}
    assert METRICS.taken == texts | ranking


def test_one_that_was_there_when_a_record_was_made_is_none_now():
    assert SELECTORS.get("of_yesterday") is None and SELECTORS.get(None) is None and METRICS.get("s2l") is None
    with pytest.raises(InputError, match=r"'of_yesterday' is unknown; known: .*; one of another package is known where that is installed"):
        SELECTORS.find("of_yesterday")
