"""DeepSpeed's checkpoints for another number of workers than wrote them, by way of its universal checkpoints."""

import contextlib
import io
import os
import shutil
import tempfile
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import distributed
from transformers import TrainerCallback

_STATE = "optimizer_state_dict"


def num_writers(checkpoint: Path) -> int | None:
    """Return how many workers' parts a checkpoint is made of; None where it is whole, which fits any number.

    ZeRO has each worker write the optimizer's state of what it holds. Without ZeRO the first one has it all.
    """
    return len(list(checkpoint.glob("global_step*/*_optim_states.pt"))) or None


@contextlib.contextmanager
def converted(checkpoint: Path, *, is_first_of_node: bool) -> Iterator[Path]:
    """Give a checkpoint's universal form, which one worker of each node makes for all of it, while the block runs.

    All workers call it together. Its parts are read when the training begins, and are gone from the disk then (see
    `MendUniversal`): they take 12 bytes for each trained weight.
    """
    with tempfile.TemporaryDirectory(prefix="s2l-universal-") as scratch:
        made = None
        if is_first_of_node:
            made = Path(scratch) / checkpoint.name
            convert(checkpoint, made)
        of_nodes: list[Any] = [None] * distributed.get_world_size()
        distributed.all_gather_object(of_nodes, (os.environ.get("NODE_RANK"), made))
        yield next(path for node, path in of_nodes if path and node == os.environ.get("NODE_RANK"))
        distributed.barrier()


def convert(checkpoint: Path, target: Path) -> None:
    """Write what the Trainer and DeepSpeed read of a checkpoint of ZeRO into a folder, with whole weights and moments.

    DeepSpeed gives all groups of weights the settings of the first when it loads ZeRO-3's, so biases and norms would
    decay too (stage3.py, load_hp_checkpoint_state_from_checkpoint_dir_stage3): that one is left out, and each group
    keeps what the recipe says.
    """
    from deepspeed.checkpoint.ds_to_universal import main  # heavy

    (parts,) = checkpoint.glob("global_step*")
    arguments = Namespace(
        input_folder=str(parts), output_folder=str(target / parts.name), num_extract_workers=1, num_merge_workers=1,
        keep_temp_folder=False, strict=True, inject_missing_state=True)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        main(arguments)
    settings = target / parts.name / "zero" / "optimizer_state.pt"
    common = torch.load(settings, weights_only=False)  # of this run's own checkpoint
    if _STATE in common:
        for group in common[_STATE]["param_groups"]:
            group.pop("weight_decay", None)
        torch.save(common, settings)
    for name in ("trainer_state.json", "scheduler.pt", "rng_state*.pth"):
        for file in checkpoint.glob(name):
            shutil.copy(file, target)


class MendUniversal(TrainerCallback):
    """Once a universal checkpoint is loaded, gives each group of weights its own count of steps, and frees the disk.

    DeepSpeed gives all groups of ZeRO-3 one tensor as their count (stage3.py, the same function), and torch's AdamW
    raises it once for each of them at every step: the corrections of the moments would be those of later steps.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def on_train_begin(self, args: Any, state: Any, control: Any, optimizer: Any = None, **kwargs: Any) -> None:
        for moments in optimizer.state.values():
            if torch.is_tensor(moments.get("step")):
                moments["step"] = moments["step"].clone()
        distributed.barrier()
        if args.local_process_index == 0:
            for parts in self._folder.glob("global_step*"):
                shutil.rmtree(parts)
