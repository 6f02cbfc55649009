"""What a command says of an error: .venv/bin/pytest tests/cli/test_output.py"""

import pytest
import typer
from ray.exceptions import RayTaskError, UserCodeException

from s2l_ray.cli.output import exit_codes

WRAPPED = """ray::MapWorker(MapBatches(_UnitRunner)).submit() (pid=10785, ip=192.0.2.2)
  File "work.py", line 34, in __call__
    rows = [self._worker.run(row) for row in batch]
OSError: [Errno 30] Read-only file system: '/x'

The above exception was the direct cause of the following exception:

ray::MapWorker(MapBatches(_UnitRunner)).submit() (pid=10785, ip=192.0.2.2)
ray.exceptions.UserCodeException: UDF failed to process a data block.
Failed to apply UDF transform after 1/1 attempts (total backoff 0.0s).
To change retry attempts, backoff, or which errors are retried, configure `ray.data.DataContext.get_current()`."""


def test_a_commands_own_verdict_keeps_its_code_and_is_no_failure_of_its_own(capsys):
    with pytest.raises(typer.Exit) as ended, exit_codes(debug=False):
        raise typer.Exit(1)  # of a sweep whose trials failed, which has named them
    assert ended.value.exit_code == 1
    assert capsys.readouterr().err == ""


def test_a_workers_error_is_said_without_what_ray_data_puts_around_it(capsys):
    cause = UserCodeException(WRAPPED.rpartition("UserCodeException: ")[2])
    with pytest.raises(typer.Exit) as ended, exit_codes(debug=False):
        raise RayTaskError("f", WRAPPED, cause).as_instanceof_cause()
    assert ended.value.exit_code == 1
    assert capsys.readouterr().err.splitlines()[0] == "failed: OSError: [Errno 30] Read-only file system: '/x'"
