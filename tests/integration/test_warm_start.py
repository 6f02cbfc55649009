"""Warm workers under a real Ray, in a driver of the test's own: .venv/bin/pytest tests/integration/test_warm_start.py"""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import ray

pytestmark = [pytest.mark.integration, pytest.mark.skipif(sys.platform != "linux", reason="workers are forked on Linux")]
REMEDY = (f"Ray {ray.__version__} starts workers otherwise: adapt what sets SETUP_WORKER_FILENAME in s2l_ray/execution, "
          "or, where workers can be forked in a public way by now, use that and delete warm_*.py")

DRIVER = """
import json, os, signal, sys, time
from pathlib import Path

import ray
import ray.train
from ray.train import RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer

from s2l_ray.execution import warm_start

KIND, FOLDER, SESSIONS = sys.argv[1:]
PRELOAD = {"warm": warm_start.PRELOAD, "dead": ["no_such_module"]}[KIND]


@ray.remote(num_cpus=0)
class Actor:
    def look(self):
        import random, uuid
        import numpy, torch
        print("printed by", os.getpid())
        return {"pid": os.getpid(), "warm": "warm_server" in " ".join(sys.orig_argv), "random": random.random(),
                "numpy": numpy.random.rand(), "torch": torch.rand(1).item(), "uuid": uuid.uuid4().hex,
                "own": os.environ.get("OWN"), "omp": os.environ.get("OMP_NUM_THREADS"), "threads": torch.get_num_threads(),
                "put": ray.put(0).hex(), "nice": os.nice(0), "group": os.getpgid(0) == os.getpid(),
                "deepspeed": "deepspeed" in sys.modules, "leak": [name for name in os.environ if "WARM" in name],
                "main": sys.argv[0], "parent": os.getppid(), "child": os.system("exit 3")}


@ray.remote
def task(number):
    import torch
    return number + 1, torch.get_num_threads(), os.environ["OMP_NUM_THREADS"]


def death_of(actor, kill):
    kill()
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:  # on a busy machine it answers for a while yet
        try:
            ray.get(actor.look.remote(), timeout=60)
        except ray.exceptions.ActorDiedError as error:
            return type(error).__name__


def train_loop(config):
    import torch
    total = torch.tensor([float(ray.train.get_context().get_world_rank() + 1)])
    torch.distributed.all_reduce(total)
    if ray.train.get_context().get_world_rank() == 0:
        said = {"total": total.item(), "warm": "warm_server" in " ".join(sys.orig_argv)}
        Path(config["file"]).write_text(json.dumps(said))


def main():
    ray.init(address="local", num_cpus=2, include_dashboard=False, object_store_memory=100_000_000, _temp_dir=SESSIONS,
             log_to_driver=False, logging_level="ERROR")
    said = {"setup": [word for word in Path(f"/proc/{raylet()}/cmdline").read_text().split() if word.endswith(".py")][:1]}
    actors = [Actor.options(runtime_env={"env_vars": {"OWN": str(i), "OMP_NUM_THREADS": "2"}}).remote() for i in range(2)]
    said["actors"] = ray.get([actor.look.remote() for actor in actors])
    said["tasks"] = ray.get([task.remote(i) for i in range(4)])
    said["tasks"] += ray.get([task.options(num_cpus=2).remote(4)])
    logs = [path.read_text() for path in Path(SESSIONS).glob("session_latest/logs/worker-*.out")]
    said["logged"] = [sum(f"printed by {actor['pid']}" in log for log in logs) for actor in said["actors"]]
    said["folder"] = str(Path(os.environ[warm_start.SOCKET]).parent)
    if KIND == "dead":  # its workers are Ray's own from here on
        return said
    said["killed"] = death_of(actors[0], lambda: os.kill(said["actors"][0]["pid"], signal.SIGKILL))
    said["ended"] = death_of(actors[1], lambda: ray.kill(actors[1]))
    trainer = TorchTrainer(train_loop, train_loop_config={"file": FOLDER + ".json"},
                           scaling_config=ScalingConfig(num_workers=2),
                           run_config=RunConfig(name="two", storage_path=FOLDER))
    trainer.fit()
    said["trained"] = json.loads(Path(FOLDER + ".json").read_text())
    main.kept = Actor.remote()
    said["alive"] = ray.get(main.kept.look.remote())
    return said


def raylet():
    return next(pid for pid in os.listdir("/proc") if pid.isdigit() and is_raylet(pid))


def is_raylet(pid):
    try:
        words = Path(f"/proc/{pid}/cmdline").read_text().split("\\0")
    except OSError:
        return False
    return words[0].endswith("/raylet") and f"--temp_dir={SESSIONS}" in words


with warm_start.warm_workers(PRELOAD):
    said = main()
    if KIND == "dead":
        ray.shutdown()
    print(json.dumps(said), flush=True)
    if KIND == "warm":  # it is killed
        time.sleep(600)
"""


