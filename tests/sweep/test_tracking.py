"""What is said of a sweep, and trackers refused early: .venv/bin/pytest tests/sweep/test_tracking.py"""

from types import SimpleNamespace

import pytest

from s2l_ray.errors import InputError
from s2l_ray.execution.trackers import NEEDS
from s2l_ray.recipe.loading import load_recipe
from s2l_ray.sweep import tracking
from s2l_ray.sweep.tracking import Narrator, check_tracking
from s2l_ray.sweep.trial import ERROR, SETTINGS, TRIAL, VALUE


def trial(name, status="RUNNING"):
    return SimpleNamespace(config={SETTINGS: {"trial": name}}, status=status)


@pytest.fixture
def said(monkeypatch):
    lines = []
    monkeypatch.setattr(tracking, "note", lines.append)
    return lines


def narrator(**changes):
    asked = {"metric": "held.loss", "mode": "min", "total": 5, "reused": {"old-seed0"}, "room": "2 at a time", "finished": lambda: None}
    return Narrator(**{**asked, **changes})


def test_each_result_says_where_the_sweep_is(said):
    trials = [trial("a-seed0"), trial("b-seed0"), trial("c-seed0", "PENDING")]
    story = narrator()
    story.on_trial_result(0, trials, trials[0], {VALUE: 0.5, "seeds": 1})
    story.on_trial_result(1, trials, trials[1], {VALUE: 0.7, "seeds": 2})
    # One was done before, two are now; the lower loss stays the best; 2 of 5 are left.
    assert said[0].startswith("sweep: a-seed0: held.loss 0.5000  (2/5 trials done, running: b-seed0, 2 waiting (2 at a time)")
    assert "b-seed0: held.loss 0.7000 over 2 seeds" in said[1] and "best 0.5000 a-seed0" in said[1]
    assert "3/5 trials done" in said[1] and "ETA" in said[1] and "(2 at a time)" in said[1]


def test_a_failure_is_never_a_number_and_never_the_best(said):
    story = narrator(mode="max")
    story.on_trial_result(0, [], trial("a"), {VALUE: float("-inf"), "seeds": 0, ERROR: "a: ValueError: no"})
    assert said == ["sweep: FAILED a: ValueError: no  (2/5 trials done, running: none, 3 waiting (2 at a time), ETA 0 s)"]


def test_seeds_that_an_earlier_sweep_finished_count_once(said):
    # Under ASHA a resumed point runs again from its first seed: what is finished is reused and reported once more.
    story, point = narrator(reused={"a-seed0", "a-seed1"}), trial("a-seed0")
    for seed in range(3):
        story.on_trial_result(seed, [point], point, {VALUE: 0.5, "seeds": seed + 1, TRIAL: f"a-seed{seed}"})
    assert ["/".join(line.partition("(")[2].split("/")[:1]) for line in said] == ["2", "2", "3"]


def test_the_record_follows_every_result(said):
    calls = []
    narrator(finished=lambda: calls.append(1)).on_trial_result(0, [], trial("a"), {VALUE: 1.0, "seeds": 1})
    assert calls == [1]


def test_between_results_it_speaks_now_and_then(said, monkeypatch):
    story = narrator()
    story.on_step_end(0, [])
    assert said == []
    monkeypatch.setattr(tracking, "_INTERVAL_S", 0)
    story.on_step_end(1, [trial("a")])
    assert said == ["sweep: 1/5 trials done, running: a, 3 waiting (2 at a time), ETA unknown"]


@pytest.mark.parametrize(
    ("tracked", "package", "message"),
    [
        ("mlflow", "mlflow", "needs MLFLOW_TRACKING_URI in the environment"),
        ("wandb", "json", "needs WANDB_API_KEY in the environment"),
        ("wandb", "no_such_package", r"needs the package no_such_package: pip install 's2l-ray\[wandb\]'"),
    ],
)
def test_a_tracker_that_cannot_work_is_refused_before_anything_runs(tracked, package, message, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setitem(NEEDS, tracked, NEEDS[tracked]._replace(packages=(package,)))
    with pytest.raises(InputError, match=message):
        check_tracking(load_recipe("quickstart-sweep", [f"sweep.tracking={tracked}"]))
    check_tracking(load_recipe("quickstart-sweep"))
