"""Signals with real processes on Ray: .venv/bin/pytest tests/integration/test_jobs.py"""

import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from s2l_ray.pipeline.plan import plan_run
from s2l_ray.pipeline.run import run_plan
from s2l_ray.recipe.loading import load_recipe

pytestmark = pytest.mark.integration
ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent


@pytest.mark.slow
def test_ctrl_c_stops_the_workers_and_the_next_run_goes_on(ray_cluster, on_this_machine, recipe_file, tmp_path):
    recipe = recipe_file(**{
        "proxy.max_steps": 240, "proxy.num_checkpoints": 3, "selection.controls": [], "resources.num_workers": 1,
        "resources.ray_address": "local"})  # test_alone.py has the same without Ray
    with on_this_machine():
        run_plan(plan_run(load_recipe(recipe), "prepare"), "test")
    # A test runner in the background hands down an ignored SIGINT; a terminal does not.
    code = ("import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
            "from s2l_ray.cli.main import main; main(sys.argv[1:])")
    command = [sys.executable, "-c", code, "proxy", str(recipe)]
    first = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    resume = tmp_path / "out" / "proxy"
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline and not list(resume.glob("*/resume/checkpoint*")):
        assert first.poll() is None, first.stderr.read()[-2000:]
        time.sleep(0.05)
    children = psutil.Process(first.pid).children(recursive=True)
    first.send_signal(signal.SIGINT)
    _, err = first.communicate(timeout=300)
    assert first.returncode == 130, err[-2000:]
    assert "run the same command again to go on" in " ".join(err.split())
    _, alive = psutil.wait_procs(children, timeout=60)
    assert not alive, f"left behind: {alive}"
    assert list(resume.glob("*/resume/checkpoint*")), "the resume checkpoint is kept"
    again = {step.step.label: step.is_reused for step in run_plan(plan_run(load_recipe(recipe), "proxy"), "again")}
    assert again == {"prepare": True, "proxy": False}
    assert next(resume.glob("*/manifest.json")), "it is finished"
