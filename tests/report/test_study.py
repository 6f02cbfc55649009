"""What is compared: runs and sweeps in one form, merged where they are about one pool."""

import pytest

from s2l_ray.errors import InputError
from s2l_ray.report.build import build_page
from s2l_ray.report.study import read_study


def labels(study):
    return [(point.label, point.budget, [arm.seed for arm in point.arms]) for point in study.points]


def test_a_run_is_an_arm_for_each_selection(finished_run):
    study = read_study([finished_run], "")
    assert labels(study) == [("s2l", 0.2, [0]), ("random", 0.2, [0]), ("full", None, [0])]
    assert [arm.is_control for arm in study.arms] == [False, True, True]
    assert (study.metric.task, study.metric.name, study.metric.lower_is_better) == ("problems", "exact_match", False)
    assert study.primary.selector == "s2l"


def test_a_sweep_is_an_arm_for_each_trial_and_a_point_for_its_seeds(tiny):
    trials = [tiny.trial("s2l", 0.2, seed, tiny.add_arm("s2l", f"{k}{seed}", [1, 2], [1, 0]), clusters=k)
              for k in (2, 4) for seed in (0, 1)]
    trials.append(tiny.trial("random", 0.2, 0, tiny.add_arm("random", "r", [1, 2], [1, 0])))
    study = read_study([tiny.write_sweep("swept", trials)], "")
    assert labels(study) == [("s2l (K=2)", 0.2, [0, 1]), ("s2l (K=4)", 0.2, [0, 1]), ("random", 0.2, [0])]
    assert study.primary.trial == "s2l-b0.2-k2-seed0"  # the recipe's own K


def test_other_settings_that_were_swept_tell_configurations_apart(tiny):
    trials = []
    for rate in (0.1, 0.2):
        trial = tiny.trial("s2l", 0.2, 0, tiny.add_arm("s2l", f"{rate}", [1, 2], [1, 0]))
        trial["overrides"]["target.learning_rate"] = rate
        trials.append(trial)
    assert [label for label, _, _ in labels(read_study([tiny.write_sweep("swept", trials)], ""))] == [
        "s2l (target.learning_rate=0.1)", "s2l (target.learning_rate=0.2)"]


def test_a_failed_trial_is_shown_as_failed_and_never_as_a_number(tiny):
    broken = tiny.add_arm("s2l", "1", [1, 2], [1, 1])  # even with artifacts of an earlier attempt lying there
    trials = [tiny.trial("s2l", 0.2, 0, tiny.add_arm("s2l", "0", [1, 2], [1, 0])),
              tiny.trial("s2l", 0.2, 1, broken, state="failed", error="RuntimeError: <b>out of memory</b>")]
    page = build_page(read_study([tiny.write_sweep("swept", trials)], ""))
    assert "1 arm failed: s2l-b0.2-seed1 (RuntimeError: <b>out of memory</b>). No figure here counts it." in \
        page.sections["answer"].sentences
    assert page.sections["answer"].tables[-1].rows == (
        ("s2l-b0.2-seed1", "s2l", "1", "failed", "RuntimeError: <b>out of memory</b>"),)
    mean, seeds = page.sections["curve"].figures[0].tables[0].rows[0][3], \
        page.sections["curve"].figures[0].tables[0].rows[0][6]
    assert (mean, seeds) == ("0.500", "1")


def test_a_study_whose_trials_all_failed(tiny):
    select = tiny.add_select("s2l", "s", [1, 2])
    later = {"label": "evaluate s2l", "stage": "evaluate", "fingerprint": "later", "arm": "s2l"}
    uri = tiny.write_sweep("swept", [tiny.trial("s2l", 0.2, 0, [select, later], state="failed", error="no")])
    assert "no arm has a finished evaluation" in build_page(read_study([uri], "")).sections["answer"].sentences[0]


def test_runs_of_one_pool_are_merged_and_what_they_share_counts_once(tiny, finished_run):
    more = tiny.add_arm("s2l", "more", list(range(16)), [1, 1, 1, 1] * 10)
    other = tiny.write_run("other", [*more, *tiny.add_arm("full", "full", list(range(40)), [1, 0, 1, 0] * 10)],
                           selection={**tiny.recipe["selection"], "budget": 0.4, "controls": ["full"]})
    study = read_study([finished_run, other], "")
    assert labels(study) == [("s2l", 0.2, [0]), ("random", 0.2, [0]), ("full", None, [0]), ("s2l", 0.4, [0])]


def test_runs_of_two_pools_are_refused_by_name(tiny, finished_run):
    tiny.prepare = tiny.add("prepare", "another", tiny.storage.read_json("prepare/pool/manifest.json")
                            | {"fingerprint": "another"})
    other = tiny.write_run("other", [])
    with pytest.raises(InputError, match="'tiny' and 'other' are about different pools"):
        read_study([finished_run, other], "")


def test_a_run_that_is_not_there(tiny, finished_run):
    with pytest.raises(InputError, match="has no run or sweep 'absent'; there: runs/tiny"):
        read_study(["absent"], tiny.storage.uri)


def test_a_run_and_a_sweep_of_one_name_are_told_apart(tiny, finished_run):
    swept = tiny.write_sweep("tiny", [tiny.trial("s2l", 0.2, 0, tiny.add_arm("s2l", "0", [1, 2], [1, 0]))])
    assert not read_study([finished_run], "").records[0].is_sweep and read_study([swept], "").records[0].is_sweep
    with pytest.raises(InputError, match="'tiny' is a run and a sweep: give runs/tiny or sweeps/tiny"):
        read_study(["tiny"], tiny.storage.uri)
