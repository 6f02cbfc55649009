"""Which fine-tuned target of a run or sweep is meant: .venv/bin/pytest tests/results/test_record.py"""

import pytest

from s2l_ray.errors import InputError
from s2l_ray.results.record import Record, fine_tuned
from s2l_ray.storage.files import Storage


def step(label, fingerprint):
    return {"label": label, "stage": label.split()[0], "fingerprint": fingerprint}


def record(tmp_path, **content):
    return Record(Storage(str(tmp_path)), "runs/mine", {"name": "mine", "recipe": {}, **content})


def test_of_a_run_it_is_the_selection_s_own_or_the_named_control_s(tmp_path):
    steps = [step("select s2l", "a"), step("finetune s2l", "b"), step("finetune random", "c")]
    assert fine_tuned(record(tmp_path, steps=steps), None) == "finetune/b"
    assert fine_tuned(record(tmp_path, steps=steps), "random") == "finetune/c"
    asked = record(tmp_path, steps=steps, recipe={"selection": {"selector": "random"}})
    assert fine_tuned(asked, None) == "finetune/c"
    with pytest.raises(InputError, match=r"--arm full: .* has these fine-tuned targets: s2l, random"):
        fine_tuned(record(tmp_path, steps=steps), "full")


def test_of_a_sweep_it_is_a_trial_s(tmp_path):
    trials = [{"trial": name, "steps": [step("finetune s2l", fingerprint)]} for name, fingerprint in (("t1", "a"), ("t2", "b"))]
    sweep = record(tmp_path, trials=trials, shared=[])
    assert fine_tuned(sweep, "t2") == "finetune/b"
    with pytest.raises(InputError, match=r"--arm is needed: .* targets: t1: s2l, t2: s2l"):
        fine_tuned(sweep, None)


def test_a_run_that_was_not_run_to_its_end_has_none(tmp_path):
    with pytest.raises(InputError, match="none; run its recipe to the end, what is finished is reused"):
        fine_tuned(record(tmp_path, steps=[step("select s2l", "a")]), None)
