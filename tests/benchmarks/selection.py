"""Time and memory of selecting: from a Parquet file of trajectories, from embeddings, and k-means beside faiss.

    python tests/benchmarks/selection.py                     # 10 million trajectories; 10^4, 10^5, 10^6 embeddings
    python tests/benchmarks/selection.py --stream 100000000  # S2L on a table larger than memory, nothing else
    python tests/benchmarks/selection.py --rows 1000000 --only s2l density --embeddings 10000

Every case runs in a fresh process. A case from a file does what `s2l select --trajectories FILE` does after its
imports, writing included; its peak is the whole process's. A case on embeddings measures the selector, and its peak is
what it adds to the process that holds them. CPU seconds hold where others use the machine too. The budget is 1 %.
`--only objective`: what facility location's value is worth where neighbours are searched within cells, on 10^4 rows.
Prints a table, then one JSON line with commit, machine and versions.
"""

import argparse
import importlib.metadata
import importlib.util
import json
import multiprocessing
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from s2l_ray.numerics.facility import lazy_greedy
from s2l_ray.numerics.kmeans import cluster_rows
from s2l_ray.numerics.neighbours import nearest_neighbours
from s2l_ray.recipe.registry import SELECTORS
from s2l_ray.recipe.selection import SelectionConfig
from s2l_ray.selectors.pool import Pool
from s2l_ray.stages.select import select_from_file
from s2l_ray.tables.schemas import losses_matrix, trajectories_schema

ROOT = Path(__file__).resolve().parents[2]
POINTS, CLUSTERS, WIDTH, BUDGET = 12, 100, 384, 0.01
GROUP_ROWS = 2**20
LIMITS_S = {  # for 10 million trajectories on 2 cores
    "s2l": 10.0, "high_loss": 5.0, "low_loss": 5.0, "least_confidence": 5.0, "middle_perplexity": 5.0,
    "high_learnability": 5.0, "confidence_curriculum": 5.0,
}
LIMIT_MB = 3072
LARGEST = {"ltd": 10**6, "density": 10**6, "k_center": 10**6, "facility_location": 10**6}
EXACT_ROWS, CANDIDATES = 1000, 512
"""Of a pool of 10^4 for `objective`: as 10^6 are searched, where 8192 candidates are fewer than a hundredth."""

Case = dict[str, Any]


def write_trajectories(file: str, num_rows: int) -> None:
    """Write losses that fall from point to point in 40 ways of unequal frequency, with ids in shuffled order."""
    rng = np.random.default_rng(0)
    numbers_N, kinds = rng.permutation(num_rows).astype(np.int32), 40
    shares = 1 / np.arange(1, kinds + 1)
    floors, drops, rates = (rng.uniform(low, high, (kinds, 1)) for low, high in ((0.1, 2.0), (1.0, 4.0), (0.05, 0.8)))
    curves_KC = (floors + drops * np.exp(-rates * np.arange(POINTS))).astype(np.float32)
    with pq.ParquetWriter(file, trajectories_schema(POINTS), compression="zstd") as writer:
        for start in range(0, num_rows, GROUP_ROWS):
            own = numbers_N[start : start + GROUP_ROWS]
            kind_B = rng.choice(kinds, len(own), p=shares / shares.sum())
            losses_BC = curves_KC[kind_B] * np.exp(0.25 * rng.standard_normal((len(own), 1), dtype=np.float32))
            losses_BC += 0.15 * np.abs(rng.standard_normal(losses_BC.shape, dtype=np.float32))
            ids = pc.utf8_lpad(pa.array(own).cast(pa.string()), 8, "0")
            columns = [
                pc.binary_join_element_wise("row", ids, "-"),
                pa.array(np.array([f"source-{k}" for k in range(8)])[kind_B % 8]),
                pa.array(rng.integers(1, 2000, len(own)), pa.int32()),
                pa.FixedSizeListArray.from_arrays(pa.array(losses_BC.reshape(-1)), POINTS),
            ]
            writer.write_table(pa.table(columns, schema=trajectories_schema(POINTS)))


def write_embeddings(file: str, num_rows: int, topics: int = 200) -> None:
    """Write unit-length rows around topics whose sizes fall as 1 / rank, as data mixtures' do."""
    rng = np.random.default_rng(0)
    shares = 1 / np.arange(1, topics + 1)
    topic_N = rng.choice(topics, num_rows, p=shares / shares.sum())
    rows_ND = rng.standard_normal((topics, WIDTH), dtype=np.float32)[topic_N]
    rows_ND += rng.standard_normal((num_rows, WIDTH), dtype=np.float32)
    np.save(file, rows_ND / np.linalg.norm(rows_ND, axis=1, keepdims=True))


