"""Make the table of evidence: does selecting help, on real rows, and when not?

    python tests/evidence/run.py --data ../shared/data --folder evidence --minutes 20        # again until nothing is left
    python tests/evidence/run.py --data ... --folder evidence --size gpu --model smollm2 --minutes 7

Cells are made once and kept below the folder, by a name that the whole setting decides: a run that is stopped goes on
where it was. Sizes: cpu (2 cores, about three hours), pretrained (2 cores, a model of --model with adapters), gpu (one card,
no Ray, a model of --model), tiny (for tests). After each run the table of what there is stands in the folder: evidence.json, .md, .html and .svg; cells.jsonl
holds what is known of each cell, and cells.parquet the targets with their losses by row: another machine goes on from
there with --kept.
"""

import argparse
import json
import multiprocessing
import os
import signal
import sys
import time
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from pathlib import Path

import torch
from rich.console import Console

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from s2l_ray.storage.artifacts import folder_digest
from tests.evidence.cells import Cell, Place, cells_of
from tests.evidence.kept import take_kept
from tests.evidence.making import make
from tests.evidence.setting import SIZES
from tests.evidence.write import write_all


def run(place: Place, minutes: float, workers: int, console: Console) -> list[Cell]:
    """Make cells until none is left or the time is over; return those that are left."""
    left = [cell for cell in cells_of(place.setting) if not place.is_done(cell)]
    deadline, started, made = time.monotonic() + 60 * minutes, time.monotonic(), 0
    console.print(f"{place.folder}: {len(left)} cells to be made, {minutes:g} minutes")
    running: dict[Future[str], Cell] = {}
    # Each process computes with one thread: two small models side by side do more than one on two threads.
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), torch.set_num_threads,
                             (max(1, (os.cpu_count() or 1) // workers),)) as pool:
        while running or (left and time.monotonic() < deadline):
            while time.monotonic() < deadline and len(running) < workers:
                ready = next((cell for cell in left if all(place.is_done(need) for need in cell.needs)), None)
                if ready is None:
                    break
                left.remove(ready)
                running[pool.submit(make, place, ready)] = ready
            assert running, f"nothing can be made of {left[0].name}, which needs what comes later"
            for ended in wait(running, return_when=FIRST_COMPLETED).done:
                del running[ended]
                made += 1
                eta = (time.monotonic() - started) / made * (len(left) + len(running)) / 60
                console.print(f"{ended.result()} ({len(left) + len(running)} left, about {eta:.0f} minutes)", highlight=False)
    return left


def main() -> None:
    """Make cells, then the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the Parquet files")
    parser.add_argument("--folder", type=Path, required=True, help="where cells are kept")
    parser.add_argument("--size", choices=SIZES, default="cpu")
    parser.add_argument("--model", type=Path, help="folder of a pretrained model, of the sizes gpu and pretrained")
    parser.add_argument("--kept", type=Path, help="cells.parquet of another machine: its targets are not made again")
    parser.add_argument("--minutes", type=float, default=20, help="no cell is begun after these (20)")
    parser.add_argument("--workers", type=int, help="cells at a time (as many as cores, one on a GPU)")
    asked = parser.parse_args()
    setting = SIZES[asked.size]
    if (setting.model is None) != (asked.model is None):
        parser.error(f"--size {asked.size} {'takes no' if setting.model is None else 'needs a'} --model")
    folder = asked.folder / setting.name()
    folder.mkdir(parents=True, exist_ok=True)
    told = setting.told() | {"weights": asked.model and folder_digest(asked.model, (".safetensors", "config.json"))}
    file = folder / "setting.json"
    if file.exists() and json.loads(file.read_text()) != json.loads(json.dumps(told)):
        parser.error(f"{folder} holds cells of another --model: give another --folder")
    file.write_text(json.dumps(told, indent=1) + "\n")
    place = Place(folder, asked.data, setting, asked.model)
    if asked.kept is not None:
        print(f"{take_kept(place, asked.kept)} targets of {asked.kept} are taken over")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # ends its processes with it, after their cells
    workers = asked.workers or (1 if torch.cuda.is_available() else os.cpu_count() or 1)
    left = run(place, asked.minutes, workers, Console(width=160))
    written = write_all(place)
    print(f"{len(left)} cells are left: run the same command again" if left else "all cells are made")
    print(json.dumps({"folder": str(folder), "left": len(left), **written}))


if __name__ == "__main__":
    main()
