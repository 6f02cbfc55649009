"""Ten runs under attack, on three real raylets: .venv/bin/pytest tests/integration/test_chaos.py"""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.integration, pytest.mark.slow]
SCRIPT = Path(__file__).resolve().parents[2] / "jobs" / "benchmarks" / "chaos.py"
RUNS = (4, 6, 28, 34, 36, 38, 41, 44, 51, 54)  # every fault, in the stages up to the selection


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts, fills and remounts small disks: needs root")
@pytest.mark.timeout(1200)
def test_every_attacked_run_ends_identical_or_in_a_clear_error_and_then_identical():
    command = [sys.executable, str(SCRIPT), "--only", *map(str, RUNS), "--seed", "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            said, _ = process.communicate(timeout=1100)
        except BaseException:
            process.send_signal(signal.SIGTERM)  # it ends its cluster and takes its disks away
            raise
    assert process.returncode == 0, said[-5000:]
    found = json.loads(said.splitlines()[-1])
    assert found["anything_else"] == 0 and len(found["runs"]) == len(RUNS)
    assert len({row["fault"] for row in found["runs"]}) == 7 and len({row["stage"] for row in found["runs"]}) == 5
    assert all(row["verdict"] in said for row in found["runs"])
