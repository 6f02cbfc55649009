"""Settings by which a training's own checkpoints take the place of a proxy."""

import json

from s2l_ray.errors import InputError
from s2l_ray.modeling.checkpoints import find_checkpoints
from s2l_ray.modeling.models import load_tokenizer
from s2l_ray.modeling.tokenization import needs_chat_template
from s2l_ray.progress.notes import note
from s2l_ray.recipe.model import ModelConfig


def checkpoint_settings(folder: str, *, for_rows: bool) -> list[str]:
    """Return the settings that make a folder's checkpoints the trajectory points.

    Parameters
    ----------
    for_rows
        Whether there is no recipe that says how rows are seen: then the last checkpoint's tokenizer and, where it has
        one, its chat template are taken.

    Raises
    ------
    InputError
        See `find_checkpoints`; or no tokenizer lies beside the weights.
    """
    found = find_checkpoints(folder)
    asked = [f"trajectory.checkpoints={json.dumps(folder)}"]
    if not for_rows:
        return asked
    last = found[-1].folder
    if not found[-1].has_tokenizer:
        raise InputError(f"{last} has no tokenizer beside the weights: put it there (tokenizer.save_pretrained), or "
                         "give a recipe whose proxy.model.tokenizer names it, with trajectory.checkpoints")
    path = str(last.absolute())
    style = "alpaca" if needs_chat_template(load_tokenizer(ModelConfig(path=path))) else "chat"
    note(f"{folder}: {len(found)} checkpoints, steps {found[0].step:,} to {found[-1].step:,}; rows are seen as "
         f"data.prompt_style={style}: set what the training saw, should it be another")
    return [*asked, "proxy.model.config=null", "proxy.model.tokenizer=null", f"proxy.model.path={json.dumps(path)}",
            f"data.prompt_style={style}"]
