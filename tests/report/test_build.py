"""The report as a whole: one safe, bounded file with every section, whatever is missing from the run."""

import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from s2l_ray.errors import InputError
from s2l_ray.report.build import build_page, write_report
from s2l_ray.report.figures import cut
from s2l_ray.report.page import embedded, render
from s2l_ray.report.study import read_study

SECTIONS = ["answer", "curve", "clusters", "chosen", "training", "health", "cost", "reproduce"]
MOST_BYTES = 15_000_000


class Parsed(HTMLParser):
    """The elements of a page, as a browser's parser finds them."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.tags, self.sections, self.data, self._into = [], [], {}, None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.tags.append((tag, found))
        if tag == "section":
            self.sections.append(found["id"])
        self._into = found.get("id") if tag == "script" else None

    def handle_data(self, data):
        if self._into:
            self.data[self._into] = self.data.get(self._into, "") + data

    def count(self, tag):
        return sum(name == tag for name, _ in self.tags)


def parsed(uri):
    return Parsed(render(build_page(read_study([uri], ""))).decode())


def sentences(uri, section):
    return " ".join(build_page(read_study([uri], "")).sections[section].sentences)


def test_every_section_is_there_and_text_from_the_data_stays_text(finished_run):
    page = parsed(finished_run)
    assert page.sections == SECTIONS
    # Ours alone: three blocks of data, Plotly and the page's own; the rows hold <script>, </script> and <style>.
    assert page.count("script") == 5 and page.count("style") == 1 and page.count("img") == 0
    assert not [attrs for _, attrs in page.tags if any(name.startswith("on") for name in attrs)]
    rows = json.loads(page.data["data-rows"])
    assert any("<script>window.__pwned=1</script>" in row["prompt"] for row in rows)
    assert any("</script><img" in row["response"] for row in rows)
    assert any("שלום" in row["response"] for row in rows) and any("🙂" in row["response"] for row in rows)
    assert not [character for block in page.data.values() for character in "<>&\u2028\u2029" if character in block]


def test_nothing_is_fetched(finished_run):
    page = parsed(finished_run)
    policy = next(attrs["content"] for _, attrs in page.tags if attrs.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'; script-src 'sha256-") and "unsafe-eval" not in policy
    places = [attrs[name] for _, attrs in page.tags for name in ("src", "href") if name in attrs]
    assert [place for place in places if not place.startswith(("#", "data:,"))] == []


def test_every_plot_has_its_title_and_words_and_every_table_a_caption_and_scopes(finished_run):
    page = parsed(finished_run)
    plots = [attrs for _, attrs in page.tags if "data-figure" in attrs]
    assert {plot["data-figure"] for plot in plots} == {
        "curve", "trajectories", "cluster-sizes", "sources", "lengths", "final-losses", "mean-losses"}
    ids = {attrs["id"] for _, attrs in page.tags if "id" in attrs}
    for plot in plots:
        assert plot["role"] == "img" and {plot["aria-labelledby"], plot["aria-describedby"]} <= ids
    assert page.count("table") == page.count("caption")
    assert all("scope" in attrs for tag, attrs in page.tags if tag == "th")
    inputs = {attrs["id"] for tag, attrs in page.tags if tag in ("input", "select")}
    assert inputs == {attrs["for"] for tag, attrs in page.tags if tag == "label"}


def test_text_in_json_in_html():
    assert embedded({"a": "</script>&\u2028"}) == '{"a":"\\u003c/script\\u003e\\u0026\\u2028"}'
    assert json.loads(embedded(["<!--", "\ud83d\ude42"])) == ["<!--", "\ud83d\ude42"]


def test_half_a_surrogate_pair_does_not_stop_the_page(tiny, finished_run):
    study = read_study([finished_run], "")
    page = build_page(study)
    broken = [{**page.rows[0], "prompt": "\ud83d"}]
    assert b'"prompt":"?"' in render(type(page)(page.title, page.subtitle, page.sections, page.clusters, broken))


# --- what may be missing -----------------------------------------------------------------------------


def test_a_run_that_stops_at_its_selection(tiny):
    uri = tiny.write_run(steps=[tiny.add_select("s2l", "s", [1, 3, 5, 7])])
    assert parsed(uri).sections == SECTIONS
    assert "There is no answer yet" in sentences(uri, "answer")
    assert "no arm has a finished evaluation" in sentences(uri, "curve")
    assert "What it saved is not known" in sentences(uri, "cost")


def test_a_run_without_tasks(tiny):
    uri = tiny.write_run(steps=[tiny.add_select("s2l", "s", [1, 3])], evaluation__tasks=[])
    assert "has no evaluation with a metric for each example" in sentences(uri, "answer")


def test_a_run_of_which_nothing_is_finished(tiny):
    uri = tiny.write_run(steps=[{"label": "select s2l", "stage": "select", "fingerprint": "later", "arm": "s2l"}])
    assert parsed(uri).sections == SECTIONS
    for section in ("clusters", "chosen", "browse"):
        assert "no selection of this run is finished" in sentences(uri, section)
    assert "1 arm is not finished: s2l" in sentences(uri, "answer")


def test_a_selector_without_clusters_or_trajectories(tiny):
    tiny.proxy = tiny.trajectories = tiny.prepare
    steps = tiny.add_arm("random", "r", [1, 2, 3, 4], [1, 0, 1, 0])
    uri = tiny.write_run(steps=steps, selection={**tiny.recipe["selection"], "selector": "random", "controls": []})
    assert parsed(uri).sections == SECTIONS
    assert "makes no clusters" in sentences(uri, "clusters")
    assert "no loss trajectories" in sentences(uri, "chosen")
    rows = build_page(read_study([uri], "")).rows
    assert {row["why"] for row in rows if not row["chosen"]} == {"not drawn at random"}
    assert rows[0]["why"] == "rank 1 of 4: drawn at random" and rows[0]["mean"] is None


def test_nothing_quarantined_and_one_source(make_tiny):
    tiny = make_tiny(quarantined=0)
    tiny.sources[:] = ["only"] * len(tiny.sources)
    uri = tiny.write_run(steps=[tiny.add_select("s2l", "s", [1, 3, 5, 7])])
    assert "No row was quarantined" in sentences(uri, "health")
    assert "All rows are of one source, only." in sentences(uri, "chosen")


def test_quarantined_rows_are_shown_with_reason_and_example(finished_run):
    section = build_page(read_study([finished_run], "")).sections["health"]
    # 40 examples + 1 duplicate + 2 quarantined.
    assert section.sentences[0] == ("Of 43 rows read, 40 are examples, 1 were dropped as duplicates and 2 were "
                                    "quarantined.")
    assert section.sentences[1].endswith("are truncated to 512 tokens."), "the default, which no manifest holds"
    assert "2 rows would have had an undefined loss" in section.sentences[2]
    assert section.tables[1].rows[0][:3] == ("no_supervised_token", "no token of the response is left, so the loss is "
                                             "undefined", "2")
    assert section.tables[2].rows[0] == ("no_supervised_token", "pool.jsonl", "0", "<script>window.__pwned=1</script>")


# --- what is shown of a selection --------------------------------------------------------------------


def test_clusters_have_their_mean_their_spread_and_their_sizes(tiny, finished_run):
    page = build_page(read_study([finished_run], ""))
    largest, other = page.clusters
    assert (largest["cluster"], largest["size"], largest["chosen"]) == (0, 30, 4)
    assert (other["cluster"], other["size"]) == (1, 10)
    assert largest["mean"] == [9.0, 1.0, 0.5]
    own = tiny.losses()[tiny.clusters_N == 0]
    assert largest["low"] == pytest.approx(np.percentile(own, 10, axis=0), abs=1e-3)
    assert largest["high"] == pytest.approx(np.percentile(own, 90, axis=0), abs=1e-3)
    kinds = [card["kind"] for card in largest["cards"]]
    assert kinds == ["nearest", "nearest", "farthest", "farthest", "random", "random"]
    distances = [card["distance"] for card in largest["cards"]]
    assert max(distances[:2]) <= min(distances[2:])


def test_every_row_says_why(finished_run):
    rows = build_page(read_study([finished_run], "")).rows
    assert len(rows) == 40 and sum(row["chosen"] for row in rows) == 8
    assert rows[0]["why"] == "rank 1 of 8: cluster 0 gives 4 of its 30 members, distance 0.100 from its centroid"
    rejected = next(row for row in rows if row["id"] == "row-11")
    # Row 11 is of cluster 1 (11 mod 4 = 3); its two clustered losses are both -0.1 + 0.2 * 11 / 39 off.
    assert rejected["why"] == ("cluster 1 gives 4 of its 10 members, not this one, distance "
                               f"{np.sqrt(2) * abs(-0.1 + 0.2 * 11 / 39):.3f} from its centroid")


def test_the_page_of_a_large_pool_is_bounded(make_tiny, monkeypatch):
    monkeypatch.setattr("s2l_ray.report.pool.MOST_ROWS", 2_000)
    tiny = make_tiny(num_rows=20_000, shard_rows=5_000)
    uri = tiny.write_run(steps=[tiny.add_select("s2l", "s", list(range(0, 20_000, 4)))])
    study = read_study([uri], "")
    page = build_page(study)
    assert len(page.rows) == 2_000 and sum(row["chosen"] for row in page.rows) == 1_000
    assert "A seeded sample of 2,000 of 20,000 rows: 1,000 of 5,000 chosen, 1,000 of 15,000 rejected." in \
        page.sections["browse"].sentences[0]
    assert "a seeded sample of 2,000 of 20,000 rows" in page.sections["chosen"].sentences[0]
    assert len(render(page)) < MOST_BYTES


def test_the_worst_texts_stay_below_the_bound(finished_run):
    # `<` takes six bytes in JSON, an emoji four; every field is cut before.
    page = build_page(read_study([finished_run], ""))
    texts = {name: cut("<" * 1000, 300) for name in ("prompt", "response")}
    row = {**page.rows[0], **texts, "id": cut("🙂" * 1000, 120), "source": cut("🙂" * 1000, 80)}
    card = {**page.clusters[0]["cards"][0], **texts, "id": cut("🙂" * 1000, 120)}
    clusters = [{**page.clusters[0], "cards": [card] * 6}] * 120
    assert len(render(type(page)("", "", page.sections, clusters, [row] * 2000))) < MOST_BYTES


def test_the_same_run_gives_the_same_bytes(finished_run):
    assert render(build_page(read_study([finished_run], ""))) == render(build_page(read_study([finished_run], "")))


# --- where it goes -----------------------------------------------------------------------------------


def test_it_lies_in_the_runs_folder_unless_a_file_is_named(tiny, finished_run, tmp_path):
    assert write_report([finished_run], "") == f"{finished_run}/report.html"
    assert write_report(["tiny"], tiny.storage.uri, tmp_path / "new" / "a.html") == str(tmp_path / "new" / "a.html")
    assert (tmp_path / "new" / "a.html").read_bytes() == tiny.storage.read_bytes("runs/tiny/report.html")


def test_a_file_that_cannot_be_written_is_refused(finished_run, tmp_path):
    with pytest.raises(InputError, match=re.escape(f"--output {tmp_path} cannot be written")):
        write_report([finished_run], "", tmp_path)
