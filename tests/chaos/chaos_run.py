"""One attacked run: strike, wait for its end, run again where it failed, and say what came of it."""

import contextlib
import re
import shutil
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from chaos_cluster import Cluster, title_of, wait_for
from chaos_faults import FAULTS, Scene
from chaos_places import Disk, ObjectStore, Place
from chaos_setting import STAGES, Driver, Undisturbed, command_of, held_out_losses, selected_ids, stages_before
from chaos_work import Watch

IDENTICAL, ERROR, KILLED, ELSE = "identical", "clear error, then identical", "killed, then identical", "anything else"
MISSED = "not struck"
_CAUSES = {"disk_full": r"no space left|of disk left", "read_only": r"read-only"}
"""What a clear error of a fault must name; the others' errors are judged by their form alone."""
_ROUNDING = 1e-3  # nats: a training that was resumed is the same but for rounding


@dataclass
class Grounds:
    """What all runs share: the cluster, the disks, the S3 server, and what should come out."""

    folder: Path
    environment: dict[str, str]
    cluster: Cluster
    disk: Disk
    scratch: Disk
    store: ObjectStore | None
    calm: Undisturbed
    limit_s: float


@dataclass
class Attack:
    """One stage attacked with one fault."""

    number: int
    stage: str
    fault: str
    seed: int
    draw: int = 0

    @property
    def name(self) -> str:
        """Return a name for folders."""
        return f"{self.number:03d}-{self.stage}-{self.fault}-{self.draw}"


def attack_once(attack: Attack, grounds: Grounds) -> dict[str, Any]:
    """Run one attack and return its row; a run that ended as none should leaves its logs."""
    started, logs = time.monotonic(), grounds.folder / "logs" / attack.name
    place = _place_of(attack, grounds)
    place.fill(grounds.calm.storage, stages_before(attack.stage))
    row: dict[str, Any] = {"run": attack.number, "stage": attack.stage, "fault": attack.fault}
    try:
        verdict, facts = _attack(attack, grounds, place, logs)
    except Exception as error:  # of the test bench: a run must not end the others
        verdict, facts = ELSE, {"problem": f"the bench failed: {type(error).__name__}: {error}"}
    row |= {"verdict": verdict, **facts}
    if verdict == ELSE:
        logs.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(OSError, shutil.Error):
            grounds.cluster.keep_logs(logs / "ray")
    left = _clear_up(grounds, place)
    if verdict == ELSE or left:
        grounds.cluster.close()
        grounds.cluster.start()
    if verdict != ELSE:
        shutil.rmtree(logs)
    return {**row, "left_behind": left, "total_s": round(time.monotonic() - started, 1)}


def _place_of(attack: Attack, grounds: Grounds) -> Place:
    if attack.fault != "drop_s3":
        folder = str(grounds.disk.folder / attack.name)
        return Place(folder, folder)
    assert grounds.store is not None
    return Place(*(grounds.store.uri(attack.name, direct=direct) for direct in (False, True)))


def _clear_up(grounds: Grounds, place: Place) -> list[str]:
    """Bring lost nodes back and delete the storage; return which workers are still at work half a minute after."""
    wait_for(lambda: not grounds.cluster.workers(), 30, 0.5)
    left = [title_of(process) for process in grounds.cluster.workers()]
    try:
        grounds.cluster.restore()
    except TimeoutError as error:
        left.append(str(error))
    place.storage.delete_folder("")
    for path in grounds.scratch.folder.iterdir():
        shutil.rmtree(path, ignore_errors=True)
    return left


def _attack(attack: Attack, grounds: Grounds, place: Place, logs: Path) -> tuple[str, dict[str, Any]]:
    """Return the verdict, and what happened."""
    command = command_of(attack.stage)
    rng = np.random.default_rng([attack.seed, attack.number, attack.draw])
    recipe = grounds.calm.recipe(command, place.uri)
    first = Driver(command, recipe, grounds.cluster, grounds.environment, logs / "first")
    if not first.wait_until_begun(place, grounds.limit_s):
        first.kill()
        return ELSE, {"problem": "the run did not begin"}
    if first.is_over():
        return ELSE, {"problem": f"the run ended before anything struck: {_last_lines(first)}"}
    share = float(rng.uniform(0.02, 0.98))
    wait_for(lambda: _has_finished(place, attack.stage), share * grounds.calm.stage_s[attack.stage], 0.05)
    scene = Scene(first, grounds.cluster, grounds.disk, grounds.scratch,
                  grounds.store.link if grounds.store else None,
                  attack.stage, lambda: _has_finished(place, attack.stage), rng)
    with FAULTS[attack.fault](scene) as struck:
        facts: dict[str, Any] = {"struck": struck, "at_share": round(share, 2),
                                 "finished_then": [stage for stage in STAGES if _has_finished(place, stage)]}
        ended = first.wait(grounds.limit_s)
        problem = _problem_of_end(first, attack, ended=ended)
        if not ended:
            (logs / "processes.txt").write_text(grounds.cluster.processes())
            first.kill()
    facts |= {"first": _account(first)}
    if problem:
        return ELSE, {**facts, "problem": problem}
    if first.process.returncode == 0:
        problem = _problem_of_choice(grounds, place, command)
        fine = MISSED if scene.missed else IDENTICAL
        return (ELSE, {**facts, "problem": problem}) if problem else (fine, facts)
    problem, again = _run_again(attack, grounds, place, recipe, logs)
    facts |= {"again": again}
    if problem:
        return ELSE, {**facts, "problem": f"on the rerun: {problem}"}
    return KILLED if attack.fault == "kill_driver" else ERROR, facts


