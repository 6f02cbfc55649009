"""How many examples a training worker takes at once: what the recipe says, or what its GPU has memory for.

A step has the same examples whatever the number is; it only decides in how many parts they are taken.
"""

from collections.abc import Callable
from functools import partial

import torch
from transformers import PreTrainedModel

from s2l_ray.errors import InputError
from s2l_ray.modeling.batching import Batch, ExampleTable, collate, padding_multiple
from s2l_ray.modeling.lora import plain_model
from s2l_ray.recipe.training import TrainingConfig

_SHARE = 0.8  # of what is free: the allocator leaves gaps
_TOKENS = 32_768  # with more at once a GPU is no busier
_STATE_BYTES = 16  # of a weight, beside itself: its gradient, AdamW's two moments, the copy that workers reduce
_HEAD_BYTES = 2**30  # tiles of logits and the head's gradient in fp32
_TRIED = 4


def measured(
    model: PreTrainedModel, config: TrainingConfig, num_workers: int, examples: ExampleTable,
    peak_of: Callable[[Callable[[], None]], int], free_bytes: int,
) -> int:
    """Return the number that a share of the free memory holds, by what the longest examples take.

    Parameters
    ----------
    peak_of
        Runs something and returns the bytes that it took at its peak, beside what was there before.
    free_bytes
        What is free beside the model's weights.
    """
    longest = _longest(examples, _TRIED, padding_multiple(model.device))
    tried = len(longest.labels)
    few, many = (peak_of(partial(_pass, model, longest, rows, config)) for rows in (1, tried))
    each = max(1, (many - few) // max(1, tried - 1))
    num_weights = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    room = _SHARE * (free_bytes - _STATE_BYTES * num_weights - _HEAD_BYTES)
    by_rate = _TOKENS // longest.labels.shape[1]
    return config.micro_batch_up_to(max(1, min(int(room // each), by_rate)), num_workers)


def measured_on_gpu(model: PreTrainedModel, config: TrainingConfig, num_workers: int, examples: ExampleTable) -> int:
    """Return `measured` of this process's GPU; the least of all workers."""
    device = model.device

    def peak_of(work: Callable[[], None]) -> int:
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        work()
        return torch.cuda.max_memory_allocated(device) - before

    torch.cuda.empty_cache()
    found = measured(model, config, num_workers, examples, peak_of, torch.cuda.mem_get_info(device)[0])
    torch.cuda.empty_cache()
    if num_workers > 1:
        least = torch.tensor(found, device=device)
        torch.distributed.all_reduce(least, torch.distributed.ReduceOp.MIN)
        found = int(least)
    return found


def after_out_of_memory(config: TrainingConfig, num_workers: int, had: int) -> int:
    """Return the next smaller number to try.

    Raises
    ------
    InputError
        The user asked for this one, or there is none.
    """
    if had == 1:
        raise InputError("out of memory: one example at a time does not fit. Set gradient_checkpointing=true or lower "
                         "data.max_length; for the target, raise target.zero_stage with more resources.num_workers")
    smaller = config.micro_batch_up_to(had // 2, num_workers)
    if config.micro_batch_size != "auto":
        raise InputError(f"out of memory with micro_batch_size={had}: set it to {smaller} or to auto, or set "
                         "gradient_checkpointing=true")
    return smaller


def _longest(examples: ExampleTable, number: int, multiple: int) -> Batch:
    order = sorted(range(len(examples)), key=lambda row: -int(examples.lengths_N[row]))
    rows = [examples[row] for row in order[:number]]
    return collate([row["input_ids"] for row in rows], [row["supervised"] for row in rows], 0, multiple)


def _pass(model: PreTrainedModel, batch: Batch, rows: int, config: TrainingConfig) -> None:
    """Go forward and back through the body with the first rows, and leave nothing behind."""
    if config.gradient_checkpointing:
        model.gradient_checkpointing_enable()
    device = model.device
    with torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bf16"):
        hidden = plain_model(model).base_model(input_ids=batch.input_ids[:rows].to(device),
                                  attention_mask=batch.attention_mask[:rows].to(device), use_cache=False)
    hidden.last_hidden_state.float().sum().backward()
    model.zero_grad(set_to_none=True)
