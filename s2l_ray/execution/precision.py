"""What `precision: auto` means: found where the work runs, once for each artifact, and kept with it."""

from typing import Any

from s2l_ray.execution.local.machine import this_machine
from s2l_ray.recipe.model import AskedPrecision, Precision
from s2l_ray.recipe.resources import ResourcesConfig
from s2l_ray.storage.artifacts import Artifact

_FILE = "precision.json"
_GPUS_WITHOUT_BF16 = {"K80", "P4", "P100", "V100", "T4"}  # as Ray labels nodes; older than Ampere
_GPU_LABEL = "ray.io/accelerator-type"


def settle_precision(artifact: Artifact, asked: AskedPrecision, resources: ResourcesConfig) -> Precision:
    """Return the precision that an artifact is made in; auto is bf16 where every node for the work is faster in it.

    The first answer stays with the artifact, so that whoever goes on with it, wherever, makes the same numbers.
    """
    if asked != "auto":
        return asked
    if not artifact.exists(_FILE):
        artifact.write_json(_FILE, {"precision": "bf16" if _all_are_fast(resources) else "fp32"})
    found: Precision = artifact.read_json(_FILE)["precision"]
    assert found in ("fp32", "bf16"), found
    return found


def answering_precision(asked: AskedPrecision, resources: ResourcesConfig) -> AskedPrecision:
    """Return what is asked for where answers are generated: auto is fp32 on CPUs, also if they are faster in bf16."""
    return "fp32" if asked == "auto" and not resources.use_gpu else asked


def _all_are_fast(resources: ResourcesConfig) -> bool:
    machine = this_machine()
    if machine is not None:
        return bool(machine.ask(_is_fast_here))
    import ray  # heavy

    from s2l_ray.execution.placement import on_node  # heavy: Ray

    kind = "GPU" if resources.use_gpu else "CPU"
    nodes = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get(kind, 0) > 0]
    if resources.use_gpu:
        return not any(node.get("Labels", {}).get(_GPU_LABEL) in _GPUS_WITHOUT_BF16 for node in nodes)
    own = ray.get_runtime_context().get_node_id()
    ask: Any = ray.remote(_is_fast_here)
    others = [ask.options(**on_node(node["NodeID"])).remote() for node in nodes if node["NodeID"] != own]
    here = [_is_fast_here()] if any(node["NodeID"] == own for node in nodes) else []
    return bool(nodes) and all([*here, *ray.get(others)])


def _is_fast_here() -> bool:
    from s2l_ray.modeling.throughput import has_fast_bf16  # heavy: torch, which the driver does without

    return has_fast_bf16()
