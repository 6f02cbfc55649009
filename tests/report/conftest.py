"""A small storage written by hand: every table and record a report reads, with texts that try to break out of it."""

import copy
import json

import numpy as np
import pyarrow as pa
import pytest

from s2l_ray.recipe.loading import parse_recipe
from s2l_ray.storage.artifacts import sealed
from s2l_ray.storage.files import Storage
from s2l_ray.tables.schemas import EXAMPLES, QUARANTINE, SELECTION, shard_name, trajectories_schema, with_metadata

SCRIPT = "<script>window.__pwned=1</script>"
NASTY = (
    SCRIPT, "</style><style>body{display:none}", "</script><img src=x onerror='window.__pwned=2'>", "<!-- <script>",
    "{{ 7 * 7 }} ${7*7}", "שלום עולם", "🙂 emoji", "line\u2028separator", "<b>bold</b>",
)
POINTS = [{"step": 0, "fraction": 0.0}, {"step": 5, "fraction": 0.5}, {"step": 10, "fraction": 1.0}]
CENTROIDS = [[1.0, 0.5], [3.0, 2.5]]
MODEL = {"path": "some/model"}


@pytest.fixture
def recipe():
    """A resolved recipe, as records hold it."""
    return parse_recipe({
        "name": "tiny", "data": {"path": "pool.jsonl"}, "proxy": {"model": MODEL, "epochs": 1},
        "target": {"model": MODEL, "max_steps": 10},
        "selection": {"budget": 0.2, "num_clusters": 2, "controls": ["random", "full"]},
        "evaluation": {"tasks": [{"name": "problems", "path": "held.jsonl", "metrics": ["exact_match", "loss"]}]},
    }).model_dump()


