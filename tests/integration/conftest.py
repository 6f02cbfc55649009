"""One finished small run that several files look at; starting Ray Train takes longer than all its steps."""

import pytest

from s2l_ray.pipeline import plan_line, run_line
from s2l_ray.results import collect_results


@pytest.fixture(scope="session")
def finished(ray_cluster, small_recipe, word_problems, tmp_path_factory):
    """A finished run: (recipe, line, accounts, results)."""
    recipe = small_recipe(word_problems, tmp_path_factory.mktemp("storage"))
    line = plan_line(recipe)
    accounts = run_line(line, "test")
    return recipe, line, accounts, collect_results(line, accounts)
