"""From a recipe to its trials: .venv/bin/pytest tests/sweep/test_space.py"""

import itertools

import pytest

from s2l_ray.errors import InputError
from s2l_ray.recipe.evaluation import HarnessConfig
from s2l_ray.recipe.loading import load_recipe, parse_recipe
from s2l_ray.sweep.run import metric_of
from s2l_ray.sweep.space import plan_trials
from s2l_ray.sweep.trial import check_measured

MODEL = {"path": "some/model"}


def recipe(**sweep):
    return parse_recipe({
        "name": "sweep", "data": {"path": "pool.jsonl"}, "proxy": {"model": MODEL, "epochs": 1},
        "target": {"model": MODEL, "max_steps": 10}, "selection": {"num_clusters": 30, "controls": ["full"]},
        "evaluation": {"tasks": [{"name": "held", "path": "held.jsonl", "metrics": ["loss"]}]}, "sweep": sweep,
    })


def space(**keys):
    named = {"selector": "selection.selector", "budget": "selection.budget", "num_clusters": "selection.num_clusters"}
    return {named.get(key, key.replace("__", ".")): values for key, values in keys.items()}


def names(trials, *, controls=False):
    return [trial.name for trial in trials if trial.is_control == controls]


def test_the_quickstart_sweep_is_28_trials():
    # s2l: 3 budgets x 2 numbers of clusters x 3 seeds = 18; random: 3 budgets x 3 seeds = 9; full: 1.
    trials = plan_trials(load_recipe("quickstart-sweep"))
    assert (len(names(trials)), len(names(trials, controls=True))) == (18, 10)
    assert names(trials)[:4] == ["s2l-b0.03-k10-seed0", "s2l-b0.03-k10-seed1", "s2l-b0.03-k10-seed2", "s2l-b0.03-k50-seed0"]
    assert names(trials, controls=True) == [
        *(f"random-b{budget}-seed{seed}" for budget in (0.03, 0.11, 0.25) for seed in range(3)), "full-seed0"
    ]
    assert len({trial.name for trial in trials}) == 28


def test_a_trial_is_the_recipe_with_its_settings_and_the_proxy_keeps_its_seed():
    base = recipe(space=space(selector=["ltd"], budget=[0.5], num_clusters=[7], seed=[4], target__learning_rate=[1e-3]))
    trial = plan_trials(base)[0]
    assert trial.name == "ltd-b0.5-k7-learning_rate0.001-seed4" and trial.point == "ltd-b0.5-k7-learning_rate0.001"
    found = trial.recipe
    assert (found.selection.selector, found.selection.budget, found.selection.num_clusters) == ("ltd", 0.5, 7)
    assert (found.selection.seed, found.target.seed, found.seed) == (4, 4, 0)
    assert found.target.learning_rate == 1e-3 and found.selection.controls == []
    assert found.model_copy(update={"selection": base.selection, "target": base.target}) == base


def test_settings_that_a_selector_does_not_read_make_no_second_trial():
    trials = plan_trials(recipe(space=space(selector=["random", "s2l", "full"], budget=[0.1], num_clusters=[5, 9], seed=[0, 1])))
    assert names(trials) == ["random-b0.1-seed0", "random-b0.1-seed1", "s2l-b0.1-k5-seed0", "s2l-b0.1-k5-seed1",
                             "s2l-b0.1-k9-seed0", "s2l-b0.1-k9-seed1", "full-seed0", "full-seed1"]
    assert names(trials, controls=True) == ["random-b0.1-seed2"]  # three seeds at least


def test_controls_run_at_each_setting_beside_the_selection():
    trials = plan_trials(recipe(space=space(budget=[0.1], seed=[0], target__learning_rate=[1e-3, 1e-4])))
    rates = ["learning_rate0.001", "learning_rate0.0001"]
    assert names(trials, controls=True) == [
        *(f"random-b0.1-{rate}-seed{seed}" for rate, seed in itertools.product(rates, range(3))),
        *(f"full-{rate}-seed0" for rate in rates),
    ]


def test_no_seeds_given_is_seed_0_and_selector_and_budget_are_the_recipes():
    trials = plan_trials(recipe(space=space(num_clusters=[5])))
    assert names(trials) == ["s2l-b0.11-k5-seed0"]


