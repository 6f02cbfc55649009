"""Training curves of a report: .venv/bin/pytest tests/report/test_training.py"""

import json

import numpy as np
import pytest

from s2l_ray.report.build import build_page
from s2l_ray.report.page import render
from s2l_ray.report.study import read_study
from s2l_ray.report.training import training_section
from s2l_ray.tables.training_curve import CURVE, curve_table


def add_curve(tiny, folder, losses, norms=None):
    steps = len(losses)
    tiny.storage.write_table(f"{folder}/curve.parquet", curve_table({
        "step": list(range(1, steps + 1)), "loss": losses, "learning_rate": [1e-3] * steps, "grad_norm": norms or [None] * steps}))


def section(uri):
    return training_section(read_study([uri], ""))


def test_the_table_keeps_what_is_not_known_as_null():
    table = curve_table({"step": [1, 2], "loss": [None, 2.5], "learning_rate": [0.5, 0.25], "grad_norm": [None, 1.0]})
    assert table.schema == CURVE and table["loss"].to_pylist() == [None, 2.5]


def test_every_arm_has_its_line_and_equal_steps_are_said(tiny, finished_run):
    for fingerprint, low in (("f-s2l", 1.0), ("f-random", 2.0), ("f-full", 1.5)):
        add_curve(tiny, f"finetune/{fingerprint}", np.linspace(4.0, low, 10).tolist(), [None] * 9 + [0.75])
    add_curve(tiny, "proxy/proxy", [5.0, 4.0, float("nan"), 3.0])
    found = section(finished_run)
    assert found.sentences == ("All 3 targets were trained for equally many steps: 10.",)
    targets, proxy = found.figures
    assert [trace["name"] for trace in targets.data] == ["s2l at 20\N{NO-BREAK SPACE}%", "random at 20\N{NO-BREAK SPACE}%", "full at 100\N{NO-BREAK SPACE}%"]
    assert targets.data[0]["x"] == list(range(1, 11)) and targets.data[0]["y"][-1] == 1.0
    assert targets.tables[0].rows[1][1:] == ("0", "10", "4.000", "2.000", "0.001", "0.75", "0.75")
    assert proxy.data[0]["y"] == [5.0, 4.0, None, 3.0] and proxy.tables[0].rows[0][-1] == "not recorded"
    page = render(build_page(read_study([finished_run], ""))).decode()
    assert 'id="plot-training"' in page and 'id="plot-training-proxy"' in page


def test_different_numbers_of_steps_are_said_and_many_are_smoothed(tiny, finished_run):
    add_curve(tiny, "finetune/f-s2l", [2.0] * 250 + [1.0] * 1)
    add_curve(tiny, "finetune/f-full", [3.0] * 50)
    found = section(finished_run)
    assert "different numbers of steps, 50 to 251" in found.sentences[0]
    figure = found.figures[0]
    line = figure.data[0]
    assert len(line["y"]) == 84 and line["x"][0] == 2 and line["x"][-1] == 250.5  # means of 3, and of the last 2
    assert line["y"][-1] == pytest.approx(1.5)
    assert "each mark is the mean of up to 3 of them" in figure.description


def test_artifacts_of_an_older_program_are_read_and_named(tiny, finished_run):
    found = section(finished_run)
    assert found.figures == () and "Losses of steps are not recorded of 4 trainings by an older program" in found.sentences[0]
    json.dumps(found.sentences)


def test_before_any_training_a_sentence_says_so(tiny):
    uri = tiny.write_run(steps=[tiny.add_select("s2l", "s", [1, 3])])
    tiny.storage.delete("proxy/proxy/manifest.json")
    assert section(uri).sentences == ("No training curves: no training is finished.",)
