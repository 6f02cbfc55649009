"""Kill, freeze, fill and cut while the line runs: does every run end with the same selection or a clear error?

    python tests/chaos/chaos.py                      # 60 runs, as root, about a minute each on 2 cores
    python tests/chaos/chaos.py --runs 10 --seed 3   # others; the same seed makes the same attacks
    python tests/chaos/chaos.py --only 17            # run 17 of them again
    python tests/chaos/chaos.py --adapters           # proxy and target train adapters (LoRA)
    python tests/chaos/chaos.py --warm               # workers are forked from a server that loaded their libraries

A cluster of 3 nodes of real raylets on this machine, the command line as a process of its own, one shared storage. In
each run one stage is attacked with one fault at a random moment, all stages with all faults as evenly as the number
of runs allows. What comes before the stage is copied from the undisturbed run, what comes after it runs. A run must end

  identical                    with the ids of the undisturbed run in every selection, in order
  clear error, then identical  with a message, no traceback and an exit code of 1 or 2; the same command run again with
                               the fault gone ends identical, and no finished shard, stage or trial is made again
  killed, then identical       the same after a kill -9 of the command itself

within the time limit. Anything else is printed with its logs' folder, and the exit code is 1. A fault that found nobody
to strike (the stage was over) is drawn again, three times at most; then the run counts as "not struck". Prints a table,
then one JSON line with a row for every run. Needs root: disks are mounted, filled and made read-only.
"""

import argparse
import contextlib
import dataclasses
import importlib.metadata
import json
import os
import platform
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
# Before Ray is imported: explicit, so that a developer's own settings do not leak in.
os.environ.update(RAY_AUTH_MODE="disabled", RAY_BACKEND_LOG_LEVEL="fatal")

import numpy as np
from chaos_cluster import NUM_NODES, Cluster, environment_of
from chaos_faults import FAULTS
from chaos_places import Disk, ObjectStore
from chaos_run import ELSE, ERROR, IDENTICAL, KILLED, MISSED, Attack, Grounds, attack_once
from chaos_setting import STAGES, command_of, run_undisturbed

from s2l_ray.execution.warm_launch import warm_server
from s2l_ray.execution.warm_start import warm_workers
from s2l_ray.storage.artifacts import git_commit

_MOST_DRAWS = 3
_DISK_MIB, _SCRATCH_MIB = 256, 1536  # the preflight wants 1 GiB of scratch


def attacks_of(num_runs: int, seed: int) -> list[Attack]:
    """Return the attacks, spread evenly: with 8 stages and 7 faults, 56 in a row are all pairs, once each."""
    rng = np.random.default_rng(seed)
    stages, faults = rng.permutation(STAGES), rng.permutation(list(FAULTS))
    return [
        Attack(number, str(stages[number % len(stages)]), str(faults[number % len(faults)]), seed)
        for number in range(num_runs)
    ]


@contextlib.contextmanager
def prepared(attacks: list[Attack], folder: Path, limit_s: float, *, adapters: bool, warm: bool) -> Iterator[Grounds]:
    """Start the cluster, the disks and the S3 server, run what is undisturbed, and end all of it with the block."""
    with contextlib.ExitStack() as stack:
        disk, scratch = Disk(folder / "disk", _DISK_MIB), Disk(folder / "scratch", _SCRATCH_MIB)
        stack.callback(disk.close)
        stack.callback(scratch.close)
        environment = environment_of(scratch.folder)
        # What workers read when they import is the same for who forks them.
        os.environ.update({name: value for name, value in environment.items() if name != "TMPDIR"})
        if warm:
            stack.enter_context(warm_workers(server=stack.enter_context(warm_server())))
            environment = environment_of(scratch.folder)
        store = None
        if any(attack.fault == "drop_s3" for attack in attacks):
            store = ObjectStore(environment)
            stack.callback(store.close)
        cluster = stack.enter_context(Cluster(folder / "r", environment))
        calm = run_undisturbed(folder, {command_of(attack.stage) for attack in attacks}, cluster, environment,
                               adapters=adapters)
        yield Grounds(folder, environment, cluster, disk, scratch, store, calm, limit_s)