def drive(folder, kind):
    """Start a driver; Ray's sockets need a short folder."""
    (folder / "driver.py").write_text(DRIVER)
    sessions = f"/tmp/s2lw-{os.getpid()}-{kind}"
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    with (folder / "errors").open("w") as errors:
        process = subprocess.Popen([sys.executable, folder / "driver.py", kind, str(folder / "out"), sessions], text=True,
                                   stdout=subprocess.PIPE, stderr=errors, env=environment | {"RAY_AUTH_MODE": "disabled"})
    return process, sessions


def processes_of(sessions, pids):
    """Return the processes that a driver's cluster has left: those of its session, and these."""
    left = [process.info for process in psutil.process_iter(["pid", "cmdline"])
            if sessions in " ".join(process.info["cmdline"] or [])]
    return left + [pid for pid in pids if psutil.pid_exists(pid)]


def wait_for_none(sessions, pids):
    deadline = time.monotonic() + 60
    while left := processes_of(sessions, pids):
        assert time.monotonic() < deadline, left
        time.sleep(0.3)
    shutil.rmtree(sessions, ignore_errors=True)


@pytest.fixture(scope="module", params=["warm", "dead"])
def driven(request, tmp_path_factory):
    """What a driver has seen, with a server and with one that has died: (kind, what it said, what it wrote of errors).

    The one with a server is there until it is killed.
    """
    folder, kind = tmp_path_factory.mktemp(request.param), request.param
    process, sessions = drive(folder, kind)
    with process:
        line = next((line for line in process.stdout if line.startswith("{")), "")  # Ray Train prints too
        if kind == "dead":  # it tells of its server at its end
            process.wait(120)
        errors = (folder / "errors").read_text()
        assert line, errors
        yield kind, {**json.loads(line), "process": process, "sessions": sessions}, errors
        process.kill()
    wait_for_none(sessions, [])


def test_ray_starts_workers_with_the_stub(driven):
    _, said, _ = driven
    assert [Path(path).name for path in said["setup"]] == ["warm_stub.py"], f"Ray does not run the stub. {REMEDY}"


def test_workers_are_forked_where_there_is_a_server_and_else_start_as_ever(driven):
    kind, said, errors = driven
    assert {actor["warm"] for actor in said["actors"]} == {kind == "warm"}, f"{errors}. {REMEDY}"
    assert {actor["deepspeed"] for actor in said["actors"]} == {kind == "warm"}
    assert ("No module named 'no_such_module'" in errors) == (kind == "dead")


def test_a_worker_is_as_ray_makes_one(driven):
    _, said, _ = driven
    nice = int(os.environ.get("RAY_worker_niceness", "15"))  # noqa: SIM112 (the name is Ray's)
    for number, actor in enumerate(said["actors"]):
        assert (actor["own"], actor["omp"], actor["threads"]) == (str(number), "2", 2)
        assert actor["leak"] == [] and actor["group"] and actor["nice"] == nice
        assert actor["main"].endswith("default_worker.py")
        assert os.waitstatus_to_exitcode(actor["child"]) == 3, "it cannot wait for its children"
    assert said["logged"] == [1, 1], "what a worker prints is not in its log"


def test_workers_share_no_randomness(driven):
    _, said, _ = driven
    one, other = said["actors"]
    assert [name for name in ("pid", "random", "numpy", "torch", "uuid", "put") if one[name] == other[name]] == []


def test_tasks_use_as_many_threads_as_ray_gives_them(driven):
    kind, said, _ = driven
    assert said["tasks"][:4] == [[number + 1, 1, "1"] for number in range(4)]
    # A cold worker that has run a task before keeps to the threads of that one, torch being imported by then: hence
    # the driver has the four of one thread done before the fifth is sent.
    assert said["tasks"][4][0::2] == [5, "2"] and (kind == "dead" or said["tasks"][4][1] == 2)


@pytest.mark.parametrize("driven", ["warm"], indirect=True)
def test_the_end_of_a_worker_is_noticed(driven):
    _, said, _ = driven
    assert (said["killed"], said["ended"]) == ("ActorDiedError", "ActorDiedError")


@pytest.mark.parametrize("driven", ["warm"], indirect=True)
def test_two_training_workers_are_forked_and_reduce(driven):
    _, said, _ = driven
    assert said["trained"] == {"total": 3, "warm": True}, REMEDY


@pytest.mark.parametrize("driven", ["warm"], indirect=True)
def test_nothing_outlives_a_driver_that_is_killed(driven):
    _, said, _ = driven
    actors = [*said["actors"], said["alive"]]
    assert psutil.pid_exists(said["alive"]["pid"]) and said["alive"]["warm"]
    said["process"].kill()
    wait_for_none(said["sessions"], [pid for actor in actors for pid in (actor["pid"], actor["parent"])])
    assert not Path(said["folder"]).exists(), "it leaves the folder of its socket"


@pytest.mark.parametrize("driven", ["dead"], indirect=True)
def test_nothing_outlives_a_driver_that_ends(driven):
    _, said, _ = driven
    assert said["process"].wait(60) == 0
    wait_for_none(said["sessions"], [pid for actor in said["actors"] for pid in (actor["pid"], actor["parent"])])
