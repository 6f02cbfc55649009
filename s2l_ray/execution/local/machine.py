"""What a run without Ray has: this machine's cores, checked, and worker processes."""

import contextlib
import itertools
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from s2l_ray.errors import InputError
from s2l_ray.execution.local.process import WorkerProcess
from s2l_ray.execution.node import check_node, describe, look
from s2l_ray.execution.warm_launch import OURS, PRELOAD, can_fork, warm_server
from s2l_ray.execution.warm_server import READY
from s2l_ray.recipe.workers import Workers
from s2l_ray.storage.files import Storage

_NAME = "this machine"
logger = logging.getLogger(__name__)

# Without resources.use_gpu, a GPU that is there is left alone: what comes out must not depend on it.
_ALIKE = {"TOKENIZERS_PARALLELISM": "false", "DS_ACCELERATOR": "cpu", "CUDA_VISIBLE_DEVICES": ""}


class Machine:
    """This machine, for the length of a run."""

    def __init__(
        self, storage: Storage, paths: Sequence[str], server: Path | None, folder: Path, environment: dict[str, str]
    ) -> None:
        self._storage, self._paths, self.server, self.folder = storage, list(paths), server, folder
        self._environment = environment
        self._numbers = itertools.count()
        self._looked: dict[str, Any] = {}
        self._has_warned = False
        from joblib import cpu_count  # heavy for a run that finds all of its work done

        self.num_cores: int = cpu_count()  # what a container may use, not what is built in

    def check(self, kinds: Sequence[Workers], *, ask: bool = True) -> None:
        """Prove that the machine can do the work: it writes the storage and has memory and disk left.

        Raises
        ------
        InputError
            It cannot.
        """
        folder = f".preflight-{os.getpid()}"
        self._looked = look(self._storage, folder, _NAME, _NAME, self._paths)
        self._storage.delete_folder(folder)
        if self._looked["error"]:
            raise InputError(f"storage {self._storage.uri!r}: {self._looked['error']}")
        check_node(self._looked)

    def make_ready(self, label: str, workers: Workers) -> None:
        """Nothing is waited for: workers take turns where there are more of them than cores."""

    def describe(self) -> str:
        """Return what it has, in words."""
        cores = f"{self.num_cores} {'core' if self.num_cores == 1 else 'cores'}"
        return f"{_NAME}: {cores}, {describe(self._looked)}"

    @contextlib.contextmanager
    def processes(self, count: int, environment: Mapping[str, str]) -> Iterator[list[WorkerProcess]]:
        """Have worker processes with these variables while the block runs, which may put others into the list."""
        with contextlib.ExitStack() as stack:
            started: list[WorkerProcess] = []
            stack.callback(_end_all, started)
            for _ in range(count):
                started.append(self.start(environment))
            yield started

    def start(self, environment: Mapping[str, str]) -> WorkerProcess:
        """Start a worker process with these variables; whoever asks for it ends it."""
        log = self.folder / f"worker-{next(self._numbers)}.log"
        process = WorkerProcess(self.server, {**self._environment, **_ALIKE, **environment}, log)
        if process.is_cold_because and not self._has_warned:
            self._has_warned = True
            logger.warning("Workers start cold, in some seconds each: %s", process.is_cold_because)
        return process

    @property
    def is_warm(self) -> bool:
        """Tell whether a worker process would be there at once."""
        return self.server is not None and self.server.with_name(READY).exists()

    def ask(self, function: Callable[..., Any], **arguments: Any) -> Any:
        """Return what a function returns, in a process of its own with all cores.

        Raises
        ------
        InputError
            The function does.
        CallError
            It failed.
        """
        with self.processes(1, {"OMP_NUM_THREADS": str(self.num_cores)}) as (process,):
            process.call(function, **arguments)
            return process.receive()[1]


def _end_all(processes: list[WorkerProcess]) -> None:
    for process in processes:
        process.end()


_machine: list[Machine] = []


def this_machine() -> Machine | None:
    """Return the machine that the work runs on, where it is this one alone, without Ray."""
    return _machine[-1] if _machine else None


@contextlib.contextmanager
def machine_session(storage: Storage, paths: Sequence[str], server: Path | None = None) -> Iterator[Machine]:
    """Have the work of the block run on this machine alone.

    Parameters
    ----------
    server
        Address of a server of forked workers that is there; without one, one is started where workers can be forked.
    """
    with contextlib.ExitStack() as stack:
        environment = dict(os.environ)  # as it is now: libraries set variables when they are imported
        folder = Path(tempfile.mkdtemp(prefix="s2l-work-"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        if server is None and can_fork():
            server = stack.enter_context(warm_server((*PRELOAD, *OURS)))
        _machine.append(Machine(storage, paths, server, folder, environment))
        stack.callback(_machine.pop)
        yield _machine[-1]
