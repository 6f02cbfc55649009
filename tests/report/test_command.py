"""The command `s2l report`."""

import json

import pytest

from s2l_ray.cli.main import main


def run(capsys, *words):
    """Return the exit code, the last line of stdout and all of stderr."""
    with pytest.raises(SystemExit) as ended:
        main(["report", *words])
    said = capsys.readouterr()
    return ended.value.code, said.out.strip().splitlines()[-1:], said.err


def test_it_says_where_the_report_is(finished_run, capsys):
    code, (last,), err = run(capsys, finished_run)
    assert code == 0 and json.loads(last) == {"report": f"{finished_run}/report.html"}
    assert f"report: {finished_run}/report.html" in err.replace("\n", "")


def test_a_run_by_its_name_to_a_file_opened_in_the_browser(tiny, finished_run, capsys, monkeypatch, tmp_path):
    opened = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    file = tmp_path / "a b.html"
    code, _, _ = run(capsys, "tiny", "--storage", tiny.storage.uri, "--output", str(file), "--open")
    assert code == 0 and opened == [file.as_uri()] and "a%20b.html" in opened[0]


def test_a_run_that_is_not_there_is_the_users_mistake(tiny, capsys):
    code, _, err = run(capsys, "absent", "--storage", tiny.storage.uri)
    assert code == 2 and "has no run or sweep 'absent'" in err
