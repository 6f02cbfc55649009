"""CSV and TSV: .venv/bin/pytest tests/rows/test_csv.py"""

import csv
import gzip
import io

from hypothesis import given
from hypothesis import strategies as st

from s2l_ray.rows.reading import read_unit
from s2l_ray.rows.scanning import scan_file
from s2l_ray.rows.units import plan_units

TEXTS = st.text(alphabet='ab",\n; é\t\'|', max_size=8)


def rows_of(path, rows_per_unit=4096):
    scan = scan_file(str(path), rows_per_unit=rows_per_unit)
    return [row for unit in plan_units([scan], rows_per_unit) for row in read_unit(unit)]


@given(rows=st.lists(st.fixed_dictionaries({"instruction": TEXTS, "output": TEXTS}), min_size=1, max_size=12),
       separator=st.sampled_from(",;\t|"), end=st.sampled_from(["\n", "\r\n"]), bom=st.booleans(), packed=st.booleans(),
       quoting=st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL]), rows_per_unit=st.sampled_from([1, 3, 4096]))
def test_what_was_written_is_read_whatever_the_units(tmp_path_factory, rows, separator, end, bom, packed, quoting,
                                                     rows_per_unit):
    written = io.StringIO(newline="")
    writer = csv.DictWriter(written, ["instruction", "output"], delimiter=separator, lineterminator=end, quoting=quoting)
    writer.writeheader()
    writer.writerows(rows)
    content = ("\ufeff" if bom else "").encode() + written.getvalue().encode()
    file = tmp_path_factory.mktemp("csv") / ("rows.csv.gz" if packed else "rows.csv")
    file.write_bytes(gzip.compress(content) if packed else content)
    assert [row.value for row in rows_of(file, rows_per_unit)] == rows


def test_a_quote_that_is_not_closed_costs_its_own_line_alone(tmp_path):
    file = tmp_path / "rows.csv"
    file.write_text('a,b\n1,2\n"x,3\n4,5\n6,7\n"He said "hi"",9\n8,9\n1,2,3\n')
    rows = rows_of(file, 2)
    assert [row.value and (row.value["a"], row.value["b"]) for row in rows] == [
        ("1", "2"), None, ("4", "5"), ("6", "7"), None, ("8", "9"), None]
    assert [(row.row, str(row.reason), row.raw) for row in rows if row.value is None] == [
        (3, "not_csv", '"x,3'), (6, "not_csv", '"He said "hi"",9'), (8, "not_csv", "1,2,3")]
    assert "quotes do not pair" in rows[1].detail and "3 fields, the header has 2" in rows[-1].detail


def test_a_bad_byte_costs_its_own_row_alone(tmp_path):
    file = tmp_path / "rows.tsv"
    file.write_bytes(b"a\tb\n" + b"1\t2\n" * 50_000 + b"\xff\t2\n" + b"1\t2\n" * 50_000)
    bad = [row for row in rows_of(file) if row.value is None]
    assert [(row.row, str(row.reason)) for row in bad] == [(50_002, "invalid_utf8")]
