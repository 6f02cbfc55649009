"""The GPU's checks, tiny: .venv/bin/pytest tests/gpu/test_gpu.py"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent


def last_line(script, *arguments):
    done = subprocess.run([sys.executable, FOLDER / script, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_the_engine_s_losses_are_a_cpu_s_and_everything_is_measured():
    found = last_line("check.py")
    assert found["wrong"] == found["left_out"] == []
    assert [row["what"].partition(",")[0] for row in found["rows"]] == ["score"] * 4 + ["train"] * 2
    assert all(row["first"] > 0 and row["second"] > 0 and row["share"] > 0 for row in found["rows"])
    (away,) = found["away"].values()
    assert away["engine fp32"] < 1e-5 and 0 < away["engine bf16"] < 0.05
    (apart,) = [far for way, far in away.items() if way.startswith("train")]
    assert apart < 1e-3, "the loss curve is transformers' own"


@pytest.mark.slow
@pytest.mark.integration
def test_a_line_through_ray_says_what_each_phase_took():
    found = last_line("line.py")
    assert {"prepare", "proxy", "trajectories", "select s2l", "finetune s2l", "evaluate random"} <= found["stages"].keys()
    phases = found["stages"]["proxy"]["phases_s"]
    assert 0 < phases["worker"] < phases["model"] < phases["first_step"] < phases["saved"]
    assert 0 < found["planned_s"] <= found["ray_s"] < found["total_s"]
