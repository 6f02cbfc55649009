"""How cells are made, each once: rows, bases, proxies, what selectors are given, targets."""

import functools
import json
import os
import platform
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from s2l_ray.errors import InputError
from s2l_ray.metrics.responses import response_is_correct
from s2l_ray.modeling.probes import without_prompt
from s2l_ray.storage.artifacts import git_commit
from tests.evidence.arms import ARMS, Pool
from tests.evidence.cells import Cell, Place
from tests.evidence.models import (
    DEVICE,
    PRECISION,
    Training,
    adapted,
    answers_of,
    embeddings_of,
    fresh,
    loaded,
    losses_of,
    merged,
    train,
)
from tests.evidence.rows import base_examples, pool_rows, tokenizer_of
from tests.evidence.setting import EPOCHS, ROWS, STEPS, TOKENS, Setting, Shape


def machine() -> str:
    """Return what this machine is, as far as figures may depend on it."""
    words = [line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
             if line.startswith("model name")] if Path("/proc/cpuinfo").exists() else []
    return f"{words[0] if words else platform.processor() or platform.machine()}, {os.cpu_count()} cores"


def make(place: Place, cell: Cell) -> str:
    """Make a cell, if it is not there, and return what a person reads of it."""
    if place.is_done(cell):
        return f"{cell.name}: there"
    started = time.perf_counter()
    ways = {"rows": _make_rows, "base": _make_base, "proxy": _make_proxy, "inputs": _make_inputs, "target": _make_target}
    facts = ways[cell.kind](place, cell)
    seconds = round(time.perf_counter() - started, 1)
    facts = {**asdict(cell), **facts, "seconds": seconds, "commit": git_commit(), "device": str(DEVICE),
             "machine": machine()}
    _write(place.file(cell), lambda file: file.write_text(json.dumps(facts, indent=1, sort_keys=True) + "\n"))
    told = {name: facts[name] for name in ("loss", "steps", "tokens", "refused", "rows") if name in facts}
    return f"{cell.name}: {told}, {seconds:.0f} s"


def _write(file: Path, write: Any) -> None:
    half = file.with_name(f".{os.getpid()}-{file.name}")
    write(half)
    half.replace(file)


def _tokenizer(place: Place, pool: str) -> PreTrainedTokenizerBase:
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(place.model or place.folder / f"{pool}-tokenizer")
    return tokenizer


def _make_rows(place: Place, cell: Cell) -> dict[str, Any]:
    if place.model is None:
        made = tokenizer_of(place.data, ROWS[cell.pool].base, place.setting)
        made.save_pretrained(place.folder / f"{cell.pool}-tokenizer")
    tokenizer = _tokenizer(place, cell.pool)
    found = pool_rows(place.data, cell.pool, tokenizer, place.setting)
    base = base_examples(place.data, cell.pool, tokenizer, place.setting)
    for name, table in (("pool", found.pool), ("held_out", found.held_out), ("wanted", found.wanted), ("base", base)):
        pq.write_table(table, place.file(cell, f"-{name}.parquet"))
    return {**found.facts, "base_rows": base.num_rows, "vocabulary": len(tokenizer)}


def _rows(place: Place, pool: str, name: str) -> pa.Table:
    return pq.read_table(place.file(Cell("rows", pool), f"-{name}.parquet"))


def shape_of(setting: Setting, shape: int) -> Shape:
    """Return the shape that a cell's number stands for."""
    return setting.target if shape == -1 else (setting.proxy, *setting.other_proxies)[shape]


def _base(place: Place, pool: str, shape: int) -> Path:
    if shape == -1 and place.model is not None:
        return place.model
    return place.file(Cell("base", pool, shape=shape), "")


def _make_base(place: Place, cell: Cell) -> dict[str, Any]:
    setting, folder = place.setting, _base(place, cell.pool, cell.shape)
    held_out = _rows(place, cell.pool, "held_out")
    if folder == place.model:
        model = loaded(folder)
        right_N = _right(place, cell.pool, model, held_out)
        return {"loss": float(losses_of(model, held_out).mean()), **_by_task(held_out, right_N, "right_by_task")}
    tokenizer, rows = _tokenizer(place, cell.pool), _rows(place, cell.pool, "base")
    model = fresh(shape_of(setting, cell.shape), len(tokenizer), tokenizer.eos_token_id, setting)
    facts = train(model, rows, Training(setting.base_learning_rate, 2 * setting.batch, seed=0, epochs=1))
    losses_N = losses_of(model, held_out)
    model.save_pretrained(folder)
    np.save(place.file(cell, ".npy"), losses_N)
    return {**facts, "loss": float(losses_N.mean()), "weights": model.num_parameters()}


