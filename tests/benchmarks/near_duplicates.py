"""Near-duplicates and leaks among rows of which some are planted: what is found, in which time and memory.

    python tests/benchmarks/near_duplicates.py                    # 10,000 rows
    python tests/benchmarks/near_duplicates.py --rows 1000000 --only ours leaks datatrove

5 % of the rows are copies of others with a few words changed, their Jaccard similarity to them (runs of three words, prompt
and answer each) from 0.8 to 1. 2 % are copies with more words changed, their similarity from 0.5 to 0.7: these are to stay, as are the
fifth of the rows that share long templates. 200 rows hold text
of held-out rows. A dropped row is right where it is the later one of a planted pair. Beside ours, on the same rows, run
datatrove's MinHash (14 buckets of 8, runs of five words, as its example has it) and datasketch's MinHashLSH, where they are
installed. Every case runs in a fresh process on one core; its peak is what it adds to that process. Prints a table, then one
JSON line.
"""

import argparse
import importlib.metadata
import importlib.util
import itertools
import json
import multiprocessing
import string
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from selection import _memory_mb, setting

from s2l_ray.rows.compared import Texts, grams, words_of
from s2l_ray.rows.held_out import HeldOutRow
from s2l_ray.rows.leaks import index_held_out
from s2l_ray.rows.near_duplicates import SHINGLE_WORDS, find_twins, signatures

PLANTED, DECOYS, TEMPLATED, LEAKS, HELD_OUT = 0.05, 0.02, 0.2, 200, 2000
THRESHOLD, UNIT = 0.8, 4096
VOCABULARY = 17_576
LETTERS = string.ascii_lowercase
WORDS = ["".join(letters) for letters in itertools.product(LETTERS, LETTERS, LETTERS)]
"""Without digits, which datatrove takes for one another."""

Case = dict[str, Any]
Row = tuple[np.ndarray, np.ndarray]
"""Prompt and answer, int16 numbers of words."""


def draw(rng: np.random.Generator, length: int) -> np.ndarray:
    """Draw words as frequent as those of a language: the n-th as 1 / n."""
    return np.minimum(VOCABULARY ** rng.random(length), VOCABULARY - 1).astype(np.int16)


def edited(rng: np.random.Generator, text: np.ndarray, least: float, most: float) -> np.ndarray:
    """Change some words, replaced, left out or added, such that the similarity is from `least` to `most`."""
    words = text.tolist()
    num_edits = 3 if most == 1 else 1 + len(words) // 8
    while True:
        changed = list(words)
        for _ in range(rng.integers(0, num_edits + 1)):
            place = int(rng.integers(len(changed)))
            new = draw(rng, 1).tolist()
            changed[place : place + int(rng.integers(0, 2))] = [new, [], new][rng.integers(3)]
        if len(changed) >= SHINGLE_WORDS and least <= jaccard(words, changed) <= most:
            return np.array(changed, dtype=np.int16)


def jaccard(one: list[int], other: list[int]) -> float:
    """Return the share of runs of three words that two texts have both."""
    a, b = ({tuple(words[i : i + SHINGLE_WORDS]) for i in range(len(words) - SHINGLE_WORDS + 1)} for words in (one, other))
    return len(a & b) / len(a | b)


def make(folder: Path, num_rows: int) -> None:
    """Write rows.parquet and truth.json: the planted pairs, the leaks; and held_out.parquet."""
    rng = np.random.default_rng(0)
    templates = [draw(rng, 40) for _ in range(50)]
    rows: list[Row] = []
    num_planted, num_decoys = int(PLANTED * num_rows), int(DECOYS * num_rows)
    for n in range(num_rows - num_planted - num_decoys):
        shared = templates[rng.integers(50)] if n < TEMPLATED * num_rows else draw(rng, 0)
        own = draw(rng, int(rng.integers(15, 80)))
        rows.append((np.concatenate([shared, own]), draw(rng, int(rng.integers(10, 120)))))
    originals = rng.choice(len(rows), num_planted + num_decoys, replace=False)
    pairs = [(int(one), len(rows) + n) for n, one in enumerate(originals[:num_planted])]
    for n, one in enumerate(originals):
        bounds = (THRESHOLD, 1.0) if n < num_planted else (0.5, 0.7)
        prompt, answer = rows[one]
        rows.append((edited(rng, prompt, *bounds), edited(rng, answer, *bounds)))
    held_out = [(np.concatenate([templates[0], draw(rng, int(rng.integers(20, 60)))]), draw(rng, 20))
                for _ in range(HELD_OUT)]
    unpaired = np.setdiff1d(np.arange(num_rows - num_planted - num_decoys), originals)
    leaks = rng.choice(unpaired, LEAKS, replace=False)
    for number, place in enumerate(leaks):
        question = held_out[number][0][40:]
        before, after = draw(rng, 10), draw(rng, 10)
        rows[place] = (question if number % 2 else np.concatenate([before, question[:16], after]), rows[place][1])
    order = rng.permutation(num_rows)
    place_of = np.argsort(order)
    _write(folder / "rows.parquet", [rows[i] for i in order])
    _write(folder / "held_out.parquet", held_out)
    later = sorted(max(int(place_of[a]), int(place_of[b])) for a, b in pairs)
    truth = {"later": later, "leaks": sorted(int(place_of[n]) for n in leaks)}
    (folder / "truth.json").write_text(json.dumps(truth))