def from_file(selector: str, file: str) -> Case:
    """Select from a trajectories file, end to end."""
    config = SelectionConfig(selector=selector, budget=BUDGET, num_clusters=CLUSTERS)
    with tempfile.TemporaryDirectory() as output:
        case = _measured(lambda: select_from_file(Path(file), config, 0, Path(output)))
    return {**case, "peak_mb": round(_memory_mb("VmHWM"))}


def from_embeddings(selector: str, file: str) -> Case:
    """Select from embeddings in memory."""
    rows_ND = np.load(file)
    num_rows = len(rows_ND)
    pool = Pool(pa.array(np.arange(num_rows)).cast(pa.string()), embeddings_ND=rows_ND)
    before, config = _memory_mb("VmRSS"), SelectionConfig(selector=selector)
    found = {}

    def choose() -> None:
        found["choice"] = SELECTORS.find(selector).select(pool, int(BUDGET * num_rows), config, np.random.default_rng(0))

    case = _measured(choose)
    numbers = {name: value for name, value in found["choice"].facts.items() if isinstance(value, float)}
    return {**case, **numbers, "peak_mb": round(max(0, _memory_mb("VmHWM") - before))}


def objective(_: str, file: str) -> Case:
    """Compare facility location by all neighbours, by those within cells, and a random choice: the same f of each."""
    rows_ND = np.load(file)
    num_rows, rng = len(rows_ND), np.random.default_rng(0)
    budget, width = int(BUDGET * num_rows), SelectionConfig().num_neighbours
    exact = nearest_neighbours(rows_ND, width, rng, exact_rows=num_rows)
    cells = nearest_neighbours(rows_ND, width, rng, exact_rows=EXACT_ROWS, cell_candidates=CANDIDATES)

    def value(positions: np.ndarray) -> float:
        return round(float(((1 + (rows_ND @ rows_ND[positions].T).max(axis=1)) / 2).mean()), 4)

    found: Case = {}
    case = _measured(lambda: found.update(chosen=lazy_greedy(cells, budget).positions_B))
    return {**case, "recall": round(cells.recall, 3), "of_all": value(lazy_greedy(exact, budget).positions_B),
            "of_cells": value(found["chosen"]), "of_random": value(rng.choice(num_rows, budget, replace=False))}


def inertia(_: str, file: str) -> Case:
    """Cluster the same rows with faiss, as S2L's authors do, and as we do: sums of squared distances, and seconds."""
    rows_NC = losses_matrix(pq.ParquetFile(file).read(columns=["losses"]))
    defaults, found = SelectionConfig(), {}

    def ours() -> None:
        clusters = cluster_rows(rows_NC, CLUSTERS, np.random.default_rng(0), fit_rows=defaults.kmeans_fit_rows,
                                iterations=defaults.kmeans_iterations)
        found["inertia"] = float((clusters.distances_N.astype(np.float64) ** 2).sum())

    def theirs() -> None:
        import faiss

        model = faiss.Kmeans(d=POINTS, k=CLUSTERS, niter=20)
        model.train(rows_NC)
        squared_N1, _ = model.index.search(rows_NC, 1)
        found["inertia_faiss"] = float(np.maximum(squared_N1, 0).sum(dtype=np.float64))

    case = _measured(ours)
    if importlib.util.find_spec("faiss") is None:
        return {**case, **found, "note": "faiss is not installed"}
    return {**case, "seconds_faiss": _measured(theirs)["seconds"], **found,
            "pass": found["inertia"] <= found["inertia_faiss"]}


def _measured(work: Callable[[], Any]) -> Case:
    start, start_cpu = time.perf_counter(), time.process_time()
    work()
    return {"seconds": round(time.perf_counter() - start, 2), "cpu_seconds": round(time.process_time() - start_cpu, 2)}


