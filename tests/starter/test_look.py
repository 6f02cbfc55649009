"""Rows by their numbers, and samples of them: .venv/bin/pytest tests/starter/test_look.py"""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from s2l_ray.errors import InputError
from s2l_ray.starter.look import look_at


def pairs(count):
    return [{"prompt": f"p{n}", "completion": f"c{n}"} for n in range(1, count + 1)]


def test_a_row_is_numbered_by_its_line_as_in_reasons(write):
    look = look_at(write(["", *pairs(2), "", "no json", *pairs(1)]))
    assert "number is that of its line" in look.numbering
    assert look.row("2").value == pairs(2)[0] and look.row("mine.jsonl:6").value == pairs(1)[0]
    assert look.row("5").reason == "not_json"
    with pytest.raises(InputError, match=r"--row 4: no row begins there, it is blank.*mine.jsonl has 4 rows"):
        look.row("4")
    with pytest.raises(InputError, match=r"--row 7: mine.jsonl has 4 rows, the last one in line 6"):
        look.row("7")


@pytest.mark.parametrize("asked", ["0", "-1", "x", "mine.jsonl:", "1.5", "²"])
def test_what_is_no_number_of_a_row_is_refused(write, asked):
    with pytest.raises(InputError, match="rows are numbered from 1"):
        look_at(write(pairs(2))).row(asked)


def test_a_row_of_a_table_is_numbered_by_its_place(tmp_path):
    file = tmp_path / "t.parquet"
    pq.write_table(pa.Table.from_pylist(pairs(9_000)), file)
    look = look_at(str(file))
    assert "its place in the file" in look.numbering
    assert [look.row(number).value["prompt"] for number in ("1", "4096", "4097", "9000")] == ["p1", "p4096", "p4097", "p9000"]
    with pytest.raises(InputError, match=r"--row 9001: t.parquet has 9,000 rows"):
        look.row("9001")


def test_of_several_files_one_has_to_be_named(write, tmp_path):
    write(pairs(3), "a.jsonl"), write(pairs(2), "b.jsonl")
    look = look_at(str(tmp_path))
    assert (look.row("b.jsonl:2").file, look.row("b.jsonl:2").row) == ("b.jsonl", 2)
    for asked in ("2", "c.jsonl:1"):
        with pytest.raises(InputError, match=r"say of which file, as in --row a\.jsonl:1; there are a\.jsonl, b\.jsonl"):
            look.row(asked)


def test_shown_rows_are_spread_and_a_sample_is_of_all_parts(write):
    look = look_at(write(pairs(10_000)))
    assert [raw.row for raw in look.spread(3)] == [1, 5001, 10_000]
    assert [raw.row for raw in look.spread(1)] == [1]
    assert len(look.spread(20_000)) == len(list(look.sample(10_000))) == 10_000
    rows = [raw.row for raw in look.sample(300)]
    assert len(rows) == 300 and {(row - 1) // 4096 for row in rows} == {0, 1, 2}
