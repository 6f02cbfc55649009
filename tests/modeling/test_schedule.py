"""Steps and trajectory points: .venv/bin/pytest tests/modeling/test_schedule.py"""

import pytest

from s2l_ray.errors import InputError
from s2l_ray.modeling.schedule import plan_training
from s2l_ray.recipe.model import ModelConfig
from s2l_ray.recipe.scoring import TrajectoryConfig
from s2l_ray.recipe.training import ProxyConfig


def proxy_config(**changes):
    values = {"model": ModelConfig(path="unused"), "max_steps": 6, "global_batch_size": 4, "micro_batch_size": 2}
    return ProxyConfig(**{**values, **changes})


def test_points_are_fractions_of_training():
    # 100 examples in steps of 4 are 25 steps an epoch; 2 epochs 50 steps; quarters are 12.5, 25, 37.5, 50.
    config = proxy_config(epochs=2, max_steps=None)
    trajectory = TrajectoryConfig(num_points=4)
    points = plan_training(config, 100, trajectory).points
    assert [p.step for p in points] == [0, 12, 25, 38, 50]
    assert [p.fraction for p in points] == [0.0, 0.25, 0.5, 0.75, 1.0]


def test_more_points_than_steps_is_refused_with_both_numbers():
    with pytest.raises(InputError, match=r"num_points=12 exceeds the proxy's 6 optimizer steps"):
        plan_training(proxy_config(), 100, TrajectoryConfig(num_points=12))