def _write(file: Path, rows: list[Row]) -> None:
    with pq.ParquetWriter(file, pa.schema([("prompt", pa.string()), ("answer", pa.string())])) as writer:
        for start in range(0, len(rows), 2**16):
            own = rows[start : start + 2**16]
            texts = [[" ".join(map(WORDS.__getitem__, part.tolist())) for part in row] for row in own]
            writer.write_table(pa.table({"prompt": [p for p, _ in texts], "answer": [a for _, a in texts]}))


def read(folder: Path) -> Iterator[list[tuple[str, str]]]:
    """Yield the rows in units."""
    for batch in pq.ParquetFile(folder / "rows.parquet").iter_batches(UNIT):
        yield list(zip(*(batch[name].to_pylist() for name in ("prompt", "answer")), strict=True))


def ours(folder: Path) -> tuple[list[int], Case]:
    """Sign the rows unit by unit as the workers of prepare do, and find twins as its driver does."""
    start, made = time.perf_counter(), []
    for unit in read(folder):
        made.append(signatures([Texts((prompt,), (answer,)) for prompt, answer in unit], "both"))
    signed = time.perf_counter()
    column = pa.chunked_array(made).combine_chunks()
    bytes_NH = np.frombuffer(column.buffers()[1], np.uint8).reshape(len(column), -1)
    twins = find_twins(bytes_NH, THRESHOLD, 2)
    return twins.rows_M.tolist(), {"sign_s": round(signed - start, 2), "twins_s": round(time.perf_counter() - signed, 2)}


def leaks(folder: Path) -> tuple[list[int], Case]:
    """Index the held-out rows, and search the rows for them unit by unit as the workers of prepare do."""
    start, found, number = time.perf_counter(), [], 0
    held_out = pq.read_table(folder / "held_out.parquet").to_pylist()
    rows = [HeldOutRow("held_out", n, str(n), Texts((row["prompt"],), (row["answer"],))) for n, row in enumerate(held_out)]
    index = index_held_out([("task", rows)])
    indexed = time.perf_counter()
    for unit in read(folder):
        marks = index.find([Texts((prompt,), (answer,)) for prompt, answer in unit], [None] * len(unit))
        found += (number + np.flatnonzero(marks.is_valid().to_numpy(zero_copy_only=False))).tolist()
        number += len(unit)
    return found, {"index_s": round(indexed - start, 2), "search_s": round(time.perf_counter() - indexed, 2)}


def datasketch(folder: Path) -> tuple[list[int], Case]:
    """Ask datasketch's index for each row, and insert it where it has no near one."""
    from datasketch import MinHash, MinHashLSH

    index, found, number, sign_s = MinHashLSH(threshold=THRESHOLD, num_perm=128), [], 0, 0.0
    for unit in read(folder):
        start = time.perf_counter()
        words = words_of([f"{prompt}\n{answer}" for prompt, answer in unit])
        runs = grams(words, SHINGLE_WORDS)
        bounds = np.searchsorted(runs.texts_G, np.arange(len(unit) + 1))
        sets = [[h.tobytes() for h in runs.hashes_G[a:b]] for a, b in itertools.pairwise(bounds)]
        hashes = list(MinHash.bulk(sets, num_perm=128))
        sign_s += time.perf_counter() - start
        for one in hashes:
            if index.query(one):
                found.append(number)
            else:
                index.insert(number, one)
            number += 1
    return found, {"sign_s": round(sign_s, 2)}


