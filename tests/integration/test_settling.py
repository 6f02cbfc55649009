"""A proxy whose training ends when its clusters have settled: .venv/bin/pytest tests/integration/test_settling.py"""

import numpy as np
import pyarrow.parquet as pq
import pytest

from s2l_ray.pipeline.plan import plan_run
from s2l_ray.pipeline.run import run_plan
from s2l_ray.tables.schemas import losses_matrix

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("here")]


def run(small_recipe, word_problems, folder, **changes):
    """The trajectories of a proxy with two workers, which trains 12 steps with 6 points at most."""
    recipe = small_recipe(word_problems, folder, **{
        "proxy.max_steps": 12, "trajectory.num_points": 6, "selection.controls": [], **changes})
    plan = plan_run(recipe, "select")
    run_plan(plan, "test")
    return plan


@pytest.fixture(scope="module")
def settled(here, small_recipe, word_problems, tmp_path_factory):
    """A learning rate of nearly nothing: every point is like the first, so the third is the last."""
    folder = tmp_path_factory.mktemp("settled")
    return run(small_recipe, word_problems, folder, **{"proxy.learning_rate": 1e-12, "trajectory.stop_when_stable": True})


def test_the_training_ends_at_the_second_point_that_changes_nothing(settled, capsys):
    proxy, scored = (settled.step(label).artifact for label in ("proxy", "trajectories"))
    manifest = proxy.manifest()
    assert (manifest["total_steps"], manifest["planned_steps"]) == (6, 12)
    assert [point["step"] for point in manifest["points"]] == [0, 2, 4, 6]
    assert [point["fraction"] for point in manifest["points"]] == pytest.approx([0, 1 / 6, 2 / 6, 3 / 6])
    curve = pq.read_table(proxy.storage.path(proxy.file("curve.parquet")))
    assert curve["step"].to_pylist() == [1, 2, 3, 4, 5, 6] and np.isfinite(curve["loss"].to_numpy()).all()
    table = scored.read_table(f"shards/{scored.list_names('shards')[0]}")
    assert losses_matrix(table).shape[1] == 4
    assert settled.step("select", "s2l").artifact.read_table("selection.parquet").num_rows == 44


def test_a_run_that_is_asked_again_reuses_it(settled):
    done = run_plan(plan_run(settled.recipe, "select"), "test")
    assert all(one.is_reused for one in done)


def test_what_still_changes_the_clusters_goes_on_to_its_end(here, small_recipe, word_problems, tmp_path):
    plan = run(small_recipe, word_problems, tmp_path, **{"proxy.learning_rate": 3e-2, "trajectory.stop_when_stable": True})
    proxy = plan.step("proxy").artifact
    other = plan_run(plan.recipe.model_copy(update={"trajectory": plan.recipe.trajectory.model_copy(update={
        "stop_when_stable": False})}), "select").step("proxy").artifact
    assert proxy.manifest()["total_steps"] == 12 and len(proxy.manifest()["points"]) == 7
    assert proxy.fingerprint != other.fingerprint, "it may end earlier, so it is another proxy"
