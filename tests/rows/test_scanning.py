"""A file that did not change is read once: .venv/bin/pytest tests/rows/test_scanning.py"""

import pytest

from s2l_ray.errors import InputError
from s2l_ray.rows import scanning
from s2l_ray.rows.scanning import scan_file, scan_once


def test_a_file_is_read_again_only_if_it_changed(tmp_path, monkeypatch):
    file, reads = tmp_path / "rows.jsonl", []
    monkeypatch.setattr(scanning, "scan_file", lambda uri, **how: reads.append(uri) or scan_file(uri, **how))
    file.write_text('{"a": 1}\n')
    first, again = (scan_once(str(file), rows_per_unit=10, name="rows") for _ in range(2))
    assert first is again and len(reads) == 1 and first == scan_file(str(file), rows_per_unit=10, name="rows")
    file.write_text('{"a": 1}\n{"a": 2}\n')
    assert scan_once(str(file), rows_per_unit=10, name="rows").num_rows == 2
    with pytest.raises(InputError, match="missing"):
        scan_once(str(tmp_path / "missing.jsonl"), rows_per_unit=10, name="rows")
