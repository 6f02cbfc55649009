"""Between the driver and a training's workers: how far it is, and the request to restart with more workers."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import ray
from ray.train import UserCallback

from s2l_ray.errors import InputError
from s2l_ray.execution.bundles import training_bundles
from s2l_ray.execution.capacity import Waiting, requested_capacity
from s2l_ray.execution.inputs import local_folders
from s2l_ray.execution.preflight import alive_nodes, check_nodes
from s2l_ray.modeling.schedule import TrainingRun
from s2l_ray.progress.bars import task
from s2l_ray.progress.notes import note
from s2l_ray.recipe.resources import ResourcesConfig

SETTLED_S = 60.0  # of a training, before it starts again with more workers, and what it must have left then
_TOGETHER_S = 5.0  # nodes that come together are taken together
_REPORT_WAITING_S = 20.0


@ray.remote
class TrainingProgress:
    """Where rank 0 says how far it is, for the driver to show, and reads whether a resize was requested.

    The step is -1 until it has started.
    """

    def __init__(self) -> None:
        self._step, self._facts = -1, {}  # type: ignore[var-annotated]
        self._min_left_s: float | None = None
        self._said: list[str] = []

    def report(self, step: int, facts: dict[str, float]) -> None:
        """Keep how far the training is."""
        self._step, self._facts = step, facts

    def read(self) -> tuple[int, dict[str, float]]:
        """Return how far it is."""
        return self._step, self._facts

    def say(self, text: str) -> None:
        """Keep what rank 0 has to say, for the driver to say it."""
        self._said.append(text)

    def take_said(self) -> list[str]:
        """Return what was said since the last call."""
        said, self._said = self._said, []
        return said

    def request_resize(self, min_left_s: float) -> None:
        """Ask the training to stop for one with more workers, where it has more than these seconds left."""
        self._min_left_s = min_left_s

    def resize_requested(self) -> float | None:
        """Return the seconds of `request_resize`; None where nobody asked."""
        return self._min_left_s


class ReportLostWorkers(UserCallback):
    """Reports from Train's controller that workers were lost and others are waited for."""

    def __init__(self, progress: Any) -> None:
        self._progress = progress

    def after_exception(self, run_context: Any, worker_exceptions: Any) -> None:
        """Set the step back to: none has started."""
        self._progress.report.remote(-1, {})


@contextlib.contextmanager
def running_beside(work: Callable[[threading.Event], None]) -> Iterator[None]:
    """Run the work in a thread while the block runs; the event it is given is set when the block ends."""
    ended = threading.Event()
    thread = threading.Thread(target=work, args=(ended,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def show(progress: Any, run: TrainingRun, resources: ResourcesConfig, ended: threading.Event) -> None:
    """Show the reported progress, and what is waited for where no worker has started."""
    waiting = Waiting(run.name, training_bundles(resources), first_report_s=_REPORT_WAITING_S)
    with task(run.name, run.plan.total_steps, "steps") as bar:
        while not ended.wait(0.5):
            for text in ray.get(progress.take_said.remote()):
                note(text)
            step, facts = ray.get(progress.read.remote())
            if step >= 0:
                bar.update(step, facts)
                waiting.restart()
            else:
                waiting.report()


def request_resize(
    progress: Any, run: TrainingRun, resources: ResourcesConfig, num_missing: int, settled_s: float,
    ended: threading.Event,
) -> None:
    """Ask the cluster for capacity for the missing workers, and request a resize of the training when it is there.

    Not at once: only when the training is under way and has been for `settled_s` seconds. The capacity is held until
    the training has ended, and nodes that came are checked before.
    """
    known = alive_nodes()
    while ray.get(progress.read.remote())[0] < 1:
        if ended.wait(1):
            return
    if ended.wait(settled_s):
        return
    bundle = training_bundles(resources)[0]
    with contextlib.ExitStack() as stack:
        groups = [stack.enter_context(requested_capacity([bundle])) for _ in range(num_missing)]
        while not any(group.wait(timeout_seconds=0.5) for group in groups):
            if ended.is_set():
                return
        if ended.wait(_TOGETHER_S):
            return
        try:
            check_nodes(run.storage, local_folders([run.config.model]), known)
        except InputError as error:
            note(f"{run.name}: a new node is not used: {error}")
            return
        while not ended.wait(2):  # again and again: the actor forgets when its process is lost
            progress.request_resize.remote(SETTLED_S)
