"""What docs/results.md says of the evidence is what the kept results hold: .venv/bin/pytest tests/evidence/test_results.py"""

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
RESULTS = Path(__file__).parent / "results"
VERDICTS = ("reproduced", "refuted here", "cannot tell")
_NUMBER = r"([+-]\d\.\d+)"
_FIGURE = re.compile(rf"\**({'|'.join(VERDICTS)})\**: {_NUMBER} \({_NUMBER} to {_NUMBER}\)")


def claims(size):
    """(pool, verdict, three numbers) of each claim that is a difference."""
    found = []
    for claim in json.loads((RESULTS / size / "evidence.json").read_text())["claims"]:
        numbers = [float(one) for one in re.findall(_NUMBER, claim["figures"].partition(",")[0])]
        if len(numbers) == 3:
            found.append((claim["pool"], claim["verdict"], numbers))
    return found


def told(caption):
    """(column, verdict, three numbers) of each figure in the table of docs/results.md whose head has this caption."""
    text = (ROOT / "docs" / "results.md").read_text()
    head, *rows = re.search(rf"^(\| claim \|[^\n]*{caption}[^\n]*\n(?:\|[^\n]*\n)+)", text, re.M)[1].strip().splitlines()
    names = [name.strip() for name in head.strip("|").split("|")]
    return [(names[place], match[1], [float(match[n]) for n in (2, 3, 4)])
            for row in rows for place, cell in enumerate(row.strip("|").split("|")) if (match := _FIGURE.search(cell))]


@pytest.mark.parametrize(("size", "caption", "pools"), [
    ("cpu", "Alpaca", {"math": "math", "Alpaca": "alpaca"}),
    ("pretrained", "SmolLM2", {"SmolLM2 on math": "math"}),
])
def test_figures_in_the_docs_are_those_of_the_results(size, caption, pools):
    known, figures = claims(size), told(caption)
    assert len(figures) >= 4
    for column, verdict, numbers in figures:
        fitting = [one for one in known if one[0] == pools[column] and one[1] == verdict
                   and one[2] == pytest.approx(numbers, abs=0.00061)]  # 4 digits rounded to 3
        assert len(fitting) == 1, (column, verdict, numbers)


def test_targets_made_again_on_another_machine_have_the_same_losses():
    first = {cell["name"]: cell for cell in map(json.loads, (RESULTS / "cpu" / "cells.jsonl").read_text().splitlines())}
    again = [json.loads(line) for line in (RESULTS / "cpu" / "again.jsonl").read_text().splitlines()]
    assert len([cell for cell in again if cell["kind"] == "target"]) >= 8
    for cell in again:
        assert cell["loss"] == pytest.approx(first[cell["name"]]["loss"], abs=5e-4), cell["name"]
