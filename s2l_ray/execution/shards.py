"""Work on every shard of a prepared pool, one output file a shard: the shard is the unit of retry and of resume."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from s2l_ray.execution.attempts import Worker
from s2l_ray.execution.work_units import run_units
from s2l_ray.recipe.resources import ResourcesConfig
from s2l_ray.storage.artifacts import Artifact

FOLDER = "shards"


@dataclass(frozen=True)
class ShardRun:
    """What came of a pass over the shards."""

    shards: list[str]
    num_reused: int
    """Shards whose file an earlier run left."""
    rows: list[dict[str, Any]]
    """What the workers returned about the shards of this run."""
    num_examples: int

    @property
    def facts(self) -> dict[str, Any]:
        """Return what every manifest says of such a pass."""
        return {"rows": {"examples": self.num_examples}, "num_shards": len(self.shards),
                "num_shards_reused": self.num_reused}


def run_shards(
    name: str,
    artifact: Artifact,
    examples: Artifact,
    worker: Callable[..., Worker],
    arguments: Mapping[str, Any],
    resources: ResourcesConfig,
) -> ShardRun:
    """Let `worker` write `<artifact>/shards/<shard>` for each shard of examples that has no such file yet.

    Raises
    ------
    UnitError
        A shard failed at every attempt; those of the others stay.
    RuntimeError
        A file's rows are not exactly the examples of its shard, in order: a hole must never look like data.
    """
    sizes = examples.storage.list_sizes(examples.file("examples"))
    shards = sorted(sizes)
    finished = set(artifact.list_names(FOLDER))
    # The largest first, so that the last worker is not long alone.
    todo = sorted((shard for shard in shards if shard not in finished), key=lambda shard: (-sizes[shard], shard))

    def describe(shard: str) -> str:
        first = examples.read_table(f"examples/{shard}", ["example_id"])["example_id"][0]
        return f"shard {shard} (first example {first.as_py()!r})"

    rows = run_units(name, worker, arguments, todo, resources, actors=True, gpu=True, describe=describe)
    total = 0
    for shard in shards:
        made = artifact.read_table(f"{FOLDER}/{shard}", ["example_id"])
        asked = examples.read_table(f"examples/{shard}", ["example_id"])
        if not made["example_id"].equals(asked["example_id"]):
            raise RuntimeError(f"{artifact.stage} of {shard} are not those of its examples: delete {artifact.folder}")
        total += made.num_rows
    expected = examples.manifest()["rows"]["examples"]
    if total != expected:
        raise RuntimeError(f"{total} rows for {expected} examples: delete {artifact.folder} and run again")
    return ShardRun(shards, len(finished), rows, total)
