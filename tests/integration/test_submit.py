"""`s2l submit` against real job servers on loopback: .venv/bin/pytest tests/integration/test_submit.py"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from s2l_ray.pipeline.plan import plan_run
from s2l_ray.pipeline.run import run_plan

pytestmark = [pytest.mark.integration, pytest.mark.slow]
ROOT = Path(__file__).resolve().parents[2]


def submit(address, *arguments, **variables):
    """Run `s2l submit` as a user does; variables of None are unset."""
    environment = {name: value for name, value in {**os.environ, **variables}.items() if value is not None}
    return subprocess.run([sys.executable, "-c", "from s2l_ray.cli.main import main; main()", "submit", *map(str, arguments),
                           "--address", address],
                          capture_output=True, text=True, env=environment, check=False, timeout=850)


@pytest.fixture(scope="module")
def storage(on_this_machine, small_recipe, word_problems, tmp_path_factory):
    """One for the run and the sweep, with all in it that comes before their selections."""
    folder = tmp_path_factory.mktemp("storage")
    with on_this_machine():
        run_plan(plan_run(small_recipe(word_problems, folder), "trajectories"), "test")
    return folder


def test_submit_follows_a_recipe_to_its_end(loopback_cluster, recipe_file, storage):
    from s2l_ray.results.record import find_record
    from s2l_ray.results.status import status_of

    recipe = recipe_file(**{
        "name": "sent", "selection.controls": [], "resources.num_workers": 1})
    done = submit(loopback_cluster, recipe, "selection.budget=20", f"storage={storage}")
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["status"] == "SUCCEEDED" and told["run"] == str(storage / "runs" / "sent")
    assert "prepare: reused" in done.stderr, "the job's log is shown"
    (arms,) = (json.loads(line)["arms"] for line in done.stderr.splitlines() if line.startswith('{"arms"'))
    assert arms["s2l"]["rows"] == 20 and Path(arms["s2l"]["model"], "model.safetensors").is_file()
    state = status_of(find_record(told["run"], ""))
    assert state["left"] == []
    assert state["command"].startswith("s2l run jobs/recipes/recipe.yaml selection.budget=20")


def test_submit_ends_with_the_exit_code_of_a_job_that_fails(loopback_cluster, recipe_file, tmp_path):
    from ray.job_submission import JobSubmissionClient

    recipe, nowhere = recipe_file(), f"data.path={tmp_path / 'nothing.jsonl'}"
    sent = submit(loopback_cluster, recipe, nowhere, "--no-follow")
    assert sent.returncode == 0, sent.stderr[-3000:]
    client, job_id = JobSubmissionClient(loopback_cluster), json.loads(sent.stdout.splitlines()[-1])["job_id"]
    ended(client, job_id)
    assert client.get_job_status(job_id) == "FAILED"
    done = submit(loopback_cluster, recipe, nowhere)
    assert done.returncode == 2, done.stderr[-3000:]
    assert "nothing.jsonl: no such file" in " ".join(done.stderr.split())
    assert json.loads(done.stdout.splitlines()[-1])["status"] == "FAILED"


def following(recipe, address, *arguments, **variables):
    """Return a process of `s2l submit` that shows a job's log."""
    # A test runner in the background hands down an ignored SIGINT; a terminal does not.
    code = ("import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
            "from s2l_ray.cli.main import main; main(sys.argv[1:])")
    process = subprocess.Popen([sys.executable, "-c", code, "submit", recipe, "--address", address, *arguments],
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, **variables})
    shown = next((line for line in process.stderr if "prepare" in line), None)
    assert shown is not None, "it ended before the job said anything"
    return process


def test_a_job_gets_the_named_variables_and_goes_on_after_ctrl_c(loopback_cluster, recipe_file):
    from ray.job_submission import JobSubmissionClient

    recipe = recipe_file(**{"name": "named", "proxy.max_steps": 3000, "resources.num_workers": 1})
    sending = following(recipe, loopback_cluster, "--env", "S2L_TEST_NAMED",
                        S2L_TEST_NAMED="visible", S2L_TEST_UNNAMED="hidden")
    client = JobSubmissionClient(loopback_cluster)
    (job_id,) = [job.submission_id for job in client.list_jobs() if job.status == "RUNNING"]
    try:
        driver = psutil.Process(driver_of(client, job_id))
        assert driver.environ()["S2L_TEST_NAMED"] == "visible"
        assert "S2L_TEST_UNNAMED" not in driver.environ()
        assert "visible" not in " ".join(driver.cmdline())
        sending.send_signal(signal.SIGINT)
        out, rest = sending.communicate(timeout=300)
        assert sending.returncode == 130, rest
        assert json.loads(out.splitlines()[-1])["job_id"] == job_id and "visible" not in out + rest
        assert f"ray job stop --address {loopback_cluster} {job_id}" in rest and "--follow" in rest
        assert client.get_job_status(job_id) == "RUNNING"
    finally:
        client.stop_job(job_id)
        ended(client, job_id)


