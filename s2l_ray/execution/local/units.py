"""Units of work on a pool of this machine's processes."""

from collections.abc import Callable, Iterator, Mapping
from multiprocessing.connection import Connection, wait
from typing import Any

from s2l_ray.errors import InputError
from s2l_ray.execution.attempts import STUCK, STUCK_S, Worker, attempt
from s2l_ray.execution.local.machine import Machine
from s2l_ray.execution.local.process import CallError, WorkerProcess
from s2l_ray.recipe.resources import ResourcesConfig

_FEW, _FEW_COLD = 2, 16
_ONE_THREAD = {"OMP_NUM_THREADS": "1"}
_made: list[Worker] = []
"""In a worker process: what does its units, made for the first one."""


def rows_here(
    machine: Machine, worker: Callable[..., Worker], arguments: dict[str, Any], units: Mapping[int, Any],
    resources: ResourcesConfig, *, few_inside: bool,
) -> Iterator[Mapping[str, Any]]:
    """Do each unit once and yield its row as it comes; {"error", "trace"} where it failed or its process died.

    Parameters
    ----------
    few_inside
        Whether a few units are done in this process: more than that where others would take seconds to start.

    Raises
    ------
    InputError
        A unit found something that the user has to fix, or none was finished for an hour.
    """
    if few_inside and len(units) <= (_FEW if machine.is_warm else _FEW_COLD):
        inside = worker(**arguments)
        for number, unit in units.items():
            yield attempt(number, inside, unit)
        return
    count = min(len(units), resources.num_scoring_workers or machine.num_cores)
    with machine.processes(count, _ONE_THREAD) as processes:
        waiting, busy = list(units.items())[::-1], dict[Connection, tuple[WorkerProcess, int]]()
        for process in processes:
            _begin(process, waiting, busy, worker, arguments)
        while busy:
            ready = wait(list(busy), STUCK_S)
            if not ready:
                raise InputError(STUCK)
            for connection in ready:
                assert isinstance(connection, Connection)
                process, number = busy.pop(connection)
                try:
                    yield process.receive()[1]
                except CallError as error:
                    yield {"unit": number, "error": str(error), "trace": error.trace}
                    if error.has_died:
                        process.end()
                        processes[processes.index(process)] = process = machine.start(_ONE_THREAD)
                _begin(process, waiting, busy, worker, arguments)


def _begin(
    process: WorkerProcess, waiting: list[tuple[int, Any]], busy: dict[Connection, tuple[WorkerProcess, int]],
    worker: Callable[..., Worker], arguments: dict[str, Any],
) -> None:
    """Give a process the next unit, where one waits."""
    if waiting:
        number, unit = waiting.pop()
        process.call(_do, worker=worker, arguments=arguments, number=number, unit=unit)
        busy[process.connection] = (process, number)


def _do(worker: Callable[..., Worker], arguments: dict[str, Any], number: int, unit: Any) -> Mapping[str, Any]:
    """Do a unit in a worker process."""
    if not _made:
        _made.append(worker(**arguments))
    return attempt(number, _made[0], unit)