def _memory_mb(field: str) -> float:
    """Return VmHWM (peak) or VmRSS of this process; ru_maxrss would carry over the parent's."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024


def fresh(measure: Callable[[str, str], Case], selector: str, file: str, num_rows: int) -> Case:
    """Measure in a process of its own, and print the row of the table."""
    with multiprocessing.get_context("spawn").Pool(1) as process:
        case = {"case": measure.__name__, "selector": selector, "rows": num_rows,
                **process.apply(measure, (selector, file))}
    if measure is from_file and selector in LIMITS_S and num_rows == 10**7:
        case |= {"limit_s": LIMITS_S[selector], "limit_mb": LIMIT_MB}
        case["pass"] = case["seconds"] <= case["limit_s"] and case["peak_mb"] <= LIMIT_MB
    limit = f"{case['limit_s']:.0f} s, {LIMIT_MB} MB" if "limit_s" in case else ""
    verdict = {True: "pass", False: "FAIL", None: ""}[case.get("pass")]
    more = " ".join(f"{name}={value:,}" if isinstance(value, float) else str(value) for name, value in case.items()
                    if (isinstance(value, float) or name == "note") and name not in ("seconds", "cpu_seconds"))
    print(f"{case['case']:16}{selector:23}{num_rows:>12,}{case['seconds']:>9}{case['cpu_seconds']:>9}"
          f"{case.get('peak_mb', ''):>9}  {limit:16}{verdict} {more}", flush=True)
    return case


def curve(cases: list[Case]) -> dict[str, list[float]]:
    """Return, for each selector on embeddings, the power of N that its CPU seconds grow with from size to size."""
    powers: dict[str, list[float]] = {}
    last: dict[str, Case] = {}
    for case in cases:
        before = last.get(case["selector"])
        if before is not None and min(before["cpu_seconds"], case["cpu_seconds"]) > 0:
            growth = np.log(case["cpu_seconds"] / before["cpu_seconds"]) / np.log(case["rows"] / before["rows"])
            powers.setdefault(case["selector"], []).append(round(float(growth), 2))
        last[case["selector"]] = case
    return powers


def setting() -> Case:
    """Return the commit, the machine and the versions."""
    commit = subprocess.run(["git", "-C", ROOT, "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    model = [line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
             if line.startswith("model name")]
    packages = [name for name in ("numpy", "pyarrow", "scikit-learn", "faiss-cpu")
                if any(importlib.metadata.distributions(name=name))]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "commit": commit.stdout.strip(),
        "machine": {"cpu": model[0] if model else platform.processor(), "cores": len(os.sched_getaffinity(0)),
                    "memory_gb": round(memory, 1)},
        "versions": {"python": platform.python_version(), **{n: importlib.metadata.version(n) for n in packages}},
    }


def main() -> None:
    """Run the cases and print what they took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000_000, help="trajectories in the file (10,000,000)")
    parser.add_argument("--embeddings", type=int, nargs="*", default=[10**4, 10**5, 10**6], help="sizes of those pools")
    parser.add_argument("--only", nargs="+", help="selectors (and inertia) to measure; all without")
    parser.add_argument("--stream", type=int, metavar="ROWS", help="S2L alone, on a file of so many trajectories")
    parser.add_argument("--folder", help="where the files are made, and deleted (a temporary one)")
    asked = parser.parse_args()
    print(f"{'case':16}{'selector':23}{'rows':>12}{'seconds':>9}{'CPU s':>9}{'peak MB':>9}  limits")
    results: list[Case] = []
    with tempfile.TemporaryDirectory(dir=asked.folder) as folder:
        file, num_rows = f"{folder}/trajectories.parquet", asked.stream or asked.rows
        names = ["s2l"] if asked.stream else [n for n in [*LIMITS_S, "inertia"] if n in (asked.only or [n])]
        if names:
            write_trajectories(file, num_rows)
        for name in names:
            results.append(fresh(inertia if name == "inertia" else from_file, name, file, num_rows))
        if not asked.stream and "objective" in (asked.only or ["objective"]):
            write_embeddings(f"{folder}/few.npy", 10**4)
            results.append(fresh(objective, "facility_location", f"{folder}/few.npy", 10**4))
        for size in [] if asked.stream else asked.embeddings:
            rows_file = f"{folder}/embeddings.npy"
            write_embeddings(rows_file, size)
            results += [fresh(from_embeddings, name, rows_file, size) for name, most in LARGEST.items()
                        if size <= most and name in (asked.only or [name])]
    powers = curve([case for case in results if case["case"] == "from_embeddings"])
    for name, values in powers.items():
        print(f"{name}: CPU seconds grow with N to the power of {', '.join(map(str, values))}")
    print(json.dumps({"benchmark": "selection", **setting(), "budget": BUDGET, "points": POINTS, "clusters": CLUSTERS,
                      "width": WIDTH, "results": results, "powers": powers}))


if __name__ == "__main__":
    main()
