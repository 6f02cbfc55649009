"""What is known of a recipe's rows and models before it runs: of prepared rows all, of others a sample."""

from collections.abc import Callable

from s2l_ray.modeling.models import load_tokenizer
from s2l_ray.modeling.size import model_size
from s2l_ray.pipeline.machine import START_S, Rate
from s2l_ray.pipeline.plan import RunPlan
from s2l_ray.recipe.data import DataConfig
from s2l_ray.recipe.model import ModelConfig, Precision
from s2l_ray.stages.planning import Step
from s2l_ray.stages.prepare import source_of
from s2l_ray.stages.work import Pool, Sizes

Sample = Callable[[DataConfig, ModelConfig, str], tuple[float, float, float]]
"""Of rows, a model and a storage: mean tokens of a row, of these supervised, and the tokens a second of one core."""


def sizes_of(planned: RunPlan, auto: Precision, sample: Sample) -> tuple[Sizes, dict[str, Rate]]:
    """Return the sizes, and how fast one core made tokens where a sample was taken.

    Parameters
    ----------
    auto
        What `precision: auto` comes to.
    """
    recipe, rates, pools = planned.recipe, dict[str, Rate](), dict[str | None, Pool]()
    for step in planned.steps:
        if step.stage.name != "prepare":
            continue
        if step.artifact.is_finished:
            pools[step.of] = prepared_pool(step)
            continue
        num_tokens, num_supervised, per_core = sample(*source_of(recipe, step.of), recipe.storage)
        assert step.most_rows is not None
        pools[step.of] = Pool(step.most_rows, num_tokens, num_supervised)
        rates.setdefault("prepare", Rate(START_S["cpu"], per_core, is_measured=True))
    loras = {"proxy.model": recipe.proxy.lora, "target.model": recipe.target.lora}
    models = {key: model_size(model, len(load_tokenizer(model)), loras.get(key))
              for key, model in recipe.models().items()}
    return Sizes(recipe, auto, pools, models), rates


def prepared_pool(step: Step) -> Pool:
    """Return what a finished step of prepare counted."""
    manifest = step.artifact.manifest()
    rows = manifest["rows"]["examples"]
    return Pool(rows, manifest["num_tokens"] / max(1, rows), manifest["num_supervised_tokens"] / max(1, rows))
