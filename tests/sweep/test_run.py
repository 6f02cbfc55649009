"""What a trial may take of a cluster that others run on."""

import pytest

from s2l_ray.pipeline.plan import plan_run
from s2l_ray.recipe.resources import ResourcesConfig
from s2l_ray.sweep.run import own_share


@pytest.mark.parametrize(("settings", "most"), [
    ({"num_workers": 2, "cpus_per_worker": 3}, 6),  # evaluating takes a core each
    ({"num_workers": 2, "cpus_per_worker": 3, "num_scoring_workers": 4}, 4),
    ({"num_workers": (2, 8), "cpus_per_worker": 1}, 2),
    ({"num_workers": 4, "cpus_per_worker": 8, "use_gpu": True}, 4),  # or a GPU each
])
def test_a_trial_trains_with_the_fewest_workers_and_evaluates_in_their_room(settings, most):
    share = own_share(ResourcesConfig(**settings))
    assert share.num_scoring_workers == most
    assert share.num_workers == share.max_workers == ResourcesConfig(**settings).min_workers, "the fewest of a range"


def test_its_share_changes_no_artifact(small_recipe, word_problems, tmp_path):
    recipe = small_recipe(word_problems, tmp_path)
    shared = recipe.model_copy(update={"resources": own_share(recipe.resources)})
    assert [step.artifact.fingerprint for step in plan_run(recipe).steps] == [
        step.artifact.fingerprint for step in plan_run(shared).steps]
