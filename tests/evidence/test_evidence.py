"""The table of evidence, made whole in a tiny setting on real rows: .venv/bin/pytest tests/evidence"""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from transformers import AutoTokenizer

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from s2l_ray.recipe.loading import load_recipe  # noqa: E402
from tests.evidence import run as command  # noqa: E402
from tests.evidence.arms import ARMS, deciles, length_labels, loss_labels, source_labels  # noqa: E402
from tests.evidence.cells import Cell, Place, arms_of, cells_of  # noqa: E402
from tests.evidence.claims import claims  # noqa: E402
from tests.evidence.compare import Arm, Results, comparisons, detectable, gate  # noqa: E402
from tests.evidence.kept import take_kept, write_kept  # noqa: E402
from tests.evidence.making import make, pool_of  # noqa: E402
from tests.evidence.setting import FULL, RANDOM, S2L, SIZES, STEPS  # noqa: E402
from tests.evidence.write import evidence, markdown, page, plot, write_all  # noqa: E402

DATA = ROOT.parent / "shared" / "data"
TINY = SIZES["tiny"]
pytestmark = pytest.mark.slow


# Of the second seed some arms at the main budget are enough to compare, and cost half.
MADE = [cell for cell in cells_of(TINY) if cell.kind != "target" or cell.seed == 0
        or (cell.arm in (FULL, RANDOM, S2L, "loss_bins") and cell.alike == STEPS)]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Where these cells of the tiny setting are, made in this process."""
    if not DATA.is_dir():
        pytest.skip("needs the real rows beside the checkout")
    place = Place(tmp_path_factory.mktemp("evidence") / TINY.name(), DATA, TINY)
    place.folder.mkdir()
    for cell in MADE:
        assert all(place.is_done(need) for need in cell.needs), f"{cell.name} comes before what it needs"
        make(place, cell)
    return place


def test_every_arm_trains_on_its_budget_and_what_is_there_is_not_made_again(made):
    targets = [cell for cell in MADE if cell.kind == "target"]
    assert {cell.arm for cell in targets} == {*ARMS}
    for cell in targets:
        facts = made.facts(cell)
        if "refused" in facts:
            assert cell.arm == "ifd" and "budget" in facts["refused"]
            continue
        rows = np.load(made.file(cell, "-rows.npy"))
        assert len(set(rows.tolist())) == len(rows) == max(1, round(cell.budget * TINY.num_pool)), cell.name
        assert np.isfinite(np.load(made.file(cell, ".npy"))).all()
        assert facts["loss"] < made.facts(Cell("base", "math", shape=-1))["loss"], "it learned something"
    at = made.file(targets[0]).stat().st_mtime_ns
    assert make(made, targets[0]).endswith("there") and made.file(targets[0]).stat().st_mtime_ns == at


def test_a_cell_made_again_has_the_same_figures(made, tmp_path):
    cell = Cell("target", "math", 1, arm=S2L, budget=TINY.main_budget)
    again = Place(tmp_path / TINY.name(), DATA, TINY)
    again.folder.mkdir()
    for needed in (Cell("rows", "math"), Cell("base", "math", shape=-1), Cell("base", "math"), Cell("inputs", "math"),
                   Cell("proxy", "math", 1), cell):
        make(again, needed)
    assert (np.load(again.file(cell, "-rows.npy")) == np.load(made.file(cell, "-rows.npy"))).all()
    assert np.load(again.file(cell, ".npy")) == pytest.approx(np.load(made.file(cell, ".npy")), abs=1e-5)


def test_another_machine_goes_on_from_the_kept_targets(made, tmp_path):
    again = Place(tmp_path / TINY.name(), DATA, TINY)
    again.folder.mkdir()
    targets = [cell for cell in MADE if cell.kind == "target"]
    assert write_kept(made, tmp_path / "cells.parquet") == len(targets) == take_kept(again, tmp_path / "cells.parquet")
    for cell in targets:
        assert again.facts(cell) == made.facts(cell)
        if "refused" not in again.facts(cell):
            assert np.load(again.file(cell, ".npy")) == pytest.approx(np.load(made.file(cell, ".npy")), abs=5.1e-5)
            assert (np.load(again.file(cell, "-rows.npy")) == np.load(made.file(cell, "-rows.npy"))).all()
    assert take_kept(again, tmp_path / "cells.parquet") == 0, "what is there stays"
    with pytest.raises(ValueError, match=f"cells of {TINY.name()}, not of cpu-"):
        take_kept(Place(tmp_path, DATA, SIZES["cpu"]), tmp_path / "cells.parquet")


def test_a_pretrained_model_learns_by_adapters_and_answers(made, tmp_path):
    folder = made.file(Cell("base", "math", shape=-1), "")
    AutoTokenizer.from_pretrained(made.folder / "math-tokenizer").save_pretrained(folder)
    setting = replace(SIZES["pretrained"], **{name: getattr(TINY, name) for name in (
        "num_pool", "num_held_out", "num_wanted", "max_length", "proxy", "base_tokens", "batch", "steps", "num_points",
        "num_clusters", "seeds")}, arms=(RANDOM, S2L))
    place = Place(tmp_path / setting.name(), DATA, setting, folder)
    place.folder.mkdir()
    cells = list(cells_of(setting))
    assert {cell.arm for cell in cells} == {"", FULL, RANDOM, S2L}
    for cell in cells:
        make(place, cell)
    base = place.facts(Cell("base", "math", shape=-1))
    for cell in cells:
        if cell.kind == "target":
            facts, right_N = place.facts(cell), np.load(place.file(cell, "-right.npy"))
            assert facts["loss"] < base["loss"], "the adapters' weights are in what is measured"
            assert set(facts["right_by_task"]) == set(setting.answered) and np.isfinite(right_N).sum() == 2 * TINY.num_held_out
    told = evidence(Results(place))
    assert {one["arm"] for one in told["answered"]} == {FULL, RANDOM, S2L}
    assert all(0 <= one["low"] <= one["value"] <= one["high"] <= 1 for one in told["answered"] if one["value"] > 0)
    assert "questions answered right" in markdown(told) and "Answered right" in page(told)


def test_the_recipe_for_a_cluster_is_one_and_counts_the_trials_that_it_names():
    recipe = load_recipe(ROOT / "tests" / "evidence" / "cluster.yaml")
    space = recipe.sweep.space
    chosen = len(space["selection.selector"]) * len(space["selection.budget"]) * len(space["seed"])
    controls = len(space["selection.budget"]) * len(space["seed"]) + 1  # random everywhere, full once
    assert f"{chosen + controls} trials" in (ROOT / "tests" / "evidence" / "cluster.yaml").read_text()


@pytest.mark.parametrize(("arm", "labels"), [
    ("quota_of_sources", source_labels), ("quota_of_lengths", length_labels), ("quota_of_losses", loss_labels)])
def test_a_quota_arm_holds_as_much_of_each_label_as_s2l_and_other_rows(made, arm, labels):
    pool = pool_of(made, "math", 0)
    ours, theirs = ARMS[arm](pool, 36, 0), ARMS[S2L](pool, 36, 0)
    counts = [np.bincount(labels(pool)[rows], minlength=20) for rows in (ours, theirs)]
    assert (counts[0] == counts[1]).all() and set(ours.tolist()) != set(theirs.tolist())


def test_tenths_are_as_large_as_they_can_be():
    assert np.bincount(deciles(np.zeros(25))).tolist() == [3, 2, 3, 2, 3, 2, 3, 2, 3, 2]
    assert deciles(np.array([5.0, 1.0, 3.0])).tolist() == [6, 0, 3]


def known(differences, spread=0.01, num_rows=200):
    """Results of five seeds whose arms' losses are random's and these more."""
    results = object.__new__(Results)
    results.tasks = lambda pool: np.repeat(["gsm8k_test", "math_mixture"], num_rows // 2)
    rng, seeds = np.random.default_rng(0), range(5)
    rows_N = rng.gamma(4.0, 0.5, num_rows)
    base = {seed: rows_N + rng.normal(0, spread) + rng.normal(0, 0.05, num_rows) for seed in seeds}
    results.place = Place(Path(), Path(), SIZES["cpu"])
    results.cells, results.facts = [], {}
    results.losses, results.refused = {Arm("math", RANDOM, 0.11, STEPS): base}, {}
    for name, difference in differences.items():
        results.losses[Arm("math", name, 1.0 if name == FULL else 0.11, STEPS)] = {
            seed: losses_N + difference + rng.normal(0, 0.02, num_rows) for seed, losses_N in base.items()}
    return results


def test_what_is_better_or_worse_is_found_and_what_is_neither_is_not_told():
    results = known({"s2l": -0.05, "loss_bins": 0.0, "k_center": 0.05, FULL: -0.2})
    verdicts = {(one.ours.arm, one.theirs.arm): one.verdict for one in comparisons(results)}
    assert verdicts["s2l", RANDOM] == "better" and verdicts["k_center", RANDOM] == "worse"
    assert verdicts["loss_bins", RANDOM] == "cannot tell" and verdicts["s2l", FULL] == "worse"
    assert gate(results, "math")["full at equal steps"]["helps"] is True
    assert gate(known({FULL: 0.0}), "math")["full at equal steps"]["helps"] is False
    told = {claim.text: claim.verdict for claim in claims(results)}
    alone = known({"s2l": -0.05})
    alone.losses = {arm: {0: seeds[0]} for arm, seeds in alone.losses.items()}
    assert [claim.verdict for claim in claims(alone)] == ["cannot tell"], "one seed knows nothing of the spread of seeds"
    assert told["S2L's 11% are better than a random 11% (arXiv 2403.07384)"] == "reproduced"
    assert told["S2L's 11% reach all of the data at equal steps (arXiv 2403.07384)"] == "refuted here"
    assert told["... than bins of the mean loss: trajectories tell more than their mean"] == "reproduced"


def test_every_task_weighs_the_same():
    results = known({})
    results.tasks = lambda pool: np.array(["a"] * 3 + ["b"] * 5)
    weights = results.weights("math")  # 8 / (2 x 3) and 8 / (2 x 5)
    assert weights == pytest.approx([4 / 3] * 3 + [0.8] * 5)
    losses = np.array([3.0] * 3 + [1.0] * 5)
    assert (weights * losses).mean() == pytest.approx(2), "the mean of the tasks' means"


def test_what_reaches_all_of_the_data_within_a_tenth_of_its_gain_counts():
    found = {claim.text: claim for claim in claims(known({"s2l": -0.198, FULL: -0.2}))}
    reached = found["S2L's 11% reach all of the data at equal steps (arXiv 2403.07384)"]
    assert reached.verdict == "reproduced" and "within 0.0" in reached.figures


def test_what_can_be_seen_grows_with_the_spread_of_seeds():
    # (t_4(0.975) + t_4(0.8)) sqrt(2 / 5) = (2.776 + 0.941) 0.632 = 2.351 standard deviations of a seed's mean.
    results = known({}, spread=0.02)
    means = [losses_N.mean() for losses_N in results.losses[Arm("math", RANDOM, 0.11, STEPS)].values()]
    assert detectable(results, "math") == pytest.approx(2.351 * np.std(means, ddof=1), rel=1e-3)


def test_the_table_says_every_figure_and_the_page_fits_a_phone_and_a_desk(made, browser):
    told = write_all(made)
    kept = json.loads((made.folder / "evidence.json").read_text())
    assert told["cells"] == len(MADE) and len(kept["comparisons"]) == told["comparisons"] >= 6
    assert {one["arm"] for one in kept["pools"]["math"]["chosen"]} == {FULL, *arms_of(TINY, "math")}
    assert len(kept["pools"]["math"]["agreement"]) == 2 * len(TINY.seeds)
    text = (made.folder / "evidence.md").read_text()
    assert all(one["claim"] in text for one in kept["claims"]) and text == markdown(evidence(Results(made)))
    for width in (390, 1280):
        opened = browser.new_page(viewport={"width": width, "height": 900}, offline=True)
        said = []
        opened.on("console", lambda message, said=said: said.append(message.text))
        opened.goto((made.folder / "evidence.html").as_uri())
        assert opened.evaluate("document.documentElement.scrollWidth") <= width and said == []
        assert [heading.inner_text() for heading in opened.query_selector_all("h2")] == [
            "Claims", "Arms beside random", "What was chosen", "Again"]
        assert len(opened.query_selector_all(".plot-row svg")) == sum(
            one["beside"] == RANDOM and one["alike"] in ("steps", "tokens") and one["budget"] < 1 for one in kept["comparisons"])
        opened.close()


def test_a_plot_has_its_marks_in_order():
    marks = plot([{"arm": "a", "low": -1.0, "value": 0.5, "high": 1.0, "verdict": "cannot tell"}])
    assert marks["zero"] == 50
    assert marks["marks"][0] == {"arm": "a", "value": "+0.500", "from": 4, "at": 73, "to": 96, "verdict": "cannot-tell"}
    far = [{"arm": str(n), "low": n - 0.1, "value": float(n), "high": n + 0.1, "verdict": "worse"} for n in (1, 1, 50)]
    assert [one["at"] for one in plot(far)["marks"]] == [19.33, 19.33, 96], "4 + 92 / 6, and the edge at 6"


def test_the_command_begins_no_cell_after_its_time_and_says_what_is_left(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["run", "--data", str(DATA), "--folder", str(tmp_path), "--size", "tiny", "--minutes", "0"])
    command.main()
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert last["left"] == len(list(cells_of(TINY))) and (tmp_path / TINY.name() / "evidence.html").exists()


@pytest.mark.parametrize("arguments", [["--size", "gpu"], ["--size", "tiny", "--model", "folder"]], ids=str)
def test_a_model_is_given_where_one_is_used(tmp_path, monkeypatch, capsys, arguments):
    monkeypatch.setattr(sys, "argv", ["run", "--data", "d", "--folder", str(tmp_path), *arguments])
    with pytest.raises(SystemExit):
        command.main()
    assert "--model" in capsys.readouterr().err
