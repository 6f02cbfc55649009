"""Between the driver and a training's workers: how far it is, and whether it should give way to a larger one."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import ray
from ray.train import UserCallback

from s2l_ray.config import ResourcesConfig
from s2l_ray.errors import InputError
from s2l_ray.execution.preflight import alive_nodes, check_nodes, local_folders
from s2l_ray.execution.room import Waiting, asking_for, training_bundles
from s2l_ray.modeling.schedule import TrainingRun
from s2l_ray.progress import note, task

SETTLED_S = 60.0  # of a training, before it starts again with more workers, and what it must have left then
_TOGETHER_S = 5.0  # nodes that come together are taken together
_SAY_WAITING_S = 20.0


@ray.remote
class Board:
    """Where rank 0 leaves how far it is, for the driver to show, and reads whether it should give way.

    The step is -1 until it has started.
    """

    def __init__(self) -> None:
        self._step, self._facts = -1, {}  # type: ignore[var-annotated]
        self._worth_s: float | None = None

    def tell(self, step: int, facts: dict[str, float]) -> None:
        """Note how far the training is."""
        self._step, self._facts = step, facts

    def read(self) -> tuple[int, dict[str, float]]:
        """Return how far it is."""
        return self._step, self._facts

    def give_way(self, worth_s: float) -> None:
        """Ask the training to give way to a larger one, where it has more than these seconds left."""
        self._worth_s = worth_s

    def gives_way(self) -> float | None:
        """Return what `give_way` was told; None where nobody asks."""
        return self._worth_s


class TellLoss(UserCallback):
    """Tells the board, from Train's controller, that workers were lost and others are waited for."""

    def __init__(self, board: Any) -> None:
        self._board = board

    def after_exception(self, run_context: Any, worker_exceptions: Any) -> None:
        """Have nobody at a step."""
        self._board.tell.remote(-1, {})


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


def show(board: Any, run: TrainingRun, resources: ResourcesConfig, ended: threading.Event) -> None:
    """Show what stands on the board, and what is waited for where no worker has started."""
    waiting = Waiting(run.name, training_bundles(resources), first_say_s=_SAY_WAITING_S)
    with task(run.name, run.plan.total_steps, "steps") as progress:
        while not ended.wait(0.5):
            step, facts = ray.get(board.read.remote())
            if step >= 0:
                progress.update(step, facts)
                waiting.begin()
            else:
                waiting.go_on()


def give_way(
    board: Any, run: TrainingRun, resources: ResourcesConfig, num_missing: int, settled_s: float, ended: threading.Event
) -> None:
    """Ask the cluster for room for the missing workers, and have the training give way to a larger one when it comes.

    Not at once: only when the training is under way and has been for `settled_s` seconds. The room is held until the
    training has ended, and nodes that came are checked before.
    """
    known = alive_nodes()
    while ray.get(board.read.remote())[0] < 1:
        if ended.wait(1):
            return
    if ended.wait(settled_s):
        return
    bundle = training_bundles(resources)[0]
    with contextlib.ExitStack() as stack:
        groups = [stack.enter_context(asking_for([bundle])) for _ in range(num_missing)]
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
        while not ended.wait(2):  # again and again: the board forgets when its process is lost
            board.give_way.remote(SETTLED_S)
