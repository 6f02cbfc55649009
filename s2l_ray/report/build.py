"""From runs to a written report."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from s2l_ray.errors import InputError
from s2l_ray.report.answer import answer_section
from s2l_ray.report.arms import Arm
from s2l_ray.report.browse import TEXT_LENGTH, browse_section, draw_rows, rows_of
from s2l_ray.report.chosen import chosen_section
from s2l_ray.report.clusters import cards_of, cluster_section, rows_of_cards
from s2l_ray.report.cost import cost_section
from s2l_ray.report.curve import curve_section
from s2l_ray.report.figures import Section, counted, cut, percent
from s2l_ray.report.health import health_section
from s2l_ray.report.members import read_members
from s2l_ray.report.page import Page, render
from s2l_ray.report.pool import read_pool
from s2l_ray.report.reproduce import reproduce_section
from s2l_ray.report.scores import read_scores
from s2l_ray.report.study import Study, read_study
from s2l_ray.report.texts import read_texts
from s2l_ray.report.training import training_section

_CARD_TEXT = 200
"""Characters kept of a prompt and of a response each on a card, so 400 of a row."""
_NO_SELECTION = Section(("There is nothing to show yet: no selection of this run is finished.",))


def write_report(runs: Sequence[str], storage: str, output: Path | None = None) -> str:
    """Write the report of runs and sweeps and return where it is.

    Parameters
    ----------
    runs
        Folders or names, as `s2l status` takes them.
    storage
        Where a run given by its name lies.
    output
        A file on this machine; without it the report lies in the first run's folder.

    Raises
    ------
    InputError
        There is no such run, two of them are about different pools, or the file cannot be written.
    """
    study = read_study(runs, storage)
    content = render(build_page(study))
    if output is not None:
        try:
            output.absolute().parent.mkdir(parents=True, exist_ok=True)
            output.write_bytes(content)
        except OSError as error:
            raise InputError(f"--output {output} cannot be written: {error}") from error
        return str(output.absolute())
    first, names = study.records[0], "+".join(record.name for record in study.records)
    file = f"{first.folder}/{'report.html' if len(study.records) == 1 else f'report-{names}.html'}"
    first.storage.write_bytes(file, content)
    return first.storage.uri_of(file)


def build_page(study: Study) -> Page:
    """Return what the page says."""
    scores = read_scores(study)
    sections = {"answer": answer_section(study, scores), "curve": curve_section(study, scores)}
    shown = _shown_selection(study)
    names = " and ".join(record.name for record in study.records)
    return Page(
        f"S2L report: {names}", _subtitle(study), {
            **sections, **shown["sections"], "training": training_section(study), "health": health_section(study),
            "cost": cost_section(study), "reproduce": reproduce_section(study),
        }, shown["clusters"], shown["rows"],
    )


def _shown_selection(study: Study) -> dict[str, Any]:
    """Return the sections about one selection: its clusters, what it chose, its rows."""
    arm = study.primary
    if arm is None:
        names = ("clusters", "chosen", "browse")
        return {"sections": dict.fromkeys(names, _NO_SELECTION), "clusters": [], "rows": []}
    rng, random = np.random.default_rng(arm.seed), _random_beside(study, arm)
    manifest = study.manifest_of(arm, "select")
    assert manifest is not None
    sample = read_pool(study, arm, random, rng)
    findings = arm.storage.read_json(f"select/{arm.fingerprint('select')}/findings.json")
    members = read_members(sample, findings, manifest["selection"])
    name = _describe(study, arm)
    clusters = cluster_section(sample, members, name, rng)
    browsed = draw_rows(sample, rng)
    prepared = study.manifest(arm.storage, "prepare", sample.examples)
    assert prepared is not None
    wanted = [*browsed.rows, *rows_of_cards(clusters)]
    texts = read_texts(sample, wanted, prepared, TEXT_LENGTH)
    cards = {row: (cut(prompt, _CARD_TEXT), cut(response, _CARD_TEXT)) for row, (prompt, response) in texts.items()}
    beside = None if random is None else (study.manifest_of(random, "select") or {}).get("sources")
    sections = {
        "clusters": clusters,
        "chosen": chosen_section(sample, "selection", manifest["sources"], beside),
        "browse": browse_section(browsed, sample, int(manifest["rows"]["candidates"])),
    }
    return {"sections": sections, "clusters": cards_of(clusters, sample, members, cards) if clusters.extra else [],
            "rows": rows_of(browsed, sample, members, arm.selector, texts)}


def _random_beside(study: Study, arm: Arm) -> Arm | None:
    """Return a finished random selection of the same pool: of the same budget and seed, if there is one."""
    manifest = study.manifest_of(arm, "select")
    assert manifest is not None
    fitting = [
        other for other in study.arms if study.point_of(other).control == "chance" and other.storage == arm.storage
        and (found := study.manifest_of(other, "select")) is not None
        and found["parents"]["examples"] == manifest["parents"]["examples"]
    ]
    return min(fitting, key=lambda a: (a.budget != arm.budget, a.seed != arm.seed), default=None)


def _describe(study: Study, arm: Arm) -> str:
    """Return an arm's name with its budget and seed."""
    share = study.share(arm)
    assert share is not None
    return f"{study.point_of(arm).label} at {percent(share)} of the pool ({study.rows(arm):,} rows, seed {arm.seed})"


def _subtitle(study: Study) -> str:
    arm = study.primary
    points = counted(len(study.points), "combination")
    counts = f"{counted(len(study.arms), 'arm')}: {points} of selector, settings and budget, each with its seeds"
    if arm is None:
        return counts
    rule = "of the recipe's selector, at its own budget where that was run, else the largest"
    return f"{counts}. Clusters and rows are of {_describe(study, arm)}: {rule}."
