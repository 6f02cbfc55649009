"""Files of rows in the folder that commands run in."""

import json

import pytest


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Return a maker of JSONL files: rows are objects, or lines as they are."""
    monkeypatch.chdir(tmp_path)

    def make(rows, name="mine.jsonl"):
        lines = [row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows]
        (tmp_path / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        return name

    return make