class Tiny:
    """Writes artifacts and records; each `add_` method returns the step it wrote."""

    def __init__(self, folder, recipe, *, num_rows=40, shard_rows=16, quarantined=2):
        self.storage, self.recipe = Storage.open(str(folder)), recipe
        self.ids = [f"row-{n}" for n in range(num_rows)]
        self.clusters_N = np.arange(num_rows) % 4 // 3  # three quarters in cluster 0
        self.prepare = self.add_pool(shard_rows, quarantined)
        self.proxy = self.add("proxy", "proxy", {"parents": {"examples": "pool"}, "points": POINTS, "rows": {}})
        self.trajectories = self.add_trajectories(shard_rows)

    def uri(self, name="tiny", kind="runs"):
        return self.storage.uri_of(f"{kind}/{name}")

    def add(self, label, fingerprint, facts):
        stage = label.split()[0]
        about = {"stage": stage, "fingerprint": fingerprint, "packages": {"s2l-ray": "0.1.0"}, "git_commit": "abc",
                 "started": 100.0, "wall_s": 2.0, "parents": {}, **facts}
        self.storage.write_json(f"{stage}/{fingerprint}/manifest.json", sealed(about))
        arm = label.partition(" ")[2] if stage in ("select", "finetune", "evaluate") else None
        return {"label": label, "stage": stage, "fingerprint": fingerprint, "arm": None if arm == "base" else arm}

    def shards(self, rows):
        return [(shard_name(n), slice(start, start + rows)) for n, start in enumerate(range(0, len(self.ids), rows))]

    def add_pool(self, shard_rows, quarantined):
        sources = [f"source-{n % 3}" if n % 5 else SCRIPT for n in range(len(self.ids))]
        raws = [json.dumps({"instruction": f"question {n} {NASTY[n % len(NASTY)]}", "output": NASTY[(n + 1) % len(NASTY)]})
                for n in range(len(self.ids))]
        tokens = [10 + n % 7 for n in range(len(self.ids))]
        for name, own in self.shards(shard_rows):
            count = len(self.ids[own])
            self.storage.write_table(f"prepare/pool/examples/{name}", pa.table([
                self.ids[own], sources[own], [[1, 2]] * count, [[False, True]] * count, tokens[own],
                [t - 5 for t in tokens[own]]], schema=EXAMPLES))
            self.storage.write_table(f"prepare/pool/originals/{name}", pa.table({
                "example_id": self.ids[own], "file": ["pool.jsonl"] * count, "row": list(range(count)), "raw": raws[own]}))
        self.sources = sources
        self.storage.write_table("prepare/pool/quarantine.parquet", pa.table([
            ["pool.jsonl"] * quarantined, list(range(quarantined)), ["no_supervised_token"] * quarantined,
            [SCRIPT] * quarantined], schema=QUARANTINE))
        rows = len(self.ids)
        return self.add("prepare", "pool", {
            "rows": {"read": rows + quarantined + 1, "examples": rows, "duplicates": 1, "quarantined": quarantined},
            "quarantine_reasons": {"no_supervised_token": quarantined} if quarantined else {}, "num_truncated": 4,
            "num_tokens": sum(tokens), "num_supervised_tokens": sum(tokens) - 5 * rows, "format": "alpaca",
            "num_shards": len(self.shards(shard_rows)), "identity": {"columns": {}}})

    def losses(self):
        """Point 0 is 9 for all; the rest is the row's centroid, a little off."""
        shift = np.linspace(-0.1, 0.1, len(self.ids))[:, None]
        return np.column_stack([np.full(len(self.ids), 9.0), np.array(CENTROIDS)[self.clusters_N] + shift])

    def add_trajectories(self, shard_rows):
        losses = self.losses().astype(np.float32)
        for name, own in self.shards(shard_rows):
            columns = [self.ids[own], self.sources[own], [5] * len(self.ids[own]), losses[own].tolist()]
            table = pa.table(columns, schema=trajectories_schema(3))
            self.storage.write_table(f"trajectories/losses/shards/{name}", with_metadata(table, {"points": POINTS}))
        return self.add("trajectories", "losses", {"parents": {"proxy": "proxy", "examples": "pool"}, "points": POINTS,
                                                   "rows": {"examples": len(self.ids)}, "model_s": 1.5})

    def add_select(self, selector, fingerprint, chosen, *, clusters=True):
        """Select these positions."""
        has = selector == "s2l" and clusters
        columns = [list(range(len(chosen))), [self.ids[n] for n in chosen],
                   [int(self.clusters_N[n]) for n in chosen] if has else None,
                   [len(chosen) // 2] * len(chosen) if has else None, [0.1] * len(chosen) if has else None, None]
        arrays = [pa.nulls(len(chosen), field.type) if column is None else pa.array(column, field.type)
                  for column, field in zip(columns, SELECTION, strict=True)]
        self.storage.write_table(f"select/{fingerprint}/selection.parquet", pa.table(arrays, schema=SELECTION))
        sizes = np.bincount(self.clusters_N, minlength=2).tolist()
        found = [{"source": None, "cluster": k, "size": sizes[k], "quota": len(chosen) // 2, "centroid": CENTROIDS[k],
                  "mean_losses": [9.0, *CENTROIDS[k]]} for k in range(2)]
        self.storage.write_json(f"select/{fingerprint}/findings.json", {"clusters": found} if has else {})
        shares = {s: {"pool": self.sources.count(s), "selected": sum(self.sources[n] == s for n in chosen)}
                  for s in dict.fromkeys(self.sources)}
        parents = {"examples": "pool", **({"trajectories": "losses"} if selector == "s2l" else {})}
        return self.add(f"select {selector}", fingerprint, {
            "rows": {"pool": len(self.ids), "candidates": len(self.ids), "selected": len(chosen)}, "parents": parents,
            "selection": {"include_initial": False, "normalise": "none"}, "sources": shares})

    def add_finetune(self, selector, fingerprint, *, wall_s=4.0, steps=10):
        return self.add(f"finetune {selector}", fingerprint, {
            "wall_s": wall_s, "total_steps": steps, "rows": {}, "resources": self.recipe["resources"]})

    def add_evaluate(self, selector, fingerprint, values):
        count = len(values)
        self.storage.write_table(f"evaluate/{fingerprint}/predictions.parquet", pa.table({
            "task": ["problems"] * count, "example_id": [f"held-{n}" for n in range(count)],
            "loss": pa.array([1.0] * count, pa.float32()), "exact_match": pa.array(values, pa.float32())}))
        estimate = {"value": float(np.mean(values)), "low": 0.0, "high": 1.0, "n": count}
        metrics = {"problems": {"exact_match": estimate, "loss": {**estimate, "value": 1.0}}}
        return self.add(f"evaluate {selector}", fingerprint, {"rows": {"examples": count}, "metrics": metrics})

    def add_arm(self, selector, tag, chosen, values, **training):
        return [self.add_select(selector, f"s-{tag}", chosen), self.add_finetune(selector, f"f-{tag}", **training),
                self.add_evaluate(selector, f"e-{tag}", values)]

    @property
    def shared(self):
        return [self.prepare, self.proxy, self.trajectories]

    def write_run(self, name="tiny", steps=(), **changes):
        recipe = copy.deepcopy(self.recipe) | {"name": name}
        for key, value in changes.items():
            section, _, field = key.partition("__")
            recipe[section] = {**recipe[section], field: value} if field else value
        self.storage.write_json(f"runs/{name}/run.json", {
            "name": name, "recipe": recipe, "command": "s2l run tiny", "git_commit": "abc+", "started": 90.0,
            "steps": [*self.shared, *steps]})
        return self.uri(name)

    def trial(self, selector, budget, seed, steps, *, clusters=None, state="finished", error=None):
        name = f"{selector}-b{budget:g}{f'-k{clusters}' if clusters else ''}-seed{seed}"
        overrides = {"selection.selector": selector, "selection.budget": budget, "seed": seed,
                     **({"selection.num_clusters": clusters} if clusters else {})}
        return {"trial": name, "overrides": overrides, "selector": selector, "budget": budget, "num_clusters": clusters,
                "seed": seed, "is_control": selector in ("random", "full"), "state": state, "error": error,
                "reused": False, "steps": [*self.shared, *steps]}

    def write_sweep(self, name, trials):
        self.storage.write_json(f"sweeps/{name}/sweep.json", {
            "name": name, "recipe": self.recipe | {"name": name}, "command": "s2l sweep tiny", "git_commit": None,
            "started": 110.0, "wall_s": 9.0, "metric": "problems.exact_match", "mode": "max", "shared": self.shared,
            "num_trials": len(trials), "trials": trials})
        return self.uri(name, "sweeps")


@pytest.fixture
def tiny(tmp_path, recipe):
    """A storage with a pool of 40 rows in 2 clusters, scored at 3 points."""
    return Tiny(tmp_path / "out", recipe)


@pytest.fixture
def make_tiny(tmp_path, recipe):
    """A function that makes such a storage of other sizes."""
    return lambda **sizes: Tiny(tmp_path / "other", recipe, **sizes)


@pytest.fixture
def finished_run(tiny):
    """The URI of a finished run: s2l on 8 rows right 3 times of 4, random once, full data every second time."""
    steps = [*tiny.add_arm("s2l", "s2l", list(range(8)), [1, 1, 1, 0] * 10),
             *tiny.add_arm("random", "random", list(range(0, 40, 5)), [1, 0, 0, 0] * 10),
             *tiny.add_arm("full", "full", list(range(40)), [1, 0, 1, 0] * 10, wall_s=20.0, steps=50)]
    return tiny.write_run(steps=steps)
