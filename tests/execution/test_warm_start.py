"""The server of warm workers and its stub, without Ray: a script of the test's own is the worker."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from s2l_ray.execution import warm_launch, warm_start, warm_stub

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="workers are forked on Linux only")

WORKER = """
import json, os, random, resource, signal, sys
print(json.dumps({
    "start": "warm" if "warm_server" in " ".join(sys.orig_argv) else "cold", "argv": sys.argv[1:], "name": __name__,
    "path": sys.path[0], "folder": os.getcwd(), "environment": dict(os.environ), "ray": "ray" in sys.modules,
    "group": os.getpgid(0) == os.getpid(), "random": random.random(), "files": os.listdir("/proc/self/fd"),
    "children": signal.getsignal(signal.SIGCHLD) == signal.SIG_DFL, "limit": resource.getrlimit(resource.RLIMIT_NOFILE),
    "modules": [name for name in ("wave", "datasets") if name in sys.modules], "main": sys.modules["__main__"].__file__,
    "pid": os.getpid(),
}), flush=True)
"""
COLD_SETUP = """
import os, sys
command = [argument for argument in sys.argv[1:] if not argument.startswith(("--language", "--serialized"))]
os.execv(sys.executable, [sys.executable, *command])
"""
PYTHON = f'"py_executable": {json.dumps(sys.executable)}'


@pytest.fixture
def scripts(tmp_path):
    """A worker, and what Ray would set it up with, in a folder."""
    (tmp_path / "default_worker.py").write_text(WORKER)
    (tmp_path / "setup_worker.py").write_text(COLD_SETUP)
    return tmp_path


@pytest.fixture
def start(scripts, monkeypatch):
    """A function (context, variables) -> what a worker started with the stub prints."""
    monkeypatch.setenv(warm_stub.SETUP, str(scripts / "setup_worker.py"))

    def run(context=f"{{{PYTHON}}}", **variables):
        command = [sys.executable, str(warm_start.HERE / "warm_stub.py"), str(scripts / "default_worker.py"), "--a=1", "b",
                   f"--serialized-runtime-env-context={context}", "--language=PYTHON"]
        output = scripts / "output"
        environment = {**os.environ, **variables}
        with output.open("w") as out, (scripts / "errors").open("w") as errors:
            subprocess.run(command, stdout=out, stderr=errors, env=environment, check=True, cwd=scripts, timeout=100)
        deadline = time.monotonic() + 60
        while not output.read_text().endswith("\n"):  # the stub ends before the worker prints
            assert time.monotonic() < deadline, (scripts / "errors").read_text()
            time.sleep(0.02)
        return json.loads(output.read_text()), (scripts / "errors").read_text()

    return run


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A server that has loaded a little; its process."""
    folder = tmp_path / "warm"
    folder.mkdir()
    process = warm_launch._start_server(folder, ["wave"])
    monkeypatch.setenv(warm_stub.SOCKET, str(folder / "socket"))
    yield process
    warm_launch._end(process, folder)
    assert not folder.exists()


def test_a_worker_is_forked_and_is_what_python_would_have_started(start, server, scripts):
    worker, errors = start(limit="")
    assert errors == ""
    assert worker["start"] == "warm" and worker["modules"] == ["wave"] and not worker["ray"]
    assert (worker["argv"], worker["name"]) == (["--a=1", "b"], "__main__")
    assert worker["main"] == str(scripts / "default_worker.py")
    assert (worker["path"], worker["folder"]) == (str(scripts), str(scripts))
    assert worker["group"] and worker["children"]
    assert len(worker["files"]) == 4, "it has more than its standard files, and the one that lists them"


def test_two_forks_draw_other_random_numbers(start, server):
    one, other = start()[0], start()[0]
    assert one["pid"] != other["pid"] and one["random"] != other["random"]


def test_a_worker_has_the_environment_of_its_stub_and_runtime_environment(start, server):
    worker, _ = start(f'{{{PYTHON}, "env_vars": {{"OMP_NUM_THREADS": "3", "OWN": "ü"}}, "java_jars": []}}', OTHER="x")
    seen = worker["environment"]
    assert (worker["start"], seen["OMP_NUM_THREADS"], seen["OWN"], seen["OTHER"]) == ("warm", "3", "ü", "x")
    assert not {warm_stub.SOCKET, warm_stub.SETUP, "JE_ARROW_MALLOC_CONF"} & seen.keys()


