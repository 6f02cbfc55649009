"""The faults. Each is a context: entering strikes, leaving undoes what a person would have fixed by then."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import psutil
from chaos_cluster import Cluster, title_of
from chaos_places import Disk, FlakyLink
from chaos_setting import Driver

FREEZE_S = 30.0
_NOBODY = "nobody was there to strike"


@dataclass
class Scene:
    """What a fault can reach."""

    driver: Driver
    cluster: Cluster
    disk: Disk
    """Holds the storage of all but the runs on S3."""
    scratch: Disk
    """Holds temporary files."""
    link: FlakyLink | None
    stage: str
    stage_is_over: Callable[[], bool]
    rng: np.random.Generator
    missed: bool = False
    """Whether the fault found nothing to strike."""

    def worker(self) -> psutil.Process | None:
        """Return a process that is at work, one that idles if the stage ends before there is any."""
        while not (found := self.cluster.workers()) and not self.stage_is_over() and not self.driver.is_over():
            time.sleep(0.02)
        found = found or self.cluster.workers(idle=True)
        return found[int(self.rng.integers(len(found)))] if found else None

    def miss(self) -> str:
        """Note that nothing was struck, and return that in words."""
        self.missed = True
        return _NOBODY

    def strike(self, process: psutil.Process | None, blow: Callable[[psutil.Process], None]) -> str:
        """Deal a process a blow and return its title; a process that is not there, or not any more, is a miss."""
        if process is None:
            return self.miss()
        title = title_of(process)
        try:
            blow(process)
        except psutil.NoSuchProcess:
            return self.miss()
        return title

    def raylet(self) -> psutil.Process | None:
        """Return the raylet of a node that is not the head."""
        found = self.cluster.raylets()
        return found[int(self.rng.integers(len(found)))] if found else None


Fault = Callable[[Scene], contextlib.AbstractContextManager[str]]


@contextlib.contextmanager
def kill_worker(scene: Scene) -> Iterator[str]:
    """Kill -9 a process that runs a task or an actor."""
    yield scene.strike(scene.worker(), psutil.Process.kill)


@contextlib.contextmanager
def kill_raylet(scene: Scene) -> Iterator[str]:
    """Kill -9 a node's raylet; some seconds later another node comes, as in a cluster of spot machines."""
    raylet = scene.raylet()
    if raylet is None:
        yield scene.miss()
        return
    raylet.kill()
    after_s = float(scene.rng.uniform(3, 8))
    newcomer = threading.Timer(after_s, scene.cluster.add_node)
    newcomer.start()
    try:
        yield f"raylet {raylet.pid}, another node after {after_s:.1f} s"
    finally:
        newcomer.join()


@contextlib.contextmanager
def kill_driver(scene: Scene) -> Iterator[str]:
    """Kill -9 the process that the person started."""
    over = scene.driver.is_over()
    scene.driver.kill()
    yield scene.miss() if over else "the driver"


@contextlib.contextmanager
def freeze(scene: Scene) -> Iterator[str]:
    """Stop a worker process or a raylet for 30 s, as a machine that swaps or a paused virtual one."""
    process = scene.raylet() if scene.rng.random() < 1 / 3 else scene.worker()
    title = scene.strike(process, psutil.Process.suspend)
    if process is None or scene.missed:
        yield title
        return
    thaw = threading.Timer(FREEZE_S, _resume, (process,))
    thaw.start()
    try:
        yield title.split(" ")[0].rpartition("/")[2] if "raylet" in title else title
    finally:
        thaw.cancel()
        _resume(process)


def _resume(process: psutil.Process) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        process.resume()


@contextlib.contextmanager
def disk_full(scene: Scene) -> Iterator[str]:
    """Fill the storage's disk, or in a training perhaps the one of temporary files, until the run has ended."""
    trains = scene.stage in ("proxy", "finetune", "sweep")
    disk = scene.scratch if trains and scene.rng.random() < 0.5 else scene.disk
    disk.fill()
    try:
        yield f"disk of {disk.folder.name} full"
    finally:
        disk.free()


@contextlib.contextmanager
def read_only(scene: Scene) -> Iterator[str]:
    """Make the storage's disk read-only until the run has ended."""
    scene.disk.remount("ro")
    try:
        yield "storage read-only"
    finally:
        scene.disk.remount("rw")


@contextlib.contextmanager
def drop_s3(scene: Scene) -> Iterator[str]:
    """Lose a share of the requests to the object store for some seconds."""
    assert scene.link is not None
    share, seconds = float(scene.rng.uniform(0.3, 1.0)), float(scene.rng.uniform(3, 15))
    resets, before = bool(scene.rng.random() < 0.5), scene.link.num_dropped
    struck, over = threading.Event(), threading.Event()
    link, seed = scene.link, int(scene.rng.integers(2**31))

    def drop() -> None:
        with link.dropping(share, resets=resets, seed=seed):
            struck.set()
            over.wait(seconds)

    thread = threading.Thread(target=drop)
    thread.start()
    struck.wait()
    try:
        yield f"{share:.0%} of the requests {'reset' if resets else 'unanswered'} for {seconds:.1f} s"
    finally:
        over.set()
        thread.join()
        scene.missed = scene.link.num_dropped == before


FAULTS: dict[str, Fault] = {
    "kill_worker": kill_worker, "kill_raylet": kill_raylet, "kill_driver": kill_driver, "freeze": freeze,
    "disk_full": disk_full, "read_only": read_only, "drop_s3": drop_s3,
}