def test_draws_follow_the_recipes_seed_and_stay_within_their_bounds():
    drawn = space(selector=["s2l"], budget={"uniform": [0.1, 0.2]}, num_clusters={"choice": [5, 9]}, seed=[0, 1],
                  target__learning_rate={"log_uniform": [1e-5, 1e-3]})
    trials, again = (plan_trials(recipe(space=drawn, num_trials=6)) for _ in range(2))
    assert trials == again
    ours = [trial.recipe for trial in trials if not trial.is_control]
    assert len(ours) == 12  # each with both seeds
    assert all(0.1 <= r.selection.budget <= 0.2 and r.selection.num_clusters in (5, 9) for r in ours)
    assert all(1e-5 <= r.target.learning_rate <= 1e-3 for r in ours)
    assert len({r.selection.budget for r in ours}) == 6


def test_a_part_of_a_grid_is_drawn_without_repeats():
    trials = plan_trials(recipe(space=space(budget=[0.1, 0.2, 0.3], num_clusters=[5, 9], seed=[0]), num_trials=4))
    assert len(set(names(trials))) == 4
    assert len(names(plan_trials(recipe(space=space(budget=[0.1, 0.2], seed=[0]), num_trials=50)))) == 2


@pytest.mark.parametrize(
    ("sweep", "message"),
    [
        ({"space": space(target__lr=[1])}, r"at s2l-b0.11-lr1-seed0: target.lr: unknown key"),
        ({"space": space(nowhere__key=[1])}, "nowhere.key is no key of the recipe: nowhere holds no keys"),
        ({"space": space(budget=[2.5])}, "at s2l-b2.5-seed0: selection.budget=2.5"),
        ({"space": space(selector=["s3l"])}, "s3l"),
        ({"space": space(seed=["a"])}, "'a' is no seed"),
        ({"space": space(budget=[])}, r"space holds no values for \['selection.budget'\]"),
        ({"space": {}}, "space holds no values for any key"),
        ({"space": space(budget={"uniform": [0.1, 0.2]})}, "say how many trials with num_trials"),
        ({"space": space(budget={"uniform": [0.2, 0.1]}), "num_trials": 1}, "the lower bound comes first"),
        ({"space": space(budget={"log_uniform": [0, 0.1]}), "num_trials": 1}, "above 0 for log_uniform"),
        ({"space": space(budget={"uniform": [0.1, 0.2], "choice": [1]}), "num_trials": 1}, "exactly one of choice"),
        ({"space": space(budget={"choice": []}), "num_trials": 1}, "choice is empty"),
        ({"space": space(seed={"choice": [1]}), "num_trials": 1}, "space.seed is a list"),
        ({"space": space(resources__num_workers=[1])}, "they say where a run happens"),
        ({"space": space(seed=[0]), "scheduler": "asha"}, "list at least two in space.seed"),
        ({"space": space(budget=[0.1, 0.10000000001])}, "too alike to be told apart"),
        ({"space": space(seed=list(range(20_000)))}, "more than 10,000 trials"),
        ({"space": {f"selection.k{n}": list(range(100)) for n in range(40)}}, "more than 10,000 trials"),
    ],
)
def test_what_cannot_be_swept_is_refused(sweep, message):
    with pytest.raises(InputError, match=message):
        plan_trials(recipe(**sweep))


def test_a_sweep_needs_a_metric():
    base = recipe()
    with pytest.raises(InputError, match=r"evaluation.tasks is empty"):
        plan_trials(base.model_copy(update={"evaluation": base.evaluation.model_copy(update={"tasks": []})}))
    by_harness = base.evaluation.model_copy(update={"tasks": [], "harness": HarnessConfig(tasks=["arc_easy"])})
    alone = base.model_copy(update={"evaluation": by_harness})
    assert plan_trials(alone)
    with pytest.raises(InputError, match=r"or lm_eval/TASK.METRIC of evaluation.harness, with sweep.mode"):
        metric_of(alone)
    sweep = alone.sweep.model_copy(update={"metric": "lm_eval/arc_easy.acc", "mode": "max"})
    assert metric_of(alone.model_copy(update={"sweep": sweep})) == ("lm_eval/arc_easy.acc", "max")
    with pytest.raises(InputError, match=r"was not measured for each example; measured: \['a.b'\]"):
        check_measured("lm_eval/arc_easy.acc", {"a.b": 1.0})
