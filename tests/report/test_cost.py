"""Cost: what selecting took against what it saved, by hand."""

from s2l_ray.report.build import build_page
from s2l_ray.report.cost import gpu_seconds, selecting_seconds
from s2l_ray.report.study import read_study


def test_the_balance_of_selecting(finished_run):
    study = read_study([finished_run], "")
    # proxy, trajectories and select took 2 s each; random needed its select alone; tokenising counts for neither.
    assert [selecting_seconds(study, arm) for arm in study.arms] == [6.0, 2.0, 2.0]
    first, second = build_page(study).sections["cost"].sentences
    assert first == "Selecting 8 rows with s2l cost 6 s (6.0 s: all that the selection needs beyond tokenising)."
    # 4 s on the selection against 20 s on all: 16 s less, more than the 6 s of selecting.
    assert second == ("Fine-tuning took 4.0 s on the selection and 20.0 s on full data: 16 s less, which pays for "
                      "selecting in this one training.")


def test_equal_steps_save_no_time(tiny):
    steps = [*tiny.add_arm("s2l", "a", [1, 2], [1, 0]), *tiny.add_arm("full", "b", list(range(40)), [1, 0], wall_s=9.0)]
    _, second = build_page(read_study([tiny.write_run(steps=steps)], "")).sections["cost"].sentences
    assert "both for 10 steps (target.max_steps)" in second


def test_gpu_seconds():
    resources = {"use_gpu": True, "num_workers": 4}
    training = {"stage": "finetune", "wall_s": 10.0, "resources": resources, "num_workers_used": [4, 3]}
    assert gpu_seconds(training, {"resources": resources}) == 40.0  # four GPUs for ten seconds
    assert gpu_seconds({**training, "resources": {**resources, "use_gpu": False}}, {"resources": resources}) == 0.0
    scoring = {"stage": "trajectories", "wall_s": 10.0, "model_s": 25.0}
    assert gpu_seconds(scoring, {"resources": resources}) == 25.0
    assert gpu_seconds({"stage": "evaluate", "wall_s": 10.0}, {"resources": resources}) is None
    assert gpu_seconds({"stage": "select", "wall_s": 1.0}, {"resources": resources}) == 0.0


def test_steps_that_an_earlier_run_made_are_called_reused(tiny, finished_run):
    rows = build_page(read_study([finished_run], "")).sections["cost"].tables[0].rows
    assert {row[4] for row in rows[:-1]} == {"made here"}  # made at 100 s, the run began at 90 s
    record = tiny.storage.read_json("runs/tiny/run.json")
    tiny.storage.write_json("runs/tiny/run.json", {**record, "started": 200.0})
    rows = build_page(read_study([finished_run], "")).sections["cost"].tables[0].rows
    assert {row[4] for row in rows[:-1]} == {"reused"}


def test_full_data_that_was_trained_otherwise_is_no_measure_of_what_was_saved(tiny, finished_run):
    other = tiny.write_run("other", tiny.add_arm("full", "long", list(range(40)), [1, 0, 1, 0] * 10, wall_s=99.0),
                           target={**tiny.recipe["target"], "max_steps": 77})
    for order in ([finished_run, other], [other, finished_run]):
        sentences = build_page(read_study(order, "")).sections["cost"].sentences
        assert "20.0 s on full data" in sentences[1]
