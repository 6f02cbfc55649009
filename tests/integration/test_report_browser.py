"""The report of a real run and of a sweep, opened from disk in a browser without a network."""

import json
from contextlib import contextmanager

import pytest

from s2l_ray.cli.main import main
from s2l_ray.report.build import write_report

pytestmark = pytest.mark.integration

SECTIONS = ["Answer", "Budget curve", "Clusters", "What was chosen", "Training curves", "Data health", "Cost", "Reproduce"]
ATTACK = "<script>window.__pwned=1</script></script><img src=x onerror='window.__pwned=2'>"


@pytest.fixture(scope="module")
def report(finished, tmp_path_factory):
    """The report of a finished run and of a sweep record about the same arms, with a trial that failed."""
    recipe, plan, _, _ = finished
    run = plan.storage.read_json(f"{plan.folder}/run.json")
    steps = {step["label"]: step for step in run["steps"]}
    shared = [step for step in run["steps"] if step["stage"] in ("prepare", "proxy", "trajectories")]

    def trial(selector, seed, state, error=None):
        own = [steps[f"{stage} {selector}"] for stage in ("select", "finetune", "evaluate")]
        overrides = {"selection.selector": selector, "selection.budget": recipe.selection.budget, "seed": seed}
        return {"trial": f"{selector}-b0.11-seed{seed}", "overrides": overrides, "selector": selector,
                "budget": recipe.selection.budget, "num_clusters": None, "seed": seed, "is_control": selector == "random",
                "state": state, "error": error, "reused": False, "steps": [*shared, *own]}

    trials = [trial("s2l", 0, "finished"), trial("random", 0, "finished"), trial("s2l", 1, "failed", ATTACK)]
    plan.storage.write_json("sweeps/swept/sweep.json", {
        **{key: run[key] for key in ("recipe", "command", "git_commit", "started")}, "name": "swept", "wall_s": 1.0,
        "metric": "problems.loss", "mode": "min", "shared": shared, "num_trials": 3, "trials": trials})
    file = tmp_path_factory.mktemp("report") / "report.html"
    write_report([plan.storage.uri_of("sweeps/swept"), plan.storage.uri_of(plan.folder)], "", file)
    return file


@contextmanager
def opened(browser, file, *, width=1280, scheme="light", motion="no-preference"):
    """Yield the page; afterwards nothing may have gone wrong or been asked of a network."""
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, reduced_motion=motion,
                                  offline=True)
    page, said, asked = context.new_page(), [], []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(file.as_uri())
    page.wait_for_selector("#plot-curve .main-svg")
    yield page
    assert said == []
    assert [url for url in asked if not url.startswith("data:")] == [file.as_uri()]
    context.close()


def test_every_section_is_there_and_no_text_ran(browser, report):
    with opened(browser, report) as page:
        assert [heading.inner_text() for heading in page.query_selector_all("h2")] == SECTIONS
        assert page.evaluate("window.__pwned") is None
        assert "s2l-b0.11-seed1" in page.inner_text("#answer") and ATTACK in page.inner_text("#answer")
        for name in ("curve", "training", "training-proxy", "trajectories", "cluster-sizes", "sources", "lengths", "final-losses", "mean-losses"):
            assert page.query_selector(f"#plot-{name} .main-svg"), name
        assert page.query_selector_all("img") == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_it_fits_the_window_in_both_schemes(browser, report, width, scheme):
    with opened(browser, report, width=width, scheme=scheme, motion="reduce") as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        paper, ink = page.evaluate("[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]")
        assert contrast(paper, ink) >= 7  # WCAG AAA
        legend = page.evaluate("getComputedStyle(document.querySelector('#plot-curve .legendtext')).fill")
        assert contrast(paper, legend) >= 4.5
        assert (luminance(paper) < 0.5) is (scheme == "dark")
        # No plot is clipped: each drawing lies inside the window.
        edges = page.evaluate("[...document.querySelectorAll('.plot .main-svg')].map(e => e.getBoundingClientRect().right)")
        assert max(edges) <= width


def test_rows_are_searched_and_paged_with_the_keyboard(browser, report):
    with opened(browser, report) as page:
        rows = json.loads(page.inner_text("#data-rows") or page.text_content("#data-rows"))
        assert page.inner_text("#count") == f"Rows 1 to 20 of {len(rows)} found"
        first = page.inner_text("#rows li:first-child h4")
        page.focus("#next")
        page.keyboard.press("Enter")
        assert page.inner_text("#count") == f"Rows 21 to 40 of {len(rows)} found"
        assert page.inner_text("#rows li:first-child h4") != first
        page.focus("#query")
        page.keyboard.type(rows[7]["id"])
        assert page.inner_text("#count") == "Rows 1 to 1 of 1 found"
        assert rows[7]["response"].strip() in page.inner_text("#rows")
        page.fill("#query", "no such text anywhere")
        assert page.inner_text("#count") == "No row found"
        page.fill("#query", "")
        page.select_option("#status", "rejected")
        num_rejected = sum(not row["chosen"] for row in rows)
        assert page.inner_text("#count") == f"Rows 1 to 20 of {num_rejected} found"
        assert page.inner_text("#rows li:first-child .badge") == "rejected"


def test_another_cluster_is_shown(browser, report):
    with opened(browser, report) as page:
        before = page.inner_text("#cluster-title")
        page.select_option("#cluster", "1")
        after = page.inner_text("#cluster-title")
        assert before != after and page.query_selector("#cluster-cards li")
        assert after.lower() in page.text_content("#plot-trajectories .legend").lower()


def test_the_command_writes_it_into_the_runs_folder(finished, capsys):
    _, plan, _, _ = finished
    main_of("report", plan.storage.uri_of(plan.folder))
    place = json.loads(capsys.readouterr().out.splitlines()[-1])["report"]
    assert place == plan.storage.uri_of(f"{plan.folder}/report.html")
    assert plan.storage.exists(f"{plan.folder}/report.html")


def main_of(*words):
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 0


def luminance(colour):
    """Relative luminance of rgb(r, g, b), by WCAG."""
    parts = [float(part) / 255 for part in colour[colour.index("(") + 1 : -1].split(",")[:3]]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    bright, dim = sorted((luminance(one), luminance(other)), reverse=True)
    return (bright + 0.05) / (dim + 0.05)
