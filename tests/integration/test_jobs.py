"""Jobs, signals and object storage with real processes: .venv/bin/pytest tests/integration/test_jobs.py"""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pytest
import yaml

pytestmark = pytest.mark.integration
ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def recipe_file(small_recipe, word_problems, tmp_path, **changes):
    recipe = small_recipe(word_problems, tmp_path / "out", **changes)
    file = tmp_path / "recipe.yaml"
    file.write_text(yaml.safe_dump(recipe.model_dump(mode="json")))
    return file


def end(process):
    """End a process we started, and its children."""
    family = [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]
    for member in family:
        member.terminate()
    _, alive = psutil.wait_procs(family, timeout=5)
    for member in alive:
        member.kill()


@pytest.fixture(scope="module")
def loopback_cluster():
    """A Ray head of our own on loopback; yields its job server's address."""
    with head({"RAY_AUTH_MODE": "disabled"}) as address:
        yield address


@contextlib.contextmanager
def head(settings):
    """A Ray head on loopback with these environment variables, ended with the block."""
    folder = tempfile.mkdtemp(prefix="s2lj-", dir="/tmp")
    ports = {name: free_port() for name in ("port", "dashboard-port", "dashboard-agent-listen-port")}
    options = [f"--{name}={port}" for name, port in ports.items()]
    # A job runs `python`, as it does in a cluster's image: here that is the tests' own.
    environment = {**os.environ, **settings, "PATH": f"{BIN}:{os.environ['PATH']}"}
    process = subprocess.Popen(
        [BIN / "ray", "start", "--head", "--block", "--num-cpus=2", "--node-ip-address=127.0.0.1",
         "--dashboard-host=127.0.0.1", f"--temp-dir={folder}", "--object-store-memory=300000000", *options],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment,
    )
    address = f"http://127.0.0.1:{ports['dashboard-port']}"
    try:
        wait_for_jobs(address, environment)
        yield address
    finally:
        end(process)
        shutil.rmtree(folder, ignore_errors=True)


def wait_for_jobs(address, environment):
    """The job agent answers some seconds after the head does."""
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        probe = subprocess.run([BIN / "ray", "job", "submit", "--address", address, "--", "true"],
                               capture_output=True, env=environment, check=False)
        if probe.returncode == 0:
            return
        time.sleep(2)
    raise TimeoutError(f"no job server at {address}: {probe.stderr.decode()[-500:]}")


