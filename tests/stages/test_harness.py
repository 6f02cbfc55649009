"""lm-evaluation-harness in a recipe: fingerprints and refusals. .venv/bin/pytest tests/stages/test_harness.py"""

import importlib.metadata
from functools import partial

import pytest

from s2l_ray.errors import InputError
from s2l_ray.pipeline.plan import plan_run
from s2l_ray.recipe.evaluation import HarnessConfig
from s2l_ray.stages.harness import check_harness

TASK = """task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{question}}}}"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: !function answers.of
metric_list: [{{metric: acc}}]
"""


@pytest.fixture
def folder(tmp_path):
    """A folder with a task file, the Python that it names, and data outside of it."""
    (tmp_path / "data.jsonl").write_text("{}\n")
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "answers.py").write_text("def of(row):\n    return row['answer']\n")
    (tmp_path / "tasks" / "own.yaml").write_text(TASK.format(name="own_choice", data=tmp_path / "data.jsonl"))
    return tmp_path / "tasks"


@pytest.fixture
def fingerprint(small_recipe, word_problems, tmp_path):
    """A function (**settings of evaluation.harness) -> the evaluation's fingerprint."""

    def find(**settings):
        changes = {f"evaluation.harness.{name}": value for name, value in settings.items()}
        return plan_run(small_recipe(word_problems, tmp_path / "out", **changes)).step("evaluate", "s2l").artifact.fingerprint

    return find


def test_without_tasks_it_changes_no_fingerprint_and_with_them_what_decides_values_does(fingerprint, folder, tmp_path):
    assert fingerprint() == fingerprint(tasks=[]) == fingerprint(batch_size=2)
    own = {"tasks": ["own_choice"], "include_path": str(folder)}
    first = fingerprint(**own)
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__" / "answers.pyc").write_text("made by Python")
    same = fingerprint(**own, batch_size=2)
    assert first == same
    others = [fingerprint(), fingerprint(**own, num_fewshot=1), fingerprint(**own, limit=3), fingerprint(**own, apply_chat_template=True)]
    for file in (folder / "own.yaml", folder / "answers.py", tmp_path / "data.jsonl"):
        file.write_text(file.read_text() + "\n")
        others.append(fingerprint(**own))
    assert len({first, *others}) == 8


def test_a_folder_that_is_not_there_and_a_file_that_is_none_are_refused(fingerprint, folder):
    with pytest.raises(InputError, match=r"evaluation.harness.include_path='no/where' is not a folder of this machine"):
        fingerprint(tasks=["own_choice"], include_path="no/where")
    (folder / "own.yaml").write_text("task: [")
    with pytest.raises(InputError, match=r"own.yaml is not a readable task file"):
        fingerprint(tasks=["own_choice"], include_path=str(folder))


def test_a_harness_that_is_not_installed_is_refused_with_the_extra_that_brings_it(fingerprint, monkeypatch):
    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr("s2l_ray.stages.harness.importlib.metadata.version", missing)
    with pytest.raises(InputError, match=r'pip install "s2l-ray\[harness\]"'):
        fingerprint(tasks=["own_choice"])


def test_a_task_that_nobody_knows_is_refused_with_the_nearest(folder, monkeypatch, capsys):
    from lm_eval.tasks import TaskManager

    # Without the harness's own, which take a quarter of a minute to list.
    monkeypatch.setattr("lm_eval.tasks.TaskManager", partial(TaskManager, include_defaults=False))
    check_harness(HarnessConfig(), is_chat=True)
    own = HarnessConfig(tasks=["own_choice"], include_path=str(folder))
    check_harness(own, is_chat=False)
    check_harness(own.model_copy(update={"apply_chat_template": True}), is_chat=True)
    assert "chat template" not in capsys.readouterr().err
    check_harness(own, is_chat=True)
    assert "asked without it; evaluation.harness.apply_chat_template=true asks in it" in capsys.readouterr().err
    with pytest.raises(InputError, match=r"'own_choise' is no task of lm_eval [\d.]+ and no task of .*did you mean own_choice"):
        check_harness(HarnessConfig(tasks=["own_choise"], include_path=str(folder)), is_chat=False)
    assert capsys.readouterr().out == ""


def test_a_task_stands_once(fingerprint):
    with pytest.raises(InputError, match="tasks must differ"):
        fingerprint(tasks=["a", "a"])
