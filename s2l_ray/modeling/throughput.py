"""How fast this machine multiplies, how many products a scoring needs, and whether bf16 is fast here."""

import time
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from s2l_ray.recipe.model import Precision

if TYPE_CHECKING:
    from transformers import PreTrainedModel  # heavy: most commands start without a model

_FAST_BF16 = ("amx_bf16", "avx512_bf16")
_SHAPE = (1024, 512, 8192)  # rows, inner, columns: like a block of a head, weights larger than a core's cache
_REPEATS = 5


def has_fast_bf16() -> bool:
    """Tell whether this CPU is made to multiply in bf16.

    It asks what the CPU can do and measures nothing, so that a machine gives one answer whenever it is asked.
    """
    capabilities = torch.cpu.get_capabilities()
    return any(bool(capabilities.get(name)) for name in _FAST_BF16)


def matmul_rate(device: torch.device, precision: Precision) -> float:
    """Return floating-point operations a second of a large matrix product, the best of a few."""
    rows, inner, columns = _SHAPE if device.type == "cpu" else tuple(4 * size for size in _SHAPE)
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    left, right = (torch.ones(size, inner, dtype=dtype, device=device) for size in (rows, columns))
    best = float("inf")
    with torch.inference_mode():
        for _ in range(_REPEATS):
            started = time.perf_counter()
            functional.linear(left, right)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            best = min(best, time.perf_counter() - started)
    return 2 * rows * inner * columns / best


def scoring_operations(model: "PreTrainedModel", num_tokens: int, num_supervised: int) -> float:
    """Return the operations that scoring cannot do without: 2 for each weight of the body and token, and for each of
    the head and supervised token. Attention's own products are left out, which makes a share of the peak a little
    too modest.
    """
    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    outside = {id(weight) for layer in (head, embedding) if layer is not None for weight in layer.parameters()}
    body = sum(weight.numel() for weight in model.parameters() if id(weight) not in outside)
    per_head = 0 if head is None else sum(weight.numel() for weight in head.parameters())
    return 2.0 * (body * num_tokens + per_head * num_supervised)