def _has_finished(place: Place, stage: str) -> bool:
    """Tell whether every artifact of a stage that is there is finished."""
    with contextlib.suppress(OSError):
        names = place.storage.list_names(stage)
        return bool(names) and all(place.storage.exists(f"{stage}/{name}/manifest.json") for name in names)
    return False


def _run_again(
    attack: Attack, grounds: Grounds, place: Place, recipe: dict[str, Any], logs: Path
) -> tuple[str | None, dict[str, Any]]:
    """Run the same command with nothing in its way; return what was wrong, and an account of it."""
    restoring = threading.Thread(target=grounds.cluster.restore)
    if attack.fault == "kill_driver":  # whoever starts it again at once finds the old workers still there
        restoring.start()
    else:
        grounds.cluster.restore()
    watch = Watch(place)
    again = Driver(command_of(attack.stage), recipe, grounds.cluster, grounds.environment, logs / "again")
    deadline = time.monotonic() + grounds.limit_s
    while not again.is_over() and time.monotonic() < deadline:
        watch.look()
        time.sleep(1.0)
    ended = again.wait(0.0)
    if not ended:
        (logs / "processes-again.txt").write_text(grounds.cluster.processes())
        again.kill()
    with contextlib.suppress(RuntimeError):  # not started
        restoring.join()
    account = _account(again) | {"kept_files": len(watch.kept), "reused": again.said[1].count(": reused ")}
    if not ended:
        return f"no end after {grounds.limit_s:.0f} s", account
    if again.process.returncode:
        return f"exit code {again.process.returncode}: {_last_lines(again)}", account
    return watch.problem() or _problem_of_choice(grounds, place, command_of(attack.stage)), account


def _problem_of_end(driver: Driver, attack: Attack, *, ended: bool) -> str | None:
    """Return what is wrong with how a run ended, given what struck it."""
    if not ended:
        return f"no end after {driver.seconds:.0f} s: {_last_lines(driver)}"
    out, err = driver.said
    if "Traceback (most recent call last)" in out + err:
        return f"a traceback: {_last_lines(driver)}"
    code = driver.process.returncode
    if code == 0 or (code == -9 and attack.fault == "kill_driver"):
        return None
    if code not in (1, 2) or not re.search(r"^(error|failed): \S", err, re.MULTILINE):
        return f"exit code {code} without a clear error: {_last_lines(driver)}"
    cause = _CAUSES.get(attack.fault)
    if cause and not re.search(cause, " ".join((out + err).split()), re.IGNORECASE):
        return f"the error does not name the cause ({cause}): {_last_lines(driver)}"
    return None


def _problem_of_choice(grounds: Grounds, place: Place, command: str) -> str | None:
    """Return how the chosen ids differ from the undisturbed run's."""
    expected, found = grounds.calm.selected[command], selected_ids(place)
    absent = sorted(set(expected) - set(found))
    if absent:
        return f"exit code 0 without the selections {absent}"
    other = sorted(name for name, ids in expected.items() if found[name] != ids)
    if other:
        return f"other ids were selected in {other}"
    losses, expected_losses = held_out_losses(place), grounds.calm.losses[command]
    off = sorted(name for name, loss in expected_losses.items() if abs(losses.get(name, np.inf) - loss) > _ROUNDING)
    return f"other held-out losses of {off}: {losses} instead of {expected_losses}" if off else None


def _account(driver: Driver) -> dict[str, Any]:
    return {"exit_code": driver.process.returncode, "seconds": driver.seconds, "said": _last_lines(driver)}


def _last_lines(driver: Driver) -> str:
    """Return the message that a run ended with."""
    lines = driver.said[1].splitlines()
    clear = [line for line in lines if line.startswith(("error: ", "failed: "))]
    return (clear or lines[-2:] or [""])[-1][:600]