def datatrove(folder: Path) -> tuple[list[int], Case]:
    """Run datatrove's four steps on this machine, one process each."""
    from datatrove.data import Document
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline.dedup import MinhashDedupSignature
    from datatrove.pipeline.dedup.minhash import (
        MinhashConfig,
        MinhashDedupBuckets,
        MinhashDedupCluster,
        MinhashDedupFilter,
    )
    from datatrove.utils.hashing import HashConfig
    from datatrove.utils.word_tokenizers import WordTokenizer

    # SHA-1: its other hash hands texts to xxhash, whose newest version takes bytes alone.
    config = MinhashConfig(hash_config=HashConfig(hash_fc="sha1"), num_buckets=14, hashes_per_bucket=8)
    work = folder / "datatrove"

    class Spaces(WordTokenizer):  # its own for English is spaCy's, which takes longer
        def word_tokenize(self, text: str) -> list[str]:
            return text.split()

        def sent_tokenize(self, text: str) -> list[str]:
            return [text]

        def span_tokenize(self, text: str) -> list[tuple[int, int]]:
            return [(0, len(text))]

    def documents(data: Any = None, rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        number = 0
        for unit in read(folder):
            for prompt, answer in unit:
                yield Document(text=f"{prompt}\n{answer}", id=str(number))
                number += 1

    kept: list[int] = []

    def note_kept(data: Iterator[Document], rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        for document in data:
            kept.append(int(document.id))
            yield document

    steps = [
        ([documents, MinhashDedupSignature(f"{work}/signatures", config, language=Spaces())], 1),
        ([MinhashDedupBuckets(f"{work}/signatures", f"{work}/buckets", config=config)], 14),
        ([MinhashDedupCluster(f"{work}/buckets", f"{work}/remove", config=config)], 1),
        ([documents, MinhashDedupFilter(f"{work}/remove"), note_kept], 1),
    ]
    took = []
    for number, (pipeline, tasks) in enumerate(steps):
        start = time.perf_counter()
        LocalPipelineExecutor(pipeline=pipeline, tasks=tasks, workers=1, logging_dir=f"{work}/logs{number}").run()
        took.append(round(time.perf_counter() - start, 2))
    num_rows = pq.ParquetFile(folder / "rows.parquet").metadata.num_rows
    return sorted(set(range(num_rows)) - set(kept)), {"sign_s": took[0], "steps_s": took}


CASES = {"ours": ours, "leaks": leaks, "datatrove": datatrove, "datasketch": datasketch}


def measure(name: str, folder: Path) -> Case:
    """Run a case, and compare what it finds with what was planted."""
    if name in ("datatrove", "datasketch") and importlib.util.find_spec(name) is None:
        return {"case": name, "note": f"{name} is not installed"}
    before, start, cpu = _memory_mb("VmRSS"), time.perf_counter(), time.process_time()
    found, more = CASES[name](folder)
    seconds, cpu_s = time.perf_counter() - start, time.process_time() - cpu
    truth = json.loads((folder / "truth.json").read_text())["leaks" if name == "leaks" else "later"]
    right = len(set(found) & set(truth))
    return {"case": name, "seconds": round(seconds, 2), "cpu_seconds": round(cpu_s, 2),
            "peak_mb": round(_memory_mb("VmHWM") - before), "found": len(found), "planted": len(truth),
            "recall": round(right / len(truth), 4), "precision": round(right / max(1, len(found)), 4), **more}


def main() -> None:
    """Make the rows, run the cases and print what they found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000, help="rows, planted ones included (10,000)")
    parser.add_argument("--only", nargs="+", choices=list(CASES), help="cases to measure; all without")
    asked = parser.parse_args()
    results = []
    with tempfile.TemporaryDirectory() as folder:
        make(Path(folder), asked.rows)
        print(f"{'case':12}{'seconds':>9}{'CPU s':>9}{'peak MB':>9}{'found':>9}{'recall':>9}{'precision':>11}")
        for name in asked.only or CASES:
            with multiprocessing.get_context("spawn").Pool(1) as process:
                case = process.apply(measure, (name, Path(folder)))
            results.append(case)
            cells = [case.get(key, "") for key in ("seconds", "cpu_seconds", "peak_mb", "found", "recall", "precision")]
            print(f"{name:12}" + "".join(f"{cell:>9}" for cell in cells[:5]) + f"{cells[5]:>11}  {case.get('note', '')}",
                  flush=True)
    packages = {name: importlib.metadata.version(name) for name in ("rensa", "datatrove", "datasketch")
                if importlib.util.find_spec(name)}
    print(json.dumps({"benchmark": "near_duplicates", **setting(), "packages": packages, "rows": asked.rows,
                      "threshold": THRESHOLD, "results": results}))


if __name__ == "__main__":
    main()