def table_of(rows: list[dict[str, Any]]) -> str:
    """Return how many runs of each fault ended how."""
    verdicts = (IDENTICAL, ERROR, KILLED, MISSED, ELSE)
    lines = [f"{'fault':12} {'runs':>5} " + " ".join(f"{verdict:>28}" for verdict in verdicts)]
    for fault in (*FAULTS, "all"):
        own = [row["verdict"] for row in rows if fault in (row["fault"], "all")]
        counts = Counter(own)
        lines.append(f"{fault:12} {len(own):>5} " + " ".join(f"{counts[verdict]:>28}" for verdict in verdicts))
    return "\n".join(lines)


def machine() -> dict[str, Any]:
    """Return what this ran on."""
    model = [line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
             if line.startswith("model name")]
    return {"cpu": model[0] if model else platform.processor(), "cores": len(os.sched_getaffinity(0))}


def say(row: dict[str, Any], folder: Path) -> None:
    """Print a run's row, in short."""
    ends = [f"exit {end['exit_code']} in {end['seconds']:.0f} s" for key in ("first", "again") if (end := row.get(key))]
    print(f"{row['run']:>3} {row['stage']:12} {row['fault']:12} {row['verdict']:28} {row['total_s']:6.1f} s  "
          f"{row.get('struck', '')}; {', then '.join(ends)}", flush=True)
    if row["verdict"] == ELSE:
        print(f"    {row.get('problem')}\n    logs: {folder / 'logs'}", flush=True)


def main() -> None:
    """Run the attacks and print what came of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=60, help="number of attacked runs (60)")
    parser.add_argument("--seed", type=int, default=0, help="decides which, when and whom (0)")
    parser.add_argument("--only", type=int, nargs="+", metavar="NUMBER", help="of these runs, do those alone")
    parser.add_argument("--timeout", type=float, default=240.0, help="seconds after which a run has hung (240)")
    parser.add_argument("--adapters", action="store_true", help="train adapters, not all weights")
    parser.add_argument("--warm", action="store_true", help="fork the nodes' workers, as one machine alone does: faster")
    asked = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what was started and mounted is cleared up
    if os.geteuid():
        sys.exit("chaos.py mounts, fills and remounts small disks: run it as root")
    attacks = attacks_of(asked.runs, asked.seed)
    if asked.only:
        attacks = [attack for attack in attacks_of(max(asked.only) + 1, asked.seed) if attack.number in asked.only]
    # Short: paths of sockets have a length limit.
    folder, started = Path(tempfile.mkdtemp(prefix="s2lc-", dir="/tmp")), time.monotonic()
    rows = []
    with prepared(attacks, folder, asked.timeout, adapters=asked.adapters, warm=asked.warm) as grounds:
        calm = grounds.calm
        print(f"undisturbed: {calm.command_s}; seconds of stages: "
              f"{ {stage: round(s, 1) for stage, s in calm.stage_s.items()} }", flush=True)
        with contextlib.suppress(SystemExit):  # ended early: what came of the runs until then is told
            for attack in attacks:
                for draw in range(_MOST_DRAWS):
                    row = attack_once(dataclasses.replace(attack, draw=draw), grounds)
                    if row["verdict"] != MISSED:
                        break
                rows.append(row)
                say(row, folder)
    print(table_of(rows))
    bad = [row for row in rows if row["verdict"] == ELSE]
    if not bad:
        shutil.rmtree(folder)
    print(json.dumps({
        "benchmark": "chaos", "commit": git_commit(), "seed": asked.seed, "adapters": asked.adapters, "warm": asked.warm,
        "machine": machine(), "nodes": NUM_NODES,
        "versions": {name: importlib.metadata.version(name) for name in ("ray", "torch", "deepspeed", "pyarrow")},
        "undisturbed_s": calm.command_s, "stage_s": calm.stage_s, "total_s": round(time.monotonic() - started, 1),
        "asked": len(attacks), "anything_else": len(bad), "runs": rows,
    }))
    sys.exit(1 if bad or len(rows) < len(attacks) else 0)


if __name__ == "__main__":
    main()
