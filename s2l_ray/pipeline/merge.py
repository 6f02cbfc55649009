"""A fine-tuned target's adapters and their base as one model."""

from pathlib import Path
from typing import Any, Literal

from transformers.utils.logging import disable_progress_bar

from s2l_ray.modeling.models import write_merged
from s2l_ray.storage.files import Storage


def write_merged_target(
    storage: Storage, artifact: str, output: Path, precision: Literal["base", "fp32"] = "base"
) -> dict[str, Any]:
    """Write a target's adapters merged into their base, in its precision or in fp32, for `from_pretrained`.

    Returns what it is made of.

    Raises
    ------
    InputError
        The target was trained whole, the folder to write has something in it, or the base cannot be loaded.
    """
    disable_progress_bar()  # of transformers: it talks over what we say
    place = f"{artifact}/model"
    with storage.local_folder(place) as local:
        return {"adapter": storage.uri_of(place), **write_merged(local, output, storage.uri_of(place), precision)}
