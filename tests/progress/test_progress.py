"""Progress in a log: plain lines, not too many, with an honest ETA; stdout stays free."""

from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s2l_ray.progress import bars
from s2l_ray.progress.bars import Task, task
from s2l_ray.progress.notes import note
from s2l_ray.progress.wording import clock


@pytest.fixture
def at(monkeypatch):
    """A function (seconds) that sets the clock."""
    now = SimpleNamespace(s=0.0)
    monkeypatch.setattr(bars, "time", SimpleNamespace(monotonic=lambda: now.s))
    return lambda seconds: setattr(now, "s", seconds)


def a_task(total=100):
    return Task("proxy", total, "steps", _started=0.0, _spoken=0.0)


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0, "0 s"), (0.4, "0 s"), (42, "42 s"), (59.4, "59 s"),
        (59.6, "1 m 00 s"),  # 59.6 rounds to 60
        (185, "3 m 05 s"), (3599.4, "59 m 59 s"), (3599.6, "1 h 00 m"), (3720, "1 h 02 m"), (360_000, "100 h 00 m"),
    ],
)
def test_clock(seconds, expected):
    assert clock(seconds) == expected


@settings(deadline=None)
@given(st.floats(0, 1e7))
def test_clock_is_off_by_less_than_its_smallest_unit(seconds):
    size = {"s": 1, "m": 60, "h": 3600}
    parts = clock(seconds).split()
    said = sum(int(number) * size[unit] for number, unit in zip(parts[::2], parts[1::2], strict=True))
    assert abs(said - seconds) <= (0.5 if "s" in parts else 60)


def test_notes_go_to_stderr_as_they_are(capsys):
    note("[bold]not markup[/bold] " + "x" * 300)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "[bold]not markup[/bold] " + "x" * 300 + "\n", "lines are not folded"


def test_a_log_gets_a_line_every_five_seconds_at_most(at, capsys):
    running = a_task()
    for second in range(1, 12):
        at(second)
        running.update(second)
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition("  ")[0] for line in lines] == ["proxy: 5/100 steps", "proxy: 10/100 steps"]


def test_a_line_holds_figures_and_eta(at, capsys):
    running = a_task(total=2000)
    running.update(0)
    at(10)
    running.update(1000, {"loss": 1.23456, "tokens/s": 12345.6})
    # 1000 steps in 10 s leave 10 s for the other 1000.
    assert capsys.readouterr().err == "proxy: 1,000/2,000 steps  loss 1.235  tokens/s 12,346  ETA 10 s\n"


def test_without_figures_there_is_no_gap(at, capsys):
    running = a_task()
    at(6)
    running.update(1)
    assert capsys.readouterr().err == "proxy: 1/100 steps  ETA unknown\n"


def test_the_eta_counts_this_run_alone(at, capsys):
    # 80 of 100 were done before; 10 more took 10 s, counted from the first report, so the last 10 take 10 s.
    running = a_task()
    at(3)
    running.update(80)
    at(13)
    running.update(90)
    assert capsys.readouterr().err.endswith("ETA 10 s\n")


def test_the_end_is_left_to_the_stages_own_account(at, capsys):
    running = a_task()
    at(60)
    running.update(100)
    assert capsys.readouterr().err == ""


def test_a_task_in_a_log_has_no_bar(capsys):
    with task("select", 3, "shards") as running:
        for done in range(1, 4):
            running.update(done)
    assert running.bar is None
    captured = capsys.readouterr()
    assert captured.out == captured.err == "", "what takes no time says nothing"