def test_a_cold_worker_sees_no_more_of_us_than_a_warm_one(start, monkeypatch, tmp_path):
    monkeypatch.setenv(warm_stub.SOCKET, str(tmp_path / "none"))
    worker, errors = start()
    assert worker["start"] == "cold" and worker["argv"] == ["--a=1", "b"] and "FileNotFoundError" in errors
    assert not {warm_stub.SOCKET, warm_stub.SETUP} & worker["environment"].keys()


@pytest.mark.parametrize("name", ["PYTHONPATH", "HF_HOME", "TRANSFORMERS_OFFLINE", "PYTHONHASHSEED"])
def test_a_worker_whose_libraries_would_be_set_otherwise_starts_cold(start, server, name):
    worker, errors = start(**{name: "1"})
    assert worker["start"] == "cold" and worker["environment"][name] == "1"
    assert f"differs from the driver's in {name}" in errors


@pytest.mark.parametrize("accelerator", ["cpu", "cuda"])
def test_deepspeed_has_been_loaded_for_the_cpu(start, server, accelerator):
    assert start(DS_ACCELERATOR=accelerator)[0]["start"] == {"cpu": "warm", "cuda": "cold"}[accelerator]


def test_with_a_dead_server_a_worker_starts_cold(start, server):
    server.kill()
    server.wait()
    worker, errors = start()
    assert worker["start"] == "cold" and "ConnectionRefusedError" in errors


@pytest.mark.parametrize(("module", "source", "reason"), [
    ("ray", "", "imports Ray"),
    ("with_a_thread", "import threading, time\nthreading.Thread(target=time.sleep, args=(99,), daemon=True).start()",
     "2 threads"),
], ids=["Ray", "a thread"])
def test_a_server_that_may_not_fork_refuses(tmp_path, start, monkeypatch, module, source, reason):
    folder = tmp_path / "warm"
    folder.mkdir()
    (tmp_path / f"{module}.py").write_text(source)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    process = warm_launch._start_server(folder, [module])
    monkeypatch.setenv(warm_stub.SOCKET, str(folder / "socket"))
    worker, errors = start()
    warm_launch._end(process, folder)
    assert worker["start"] == "cold" and reason in errors


def test_what_a_server_died_of_is_told(tmp_path, caplog):
    process = warm_launch._start_server(tmp_path, ["no_such_module"])
    process.wait(60)
    warm_launch._end(process, tmp_path)
    assert "No module named 'no_such_module'" in caplog.text


def test_no_worker_starts_for_a_stub_that_gave_up(server, scripts):
    command = [str(scripts / "default_worker.py")]
    request = {"command": command, "environment": dict(os.environ), "folder": "/", "umask": 18, "nice": 0, "limits": {},
               "executable": sys.executable}
    message = json.dumps(request).encode()
    with socket.socket(socket.AF_UNIX) as stub, (scripts / "output").open("w") as output:
        stub.connect(os.environ[warm_stub.SOCKET])
        socket.send_fds(stub, [len(message).to_bytes(8, "big")], [0, output.fileno(), output.fileno()])
        stub.sendall(message)
        child = int(stub.recv(100))
    deadline = time.monotonic() + 30
    while psutil.pid_exists(child):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert (scripts / "output").read_text() == ""


def test_the_server_outlives_a_stub_that_talks_nonsense(server, start):
    with socket.socket(socket.AF_UNIX) as stub:
        stub.connect(os.environ[warm_stub.SOCKET])
        stub.sendall(b"nonsense")
    assert start()[0]["start"] == "warm"


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_the_server_ends_with_its_driver(tmp_path, how):
    program = ("import pathlib, sys, time\nfrom s2l_ray.execution import warm_launch\n"
               "print(warm_launch._start_server(pathlib.Path(sys.argv[1]), ['wave']).pid, flush=True)\ntime.sleep(99)")
    folder = tmp_path / "warm"
    folder.mkdir()
    driver = subprocess.Popen([sys.executable, "-c", program, str(folder)], stdout=subprocess.PIPE, text=True)
    server = psutil.Process(int(driver.stdout.readline()))
    assert server.is_running() and os.getsid(server.pid) == server.pid
    driver.send_signal(how)
    driver.communicate(timeout=30)
    server.wait(30)
    assert not folder.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-m", "ray.util.client.server", "--language=PYTHON"], "no worker in Python"),
        (["-s", "/x/default_worker.py", "--language=PYTHON"], "no worker in Python"),
        (["/x/default_worker.py", "--language=JAVA"], "no worker in Python"),
        (["/x/default_worker.py"], "no worker in Python"),
        (["/x/default_worker.py", "--language=PYTHON", '--serialized-runtime-env-context={"py_executable": "/other/python"}'], "more than variables"),
        (["/x/default_worker.py", "--language=PYTHON", '--serialized-runtime-env-context={"command_prefix": ["cd x &&"]}'], "more than variables"),
        (["/x/default_worker.py", "--language=PYTHON", '--serialized-runtime-env-context={"of_a_later_version": 1}'], "more than variables"),
        (["/x/default_worker.py", "--language=PYTHON", '--serialized-runtime-env-context={"env_vars": {"A": "${B}"}}'], "made of others"),
    ],
)
def test_what_cannot_be_forked_is_left_to_ray(arguments, message):
    with pytest.raises(warm_stub.ColdStartError, match=message):
        warm_stub.worker_of(arguments)


