"""Checkpoints of somebody's own training: .venv/bin/pytest tests/modeling/test_checkpoints.py"""

import pytest

from s2l_ray.errors import InputError
from s2l_ray.modeling.checkpoints import find_checkpoints, is_checkpoint
from s2l_ray.modeling.schedule import plan_training
from s2l_ray.recipe.model import ModelConfig
from s2l_ray.recipe.scoring import TrajectoryConfig


def folders(tmp_path, *names, file="config.json"):
    for name in names:
        (tmp_path / name).mkdir()
        (tmp_path / name / file).write_text("{}")
    return str(tmp_path)


def test_they_are_ordered_by_step_and_other_folders_are_left(tmp_path):
    (tmp_path / "runs").mkdir()
    (tmp_path / "logs-7").mkdir()  # no model in it
    folder = folders(tmp_path, "checkpoint-1000", "checkpoint-500", "step_20", "3", "final")
    assert [one.step for one in find_checkpoints(folder)] == [3, 20, 500, 1000]


def test_what_is_taken_is_the_model_and_its_tokenizer(tmp_path):
    folder = folders(tmp_path, "checkpoint-1", "checkpoint-2")
    kept = ["config.json", "generation_config.json", "model-00001-of-00002.safetensors", "model.safetensors.index.json",
            "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"]
    for name in [*kept, "optimizer.pt", "rng_state_0.pth", "scheduler.pt", "trainer_state.json", "training_args.bin"]:
        (tmp_path / "checkpoint-2" / name).write_text("{}")
    first, second = find_checkpoints(folder)
    assert [path.name for path in second.files] == sorted(kept)
    assert second.has_tokenizer and not first.has_tokenizer


def test_points_are_parts_of_the_training_up_to_the_last_one(tmp_path):
    config = TrajectoryConfig(checkpoints=folders(tmp_path, "checkpoint-0", "checkpoint-10", "checkpoint-40"))
    plan = plan_training(None, 100, config)
    assert [(point.step, point.fraction) for point in plan.points] == [(0, 0.0), (10, 0.25), (40, 1.0)]
    assert plan.total_steps == 0, "nothing is trained"


@pytest.mark.parametrize(("names", "said"), [
    ([], "needs two or more folders such as checkpoint-500, .* it has none"),
    (["checkpoint-5"], r"it has \['checkpoint-5'\]"),
    (["checkpoint-5", "step-5", "step-6"], "checkpoint-5 and step-5 have one step"),
])
def test_what_is_no_training_is_refused(tmp_path, names, said):
    with pytest.raises(InputError, match=said):
        find_checkpoints(folders(tmp_path, *names))


def test_adapters_and_whole_models_are_not_mixed(tmp_path):
    folders(tmp_path, "checkpoint-5")
    with pytest.raises(InputError, match="some hold adapters and others whole models"):
        find_checkpoints(folders(tmp_path, "checkpoint-6", file="adapter_config.json"))
    with pytest.raises(InputError, match="is no folder of this machine"):
        find_checkpoints(str(tmp_path / "nowhere"))


def test_a_model_among_them_is_known(tmp_path):
    inside = ModelConfig(path=str(tmp_path / "checkpoint-5"))
    assert is_checkpoint(inside, str(tmp_path)) and not is_checkpoint(inside, str(tmp_path / "other"))
    assert not is_checkpoint(inside, None) and not is_checkpoint(ModelConfig(path="gpt2"), str(tmp_path))
