"""Time and memory of the selectors on embeddings: 384 clustered dimensions, a budget of 1 %, one thread, no Ray.

    OMP_NUM_THREADS=1 python jobs/benchmarks/selection_embeddings.py [--rows 10000 --rows 100000] [--selectors ltd]

Every case runs in a process of its own. CPU seconds hold where others use the
machine too. Peak is what the selector adds to the process that holds the embeddings.
Prints a table, then one JSON line.
"""

import argparse
import json
import multiprocessing
import resource
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
import pyarrow as pa

from s2l_ray.selection_config import SelectionConfig
from s2l_ray.selectors import find_selector
from s2l_ray.selectors.pool import Pool


def embeddings(num_rows: int, width: int = 384, topics: int = 200) -> np.ndarray:
    """Return unit-length rows around topics whose sizes fall as 1 / rank, as data mixtures' do."""
    rng = np.random.default_rng(0)
    shares = 1 / np.arange(1, topics + 1)
    topic_N = rng.choice(topics, num_rows, p=shares / shares.sum())
    rows_ND = rng.standard_normal((topics, width), dtype=np.float32)[topic_N]
    rows_ND += rng.standard_normal((num_rows, width), dtype=np.float32)
    return rows_ND / np.linalg.norm(rows_ND, axis=1, keepdims=True)


def measure(selector: str, rows_file: str) -> dict[str, str | int | float]:
    """Return seconds and peak MB of one selection."""
    rows_ND = np.load(rows_file)
    num_rows = len(rows_ND)
    pool = Pool(pa.array([f"e{i:08d}" for i in range(num_rows)]), embeddings_ND=rows_ND)
    before = _resident_mb()
    start, start_cpu = time.perf_counter(), time.process_time()
    choice = find_selector(selector).select(
        pool, num_rows // 100, SelectionConfig(selector=selector), np.random.default_rng(0)
    )
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - start_cpu
    assert len(set(choice.positions_B.tolist())) == num_rows // 100
    return {
        "selector": selector, "rows": num_rows, "seconds": round(seconds, 1), "cpu_seconds": round(cpu_seconds, 1),
        "peak_mb": round(_peak_mb() - before),
    }


def _resident_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Run every case and print what it took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, action="append", help="pool size, repeatable (10000, 30000, 100000)")
    parser.add_argument("--selectors", nargs="+", default=["k_center", "ltd", "density", "facility_location"])
    asked = parser.parse_args()
    found = []
    print(f"{'selector':20}{'rows':>10}{'seconds':>10}{'CPU s':>10}{'peak MB':>10}")
    with tempfile.TemporaryDirectory() as folder:
        for num_rows in asked.rows or [10_000, 30_000, 100_000]:
            rows_file = f"{folder}/{num_rows}.npy"
            np.save(rows_file, embeddings(num_rows))
            for name in asked.selectors:
                with multiprocessing.get_context("spawn").Pool(1) as fresh:
                    one = fresh.apply(measure, (name, rows_file))
                times = f"{one['seconds']:>10}{one['cpu_seconds']:>10}"
                print(f"{name:20}{num_rows:>10}{times}{one['peak_mb']:>10}", flush=True)
                found.append(one)
    print(json.dumps({"benchmark": "selection_embeddings", "width": 384, "budget": 0.01, "results": found}))


if __name__ == "__main__":
    main()