def test_a_workers_command_is_taken_from_rays():
    context = f'{{"command_prefix": [], "env_vars": {{"A": "b=c"}}, {PYTHON}, "override_worker_entrypoint": null}}'
    arguments = ["/x/default_worker.py", "--a=b=c", f"--serialized-runtime-env-context={context}", "--language=PYTHON", "-d"]
    assert warm_stub.worker_of(arguments) == (["/x/default_worker.py", "--a=b=c", "-d"], {"A": "b=c"})


@pytest.mark.parametrize("preload", [warm_launch.PRELOAD])
def test_what_is_preloaded_starts_no_thread_and_loads_neither_ray_nor_cuda(preload, server):
    program = ("import os, sys; sys.path.insert(0, sys.argv[1]); import warm_server; os.environ.update(warm_server.WHILE_LOADING)\n"
               "print(repr(warm_server.load(sys.argv[2:], os.getppid())), len(os.listdir('/proc/self/task')))")
    done = subprocess.run([sys.executable, "-c", program.replace("sys.path.insert(0, sys.argv[1]); import warm_server", "from s2l_ray.execution import warm_server"), "", *preload],
                          capture_output=True, text=True, check=True, stdin=server.stdin)
    assert done.stdout.splitlines()[-1] == "'' 1"


def test_what_libraries_set_when_they_are_imported_makes_no_worker_start_cold():
    # Whoever imports them first, the driver, a test or our own modules: bitsandbytes comes by peft where it is installed.
    program = ("import importlib, os, sys, types; before = dict(os.environ)\n"
               "for name in sys.argv[1:]: importlib.import_module(name)\n"
               "from s2l_ray.execution.warm_server import refusal\n"
               "worker = types.SimpleNamespace(executable=sys.executable, environment=dict(os.environ))\n"
               "print(refusal(worker, before))")
    modules = (*warm_launch.PRELOAD, *warm_launch.OURS, "peft", "bitsandbytes", "torch._inductor.config", "lm_eval")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("TORCH", "PYTORCH"))}
    done = subprocess.run([sys.executable, "-c", program, *modules], capture_output=True, text=True, check=True, env=environment)
    assert "its environment differs" not in done.stdout


def test_where_workers_cannot_be_forked_nothing_is_changed(monkeypatch):
    monkeypatch.setattr(warm_launch, "_start_server", lambda *_: pytest.fail("a server was started"))
    with warm_start.warm_workers(use_gpu=True):
        assert warm_stub.SOCKET not in os.environ
    monkeypatch.setattr(sys, "platform", "darwin")
    with warm_start.warm_workers():
        assert warm_stub.SOCKET not in os.environ


def test_the_place_is_private_and_all_is_as_before_afterwards():
    import ray

    before = ray._private.ray_constants.SETUP_WORKER_FILENAME
    with warm_start.warm_workers(["wave"]):
        folder = Path(os.environ[warm_stub.SOCKET]).parent
        assert folder.stat().st_mode & 0o777 == 0o700
        assert Path(ray._private.ray_constants.SETUP_WORKER_FILENAME).is_file()
        assert Path(os.environ[warm_stub.SETUP]).is_file()
    assert not folder.exists() and before == ray._private.ray_constants.SETUP_WORKER_FILENAME
    assert not {warm_stub.SOCKET, warm_stub.SETUP} & os.environ.keys()
