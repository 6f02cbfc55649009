"""Units of work on this machine alone, in real processes: .venv/bin/pytest tests/execution/local"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from s2l_ray.errors import InputError
from s2l_ray.execution.attempts import UnitError
from s2l_ray.execution.local import units as local_units
from s2l_ray.execution.local.machine import machine_session, this_machine
from s2l_ray.execution.local.process import CallError
from s2l_ray.execution.work_units import run_units
from s2l_ray.recipe.resources import ResourcesConfig
from s2l_ray.storage.files import Storage

RESOURCES = ResourcesConfig()
LIGHT = ["numpy", "psutil", "pyarrow.parquet", "pytest", "s2l_ray.execution.work_units"]
"""What the workers of these tests load: seconds less than those of a run."""


class Worker:
    """Does what a unit says: (what, argument)."""

    def __init__(self, folder=""):
        self._folder, self._count = Path(folder), 0

    def run(self, unit):
        what, argument = unit
        self._count += 1
        if what == "sleep":
            time.sleep(argument)
        elif what == "fail":
            raise ValueError(f"bad {argument}")
        elif what == "refuse":
            raise InputError(f"mend {argument}")
        elif what == "die" and self._first_time(argument):
            sys.stderr.write("last words\n")
            sys.stderr.flush()
            os.kill(os.getpid(), signal.SIGKILL)
        return {"pid": os.getpid(), "count": self._count, "warm": "warm_server" in " ".join(sys.orig_argv),
                "threads": os.environ["OMP_NUM_THREADS"], "stdin": os.readlink("/proc/self/fd/0")}

    def _first_time(self, name):
        if name == "always":
            return True
        if (self._folder / name).exists():
            return False
        (self._folder / name).touch()
        return True


@pytest.fixture(scope="module")
def machine(tmp_path_factory):
    """This machine with two cores, whatever it has; its server has little to load."""
    from s2l_ray.execution.warm_launch import warm_server

    with warm_server(LIGHT) as server, machine_session(Storage(str(tmp_path_factory.mktemp("s"))), [], server) as machine:
        machine.num_cores = 2
        yield machine
    assert this_machine() is None


def run(units, folder="", **options):
    return run_units("work", Worker, {"folder": str(folder)}, units, RESOURCES, actors=True, **options)


def test_units_run_in_forked_processes_of_one_thread_and_come_back_in_order(machine):
    rows = run([("sleep", 1.0), *[("sleep", 0.05)] * 4])
    assert [row["unit"] for row in rows] == [0, 1, 2, 3, 4]
    assert len({row["pid"] for row in rows}) == 2 and os.getpid() not in {row["pid"] for row in rows}
    assert [row["pid"] for row in rows].count(rows[0]["pid"]) == 1, "the busy one got nothing else"
    assert [row["count"] for row in rows if row["pid"] == rows[1]["pid"]] == [1, 2, 3, 4], "made once a process"
    assert {(row["warm"], row["threads"], row["stdin"]) for row in rows} == {(True, "1", "/dev/null")}
    wait_until_gone([row["pid"] for row in rows])


def wait_until_gone(pids):
    deadline = time.monotonic() + 20
    while any(map(is_running, pids)):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def is_running(pid):
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_no_more_processes_than_asked_for(machine):
    resources = ResourcesConfig(num_scoring_workers=1)
    rows = run_units("work", Worker, {}, [("sleep", 0.1)] * 3, resources, gpu=True)
    assert len({row["pid"] for row in rows}) == 1


def test_a_few_light_units_run_in_this_process(machine, monkeypatch):
    def by_us(count):
        return {row["pid"] == os.getpid() for row in run_units("work", Worker, {}, [("sleep", 0)] * count, RESOURCES)}

    machine.ask(get_environment, name="PATH")  # its server has loaded by then
    assert machine.is_warm
    assert (by_us(2), by_us(3)) == ({True}, {False})
    monkeypatch.setattr(type(machine), "is_warm", False)
    assert (by_us(16), by_us(17)) == ({True}, {False})


def test_a_process_that_dies_is_replaced_and_its_unit_done_again(machine, tmp_path, capsys):
    rows = run([("sleep", 0.1), ("die", "once"), ("sleep", 0.1)], tmp_path)
    assert [row["unit"] for row in rows] == [0, 1, 2]
    said = " ".join(capsys.readouterr().err.split())
    assert "work: ('die', 'once') failed: its process died (out of memory, or a crash in a library): last words; trying again" in said


@pytest.mark.parametrize("few", [0, 9], ids=["processes", "inside"])
@pytest.mark.parametrize(("bad", "said"), [(("fail", 7), "ValueError: bad 7"), (("refuse", 7), "mend 7")], ids=["fails", "is refused"])
def test_what_a_unit_says_reaches_the_user(machine, monkeypatch, few, bad, said):
    monkeypatch.setattr(local_units, "_FEW", few)
    error = InputError if bad[0] == "refuse" else UnitError
    with pytest.raises(error, match=said):
        run_units("work", Worker, {}, [("sleep", 0), bad], RESOURCES)


def test_a_unit_whose_process_always_dies_ends_the_stage(machine):
    with pytest.raises(UnitError, match=r"\('die', 'always'\) failed: its process died"):
        run([("die", "always"), ("sleep", 0)])


def test_units_that_hang_end_the_stage_in_time(machine, monkeypatch):
    monkeypatch.setattr(local_units, "STUCK_S", 0.5)
    started = time.monotonic()
    with pytest.raises(InputError, match="nothing was finished for over an hour"):
        run([("sleep", 0), ("sleep", 99)])
    assert time.monotonic() - started < 20


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def grumble(what):
    raise ValueError(what)


def test_a_single_call(machine):
    assert machine.ask(get_environment, name="TOKENIZERS_PARALLELISM") == "false"
    assert machine.ask(get_environment, name="CUDA_VISIBLE_DEVICES") == ""
    with pytest.raises(RuntimeError, match="ValueError: no"):
        machine.ask(grumble, what="no")
    with pytest.raises(CallError, match="its process died"):
        machine.ask(die)


def get_environment(name):
    return os.environ.get(name)


def test_where_nothing_forks_workers_start_by_themselves_and_it_is_said(tmp_path, caplog):
    with machine_session(Storage(str(tmp_path)), [], tmp_path / "nobody listens") as machine:
        machine.num_cores = 2
        rows = run([("sleep", 0.1)] * 4)
        assert {row["warm"] for row in rows} == {False} and len({row["pid"] for row in rows}) == 2
    assert [record.message for record in caplog.records].count("Workers start cold, in some seconds each: [Errno 2] No such file or directory") == 1


def nap():
    """Do nothing, and hear nothing."""
    while True:
        time.sleep(99)


# A test runner in the background hands down an ignored SIGINT; a terminal does not.
DRIVER = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)
from tests.execution.local.test_units import nap
from s2l_ray.execution.local.machine import machine_session
from s2l_ray.storage.files import Storage
from s2l_ray.execution.warm_launch import warm_server
with warm_server(["numpy"]) as server, machine_session(Storage(sys.argv[1]), [], server if sys.argv[2] == "warm" else server / "x") as machine:
    with machine.processes(2, {}) as processes:
        for process in processes:
            process.call(nap)
        print(*(process._pid for process in processes), flush=True)
        time.sleep(99)
"""


@pytest.mark.parametrize("start", ["warm", "cold"])
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_workers_end_with_their_driver_whatever_they_do(tmp_path, start, how):
    driver = subprocess.Popen([sys.executable, "-c", DRIVER, str(tmp_path), start], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    workers = [int(pid) for pid in driver.stdout.readline().split()]
    assert len(workers) == 2 and all(map(is_running, workers))
    driver.send_signal(how)
    driver.communicate(timeout=30)
    wait_until_gone(workers)
