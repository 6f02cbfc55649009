"""Jobs, signals and object storage with real processes: .venv/bin/pytest tests/integration/test_jobs.py"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

pytestmark = pytest.mark.integration
ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent


@pytest.mark.timeout(420)
def test_a_submitted_job_runs_the_line_to_its_results(loopback_cluster, recipe_file, tmp_path):
    recipe = recipe_file(**{"selection.controls": [], "resources.num_workers": 1, "evaluation.tasks": []})
    done = subprocess.run(
        [BIN / "ray", "job", "submit", "--address", loopback_cluster, "--working-dir", str(ROOT), "--",
         sys.executable, "jobs/pipeline.py", str(recipe), "selection.budget=20"],
        capture_output=True, text=True, env={**os.environ, "RAY_AUTH_MODE": "disabled"}, check=False, timeout=400,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    objects = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"arms"')]
    assert objects and objects[-1]["arms"]["s2l"]["rows"] == 20
    assert Path(objects[-1]["arms"]["s2l"]["model"], "model.safetensors").is_file()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_ctrl_c_stops_the_workers_and_the_next_run_goes_on(recipe_file, tmp_path):
    recipe = recipe_file(**{
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