def _make_proxy(place: Place, cell: Cell) -> dict[str, Any]:
    setting, rows, found = place.setting, _rows(place, cell.pool, "pool"), {}
    model = loaded(_base(place, cell.pool, cell.shape))
    training = Training(setting.proxy_learning_rate, setting.batch, cell.seed, epochs=setting.proxy_epochs)
    facts = train(model, rows, training, setting.num_points,
                  lambda state, point: found.__setitem__(point.fraction, losses_of(state, rows)))
    fractions = sorted(found)
    np.savez(place.file(cell, ".npz"), fractions=np.array(fractions),
             losses=np.stack([found[one] for one in fractions], axis=1).astype(np.float32))
    return {**facts, "loss": float(found[fractions[-1]].mean()), "weights": model.num_parameters()}


def _make_inputs(place: Place, cell: Cell) -> dict[str, Any]:
    rows, wanted = _rows(place, cell.pool, "pool"), _rows(place, cell.pool, "wanted")
    proxy, target = (loaded(_base(place, cell.pool, shape)) for shape in (0, -1))
    alone = losses_of(proxy, without_prompt(rows, _tokenizer(place, cell.pool)))
    np.savez(place.file(cell, ".npz"), embeddings=embeddings_of(proxy, rows), without_prompt=alone,
             weighted=embeddings_of(target, rows, "weighted_mean"), wanted=embeddings_of(target, wanted, "weighted_mean"))
    return {"rows": rows.num_rows}


@functools.lru_cache(maxsize=2)
def pool_of(place: Place, pool: str, seed: int, shape: int = 0) -> Pool:
    """Return a pool with the losses of one proxy."""
    rows, proxy = _rows(place, pool, "pool"), np.load(place.file(Cell("proxy", pool, seed, shape), ".npz"))
    inputs = np.load(place.file(Cell("inputs", pool), ".npz"))
    wanted = pa.table({"task": _rows(place, pool, "wanted")["task"], "embedding": list(inputs["wanted"])})
    return Pool(rows.select(["example_id", "source", "num_supervised_tokens", "num_tokens"]), proxy["losses"],
                proxy["fractions"], inputs["embeddings"], inputs["weighted"], wanted, inputs["without_prompt"],
                place.setting.num_clusters)


def _make_target(place: Place, cell: Cell) -> dict[str, Any]:
    setting, pool = place.setting, pool_of(place, cell.pool, cell.seed)
    try:
        positions = np.sort(ARMS[cell.arm](pool, max(1, round(cell.budget * len(pool))), cell.seed))
    except InputError as error:  # a selector that has not enough candidates, say: that is a result
        return {"refused": str(error)}
    rows = _rows(place, cell.pool, "pool").take(pa.array(positions))
    model, held_out = loaded(_base(place, cell.pool, -1)), _rows(place, cell.pool, "held_out")
    tokens_each, pool_tokens_each = (float(np.mean(table["num_tokens"].to_numpy())) for table in (rows, pool.table))
    passes = setting.steps * setting.batch / (setting.main_budget * len(pool))
    length = {STEPS: {"steps": setting.steps}, EPOCHS: {"epochs": passes},
              TOKENS: {"steps": max(1, round(setting.steps * pool_tokens_each / tokens_each))}}[cell.alike]
    if setting.adapters:
        model = adapted(model, setting.adapters, cell.seed)
    facts = train(model, rows, Training(setting.learning_rate, setting.batch, cell.seed, **length))
    if setting.adapters:
        model = merged(model)
    losses_N = losses_of(model, held_out, "bf16" if setting.adapters else PRECISION)
    right_N = _right(place, cell.pool, model, held_out)
    np.save(place.file(cell, "-rows.npy"), positions.astype(np.int32))
    np.save(place.file(cell, "-right.npy"), right_N)
    np.save(place.file(cell, ".npy"), losses_N)
    return {**facts, "rows": len(positions), "loss": float(losses_N.mean()), **_by_task(held_out, losses_N, "by_task"),
            **_by_task(held_out, right_N, "right_by_task"), "tokens_each": tokens_each,
            "supervised_each": float(np.mean(rows["num_supervised_tokens"].to_numpy()))}


def _right(place: Place, pool: str, model: PreTrainedModel, held_out: pa.Table) -> np.ndarray:
    """Return whether each held-out question is answered right, (N,) float32, NaN where it is not asked."""
    right_N = np.full(held_out.num_rows, np.nan, np.float32)
    asked = np.flatnonzero(np.isin(held_out["task"].to_pylist(), place.setting.answered))
    if len(asked):
        rows = held_out.take(pa.array(asked))
        answers = answers_of(model, rows, _tokenizer(place, pool))
        right_N[asked] = [response_is_correct(answer, gold)
                          for answer, gold in zip(answers, rows["answer"].to_pylist(), strict=True)]
    return right_N


def _by_task(held_out: pa.Table, values_N: np.ndarray, name: str) -> dict[str, dict[str, float]]:
    """Return the mean of each task that has values, under a name; nothing where none has."""
    tasks = np.array(held_out["task"].to_pylist())
    means = {task: float(values_N[tasks == task].mean()) for task in dict.fromkeys(tasks.tolist())}
    found = {task: mean for task, mean in means.items() if np.isfinite(mean)}
    return {name: found} if found else {}