@pytest.mark.timeout(420)
def test_a_submitted_job_runs_the_line_to_its_results(loopback_cluster, small_recipe, word_problems, tmp_path):
    recipe = recipe_file(small_recipe, word_problems, tmp_path,
                         **{"selection.controls": [], "resources.num_workers": 1, "evaluation.tasks": []})
    done = subprocess.run(
        [BIN / "ray", "job", "submit", "--address", loopback_cluster, "--working-dir", str(ROOT), "--",
         sys.executable, "jobs/pipeline.py", str(recipe), "selection.budget=20"],
        capture_output=True, text=True, env={**os.environ, "RAY_AUTH_MODE": "disabled"}, check=False, timeout=400,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    objects = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"arms"')]
    assert objects and objects[-1]["arms"]["s2l"]["rows"] == 20
    assert Path(objects[-1]["arms"]["s2l"]["model"], "model.safetensors").is_file()


def submit(address, *arguments, **variables):
    """Run `s2l submit` as a user does; variables of None are unset."""
    environment = {name: value for name, value in {**os.environ, **variables}.items() if value is not None}
    return subprocess.run([BIN / "python", "-c", "from s2l_ray.cli import main; main()", "submit", *map(str, arguments),
                           "--address", address],
                          capture_output=True, text=True, env=environment, check=False, timeout=300)


@pytest.mark.slow
@pytest.mark.timeout(420)
def test_submit_follows_a_recipe_to_its_end(loopback_cluster, small_recipe, word_problems, tmp_path):
    from s2l_ray.status import split_run, status_of

    recipe = recipe_file(small_recipe, word_problems, tmp_path, **{
        "name": "sent", "selection.controls": [], "resources.num_workers": 1, "evaluation.tasks": []})
    done = submit(loopback_cluster, recipe, "selection.budget=20")
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["status"] == "SUCCEEDED" and told["run"] == str(tmp_path / "out" / "runs" / "sent")
    assert "prepare" in done.stderr and '{"arms"' in done.stderr, "the job's log is shown"
    state = status_of(*split_run(told["run"], ""))
    assert state["left"] == []
    assert state["command"].startswith("s2l run jobs/recipes/recipe.yaml selection.budget=20")


@pytest.mark.slow
@pytest.mark.timeout(200)
def test_submit_ends_with_the_exit_code_of_a_job_that_fails(loopback_cluster, small_recipe, word_problems, tmp_path):
    recipe = recipe_file(small_recipe, word_problems, tmp_path)
    done = submit(loopback_cluster, recipe, f"data.path={tmp_path / 'nothing.jsonl'}")
    assert done.returncode == 2, done.stderr[-3000:]
    assert "nothing.jsonl: no such file" in " ".join(done.stderr.split())
    assert json.loads(done.stdout.splitlines()[-1])["status"] == "FAILED"


@pytest.mark.slow
@pytest.mark.timeout(200)
def test_a_job_gets_the_named_variables_and_no_others(loopback_cluster, small_recipe, word_problems, tmp_path):
    from ray.job_submission import JobSubmissionClient

    recipe = recipe_file(small_recipe, word_problems, tmp_path, **{
        "name": "named", "proxy.max_steps": 600, "resources.num_workers": 1})
    done = submit(loopback_cluster, recipe, "--env", "S2L_TEST_NAMED", "--no-follow",
                  S2L_TEST_NAMED="visible", S2L_TEST_UNNAMED="hidden")
    assert done.returncode == 0, done.stderr[-3000:]
    assert "visible" not in done.stdout + done.stderr
    job_id = json.loads(done.stdout.splitlines()[-1])["job_id"]
    client = JobSubmissionClient(loopback_cluster)
    try:
        driver = psutil.Process(driver_of(client, job_id))
        assert driver.environ()["S2L_TEST_NAMED"] == "visible"
        assert "S2L_TEST_UNNAMED" not in driver.environ()
        assert "visible" not in " ".join(driver.cmdline())
    finally:
        client.stop_job(job_id)
        ended(client, job_id)


def driver_of(client, job_id):
    """Return the process id of a job's driver, once it runs on this machine."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for process in psutil.process_iter(["cmdline", "environ"]):
            environment = process.info["environ"] or {}
            if "jobs/pipeline.py" in (process.info["cmdline"] or []) and job_id in environment.get("RAY_JOB_CONFIG_JSON_ENV_VAR", ""):
                return process.pid
        time.sleep(0.2)
    raise TimeoutError(f"no driver of {job_id}: {client.get_job_logs(job_id)[-2000:]}")


def ended(client, job_id):
    """Wait for a job to end."""
    deadline = time.monotonic() + 60
    while not client.get_job_status(job_id).is_terminal():
        assert time.monotonic() < deadline, f"{job_id} does not end"
        time.sleep(0.5)


@pytest.mark.slow
def test_a_job_may_work_in_a_folder_of_the_image(loopback_cluster):
    """As jobs/rayjob.yaml has it."""
    from ray.job_submission import JobSubmissionClient

    client = JobSubmissionClient(loopback_cluster)
    job_id = client.submit_job(entrypoint="python jobs/pipeline.py", runtime_env={"working_dir": f"local://{ROOT}"})
    ended(client, job_id)
    assert "python jobs/pipeline.py [--sweep] RECIPE" in client.get_job_logs(job_id)


@pytest.mark.slow
@pytest.mark.timeout(200)
def test_ctrl_c_stops_following_and_says_how_to_go_on(loopback_cluster, small_recipe, word_problems, tmp_path):
    from ray.job_submission import JobSubmissionClient

    recipe = recipe_file(small_recipe, word_problems, tmp_path, **{"proxy.max_steps": 600, "resources.num_workers": 1})
    code = ("import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
            "from s2l_ray.cli import main; main(sys.argv[1:])")
    sending = subprocess.Popen([sys.executable, "-c", code, "submit", recipe, "--address", loopback_cluster],
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    err = ""
    for line in sending.stderr:
        err += line
        if "prepare" in line:
            break
    sending.send_signal(signal.SIGINT)
    out, rest = sending.communicate(timeout=60)
    told = json.loads(out.splitlines()[-1])
    assert sending.returncode == 130, err + rest
    assert f"ray job stop --address {loopback_cluster} {told['job_id']}" in rest and "--follow" in rest
    client = JobSubmissionClient(loopback_cluster)
    assert client.get_job_status(told["job_id"]) == "RUNNING"
    assert client.stop_job(told["job_id"])
    ended(client, told["job_id"])


@pytest.mark.slow
@pytest.mark.timeout(200)
def test_a_cluster_that_wants_a_token_says_how_to_get_one(small_recipe, word_problems, tmp_path):
    token = tmp_path / "token"
    token.write_text("0123456789abcdef" * 4)
    recipe = recipe_file(small_recipe, word_problems, tmp_path)
    withheld = {"RAY_AUTH_TOKEN": None, "RAY_AUTH_TOKEN_PATH": None, "HOME": str(tmp_path)}
    with head({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}) as address:
        for mode in ("disabled", "token", None):
            done = submit(address, recipe, **withheld, RAY_AUTH_MODE=mode)
            assert done.returncode == 2, (mode, done.stderr[-3000:])
            assert "wants its token" in done.stderr and "ray get-auth-token" in " ".join(done.stderr.split()), mode
        done = submit(address, recipe, f"data.path={tmp_path}/none", RAY_AUTH_MODE="token", RAY_AUTH_TOKEN_PATH=str(token))
        assert done.returncode == 2 and "none: no such file" in " ".join(done.stderr.split()), done.stderr[-3000:]
        assert json.loads(done.stdout.splitlines()[-1])["status"] == "FAILED"


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_ctrl_c_stops_the_workers_and_the_next_run_goes_on(small_recipe, word_problems, tmp_path):
    recipe = recipe_file(small_recipe, word_problems, tmp_path, **{
        "proxy.max_steps": 600, "proxy.num_checkpoints": 3, "selection.controls": [], "resources.num_workers": 1})
    # A test runner in the background hands down an ignored SIGINT; a terminal does not.
    code = ("import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
            "from s2l_ray.cli import main; main(sys.argv[1:])")
    command = [sys.executable, "-c", code, "trajectories", str(recipe)]
    first = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    resume = tmp_path / "out" / "proxy"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not list(resume.glob("*/resume/checkpoint*")):
        assert first.poll() is None, first.stderr.read()[-2000:]
        time.sleep(0.2)
    children = psutil.Process(first.pid).children(recursive=True)
    first.send_signal(signal.SIGINT)
    _, err = first.communicate(timeout=60)
    assert first.returncode == 130, err[-2000:]
    assert "run the same command again to go on" in " ".join(err.split())
    _, alive = psutil.wait_procs(children, timeout=30)
    assert not alive, f"left behind: {alive}"
    assert list(resume.glob("*/resume/checkpoint*")), "the resume checkpoint is kept"
    second = subprocess.run(command, capture_output=True, text=True, check=False, timeout=200)
    assert second.returncode == 0, second.stderr[-2000:]
    assert "prepare: reused" in second.stderr


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_line_on_an_s3_server_over_http(ray_cluster, small_recipe, word_problems):
    from moto.server import ThreadedMotoServer

    from s2l_ray.pipeline import plan_line, run_line
    from s2l_ray.status import split_run, status_of

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    try:
        port = server.get_host_and_port()[1]
        uri = f"s3://s2l/work?endpoint_override=127.0.0.1:{port}&scheme=http&region=us-east-1"
        recipe = small_recipe(word_problems, uri, **{"resources.num_workers": 1, "selection.controls": []})
        import boto3

        boto3.client("s3", endpoint_url=f"http://127.0.0.1:{port}", region_name="us-east-1").create_bucket(Bucket="s2l")
        accounts = run_line(plan_line(recipe, "select"), "test")
        assert [account["label"] for account in accounts] == ["prepare", "proxy", "trajectories", "select s2l"]
        line = plan_line(recipe, "select")
        assert all(account["reused"] for account in run_line(line, "again"))
        assert status_of(*split_run("small", uri))["left"] == []
        chosen = line.step("select s2l").artifact
        assert len(chosen.storage.read_bytes(chosen.file("subset.jsonl")).splitlines()) == 44  # 11 % of 400
    finally:
        server.stop()
