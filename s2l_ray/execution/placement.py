"""Where Ray runs what must not move."""

from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy


def on_node(node_id: str) -> dict[str, Any]:
    """Return the options of a task or actor that runs on this node and takes no core of it."""
    return {"num_cpus": 0, "scheduling_strategy": NodeAffinitySchedulingStrategy(node_id, soft=False)}


def on_this_node() -> dict[str, Any]:
    """Return the options of an actor that the driver relies on: it lives where the driver does, and is lost with it.

    Where only its process dies, it begins again, with what it knew forgotten.
    """
    return {**on_node(ray.get_runtime_context().get_node_id()), "max_restarts": -1, "max_task_retries": -1}