def driver_of(client, job_id):
    """Return the process id of a job's driver, once it runs on this machine."""
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        for process in psutil.process_iter(["cmdline", "environ"]):
            environment = process.info["environ"] or {}
            if "jobs/pipeline.py" in (process.info["cmdline"] or []) and job_id in environment.get("RAY_JOB_CONFIG_JSON_ENV_VAR", ""):
                return process.pid
        time.sleep(0.2)
    raise TimeoutError(f"no driver of {job_id}: {client.get_job_logs(job_id)[-2000:]}")


def ended(client, job_id):
    """Wait for a job to end."""
    deadline = time.monotonic() + 240
    while not client.get_job_status(job_id).is_terminal():
        assert time.monotonic() < deadline, f"{job_id} does not end"
        time.sleep(0.5)


def test_a_job_may_work_in_a_folder_of_the_image(loopback_cluster):
    """As jobs/rayjob.yaml has it."""
    from ray.job_submission import JobSubmissionClient

    client = JobSubmissionClient(loopback_cluster)
    job_id = client.submit_job(entrypoint="python jobs/pipeline.py", runtime_env={"working_dir": f"local://{ROOT}"})
    ended(client, job_id)
    assert "python jobs/pipeline.py [--sweep] RECIPE" in client.get_job_logs(job_id)


def test_a_sweep_is_sent_as_one(loopback_cluster, recipe_file, storage):
    recipe = recipe_file(**{"name": "swept", "sweep.controls": [], "sweep.space": {"selection.budget": [999_999]}})
    done = submit(loopback_cluster, recipe, "--sweep", f"storage={storage}")
    assert done.returncode == 2, done.stderr[-3000:]
    said = " ".join(done.stderr.split())
    assert "999999" in said, "a run alone would not have tried this budget"


@pytest.mark.long
def test_a_sweep_is_submitted_the_same_way(loopback_cluster, recipe_file, word_problems, storage):
    recipe = recipe_file(**{
        "name": "swept", "resources.num_workers": 1, "sweep.control_seeds": 1, "sweep.max_concurrent_trials": 1,
        "sweep.controls": [],
        "sweep.space": {"selection.budget": [20], "selection.num_clusters": [4]}, "target.max_steps": 1,
        "evaluation.tasks": [{"name": "problems", "path": str(word_problems / "held_out.jsonl"), "metrics": ["loss"]}]})
    done = submit(loopback_cluster, recipe, "--sweep", f"storage={storage}")
    assert done.returncode == 0, done.stderr[-3000:]
    assert (storage / "sweeps" / "swept" / "trials.parquet").is_file()


def test_a_cluster_that_wants_a_token_says_how_to_get_one_and_one_that_ends_is_a_failure(ray_head, recipe_file, tmp_path):
    token = tmp_path / "token"
    token.write_text("0123456789abcdef" * 4)
    recipe = recipe_file(**{"proxy.max_steps": 600, "resources.num_workers": 1})
    withheld = {"RAY_AUTH_TOKEN": None, "RAY_AUTH_TOKEN_PATH": None, "HOME": str(tmp_path)}
    given = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}
    with ray_head(given) as address:
        for mode in ("disabled", "token", None):
            done = submit(address, recipe, **withheld, RAY_AUTH_MODE=mode)
            assert done.returncode == 2, (mode, done.stderr[-3000:])
            assert "wants its token" in done.stderr and "ray get-auth-token" in " ".join(done.stderr.split()), mode
        sending = following(recipe, address, **given)
    out, rest = sending.communicate(timeout=300)
    assert sending.returncode == 1, rest
    assert json.loads(out.splitlines()[-1])["status"] == "UNKNOWN"
    assert "answers no more" in rest and "submit again, finished work is kept" in " ".join(rest.split())
