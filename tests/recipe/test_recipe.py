"""The recipe's tree: described, defaulted, checked, and with an identity that paths and workers stay out of."""

import json
import re
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from s2l_ray.recipe.data import DataConfig, NearDuplicatesConfig
from s2l_ray.recipe.evaluation import EvaluationConfig, HarnessConfig, TaskConfig
from s2l_ray.recipe.lora import LoraConfig
from s2l_ray.recipe.model import ModelConfig
from s2l_ray.recipe.recipe import Recipe, SelectionConfig
from s2l_ray.recipe.resources import ResourcesConfig
from s2l_ray.recipe.scoring import EmbeddingConfig, ProbeConfig, SamplingConfig, TrajectoryConfig
from s2l_ray.recipe.settings import WHERE, Section
from s2l_ray.recipe.sweep import Draw, SweepConfig
from s2l_ray.recipe.task_rows import RowsOfTask
from s2l_ray.recipe.training import ProxyConfig, TargetConfig

SECTIONS = (Recipe, DataConfig, NearDuplicatesConfig, ModelConfig, LoraConfig, ProxyConfig, TargetConfig, TrajectoryConfig, EmbeddingConfig,
            ProbeConfig, SamplingConfig, SelectionConfig, RowsOfTask, TaskConfig, HarnessConfig, EvaluationConfig, SweepConfig, Draw, ResourcesConfig)

# Where or how fast a run happens. Whoever adds a field decides here whether it changes what comes out.
WHERE_FIELDS = {
    Recipe: {"name", "storage", "report_to"},
    DataConfig: {"path", "more", "hub_name", "hub_config", "hub_revision", "hub_rows", "split"},  # prepare hashes the files themselves
    ModelConfig: {"path", "revision", "tokenizer"},  # the stages hash the model's own files
    NearDuplicatesConfig: set(),
    LoraConfig: set(),
    ProxyConfig: {"micro_batch_size", "gradient_checkpointing", "packing", "num_checkpoints"},
    TargetConfig: {"micro_batch_size", "gradient_checkpointing", "packing", "num_checkpoints", "offload_optimizer"},
    TrajectoryConfig: {"checkpoints", "known"},
    EmbeddingConfig: set(),
    ProbeConfig: set(),
    SamplingConfig: {"batch_size"},
    SelectionConfig: {"scores"},  # select hashes the file itself
    RowsOfTask: {"path", "split", "hub_name", "hub_config", "hub_revision"},  # prepare hashes the files themselves
    TaskConfig: {"path", "split", "preset", "hub_name", "hub_config", "hub_revision"},
    HarnessConfig: {"include_path", "batch_size"},  # evaluate hashes the files themselves
    EvaluationConfig: {"batch_size"},
    SweepConfig: {"max_concurrent_trials", "tracking"},
    Draw: set(),
    ResourcesConfig: set(ResourcesConfig.model_fields),
}

MODEL = {"path": "some/model"}
MINIMAL = {
    "name": "run",
    "data": {"path": "pool.jsonl"},
    "proxy": {"model": MODEL, "epochs": 1},
    "target": {"model": MODEL, "max_steps": 10},
    "evaluation": {"tasks": [{"name": "first", "path": "a.jsonl"}, {"name": "second", "path": "b.jsonl"}]},
}
RECIPE = Recipe.model_validate(MINIMAL)


def leaves(section, path=()):
    """Yield the path of every field that is no section itself; lists of sections are walked too."""
    for name in type(section).model_fields:
        value = getattr(section, name)
        if isinstance(value, Section):
            yield from leaves(value, (*path, name))
        elif isinstance(value, list) and value and isinstance(value[0], Section):
            for i, entry in enumerate(value):
                yield from leaves(entry, (*path, name, i))
        else:
            yield (*path, name)


def changed(part, path):
    """Return a copy in which the value at `path` is another one."""
    if not path:
        return another(part)
    key, *rest = path
    if isinstance(part, list):
        return [*part[:key], changed(part[key], rest), *part[key + 1 :]]
    return part.model_copy(update={key: changed(getattr(part, key), rest)})


def another(value):
    if isinstance(value, bool):
        return not value
    if isinstance(value, (int, float)):
        return value + 1
    if isinstance(value, dict):
        return {**value, "more": "x"}
    return [*value, "more"] if isinstance(value, list) else f"{value} changed"


def is_where(path):
    """Tell whether a field on the way is marked WHERE."""
    part = RECIPE
    for key in path:
        if isinstance(part, list):
            part = part[key]
            continue
        if WHERE in type(part).model_fields[key].metadata:
            return True
        part = getattr(part, key)
    return False


LEAVES = list(leaves(RECIPE))


def errors_of(section, **values):
    with pytest.raises(ValidationError) as caught:
        section.model_validate(values)
    return "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in caught.value.errors())


# --- descriptions and defaults -----------------------------------------------------------------------


def types_in(annotation):
    """Yield the types that an annotation is made of: list[TaskConfig] | None holds TaskConfig."""
    yield annotation
    for part in get_args(annotation):
        yield from types_in(part)


def test_the_list_of_sections_is_complete():
    found, pending = set(), [Recipe]
    while pending:
        section = pending.pop()
        found.add(section)
        inside = {kind for field in section.model_fields.values() for kind in types_in(field.annotation)}
        pending.extend(k for k in inside - found if isinstance(k, type) and issubclass(k, Section))
    assert found == set(SECTIONS)


@pytest.mark.parametrize("section", SECTIONS)
def test_every_section_and_field_is_described_in_one_line(section):
    assert section.__doc__ and section.__doc__.endswith(".")
    for name, field in section.model_fields.items():
        text = field.description
        assert text and "\n" not in text and text.endswith("."), f"{section.__name__}.{name}: {text}"


def test_the_defaults_are_the_papers_where_it_has_one():
    chosen, proxy = SelectionConfig(), RECIPE.proxy
    assert (chosen.selector, chosen.budget, chosen.num_clusters, chosen.normalise) == ("s2l", 0.11, 100, "none")
    assert (proxy.learning_rate, proxy.lr_schedule, proxy.warmup_fraction) == (2e-5, "cosine", 0.03)
    assert (proxy.global_batch_size, proxy.weight_decay, RECIPE.data.max_length) == (128, 0.0, 512)


def test_defaults_that_protect_people():
    assert not RECIPE.target.model.trust_remote_code
    assert RECIPE.data.drop_duplicates and RECIPE.data.near_duplicates is None
    assert RECIPE.data.max_bad_fraction == 0.01


def test_defaults_pass_their_own_checks_and_survive_json():
    assert Recipe.model_validate(json.loads(json.dumps(RECIPE.model_dump()))) == RECIPE


def test_sections_do_not_change_after_loading():
    with pytest.raises(ValidationError, match="frozen"):
        RECIPE.seed = 1
    with pytest.raises(ValidationError, match="frozen"):
        RECIPE.data.path = "x"


# --- checks ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("section", "values", "message"),
    [
        (DataConfig, {}, "exactly one of data.path .* and data.hub_name"),
        (DataConfig, {"path": "a", "hub_name": "b"}, "exactly one of data.path .* and data.hub_name"),
        (DataConfig, {"path": "a", "limit": 0}, "limit: .*greater than or equal to 1"),
        (DataConfig, {"path": "a", "max_bad_fraction": 1.1}, "max_bad_fraction: .*less than or equal to 1"),
        *((DataConfig, {"path": "a", "near_duplicates": {"threshold": bad}}, f"near_duplicates.threshold: .*{bound}")
          for bad, bound in ((0, "greater than 0"), (1, "less than 1"), (-0.5, "greater than 0"), (80, "less than 1"))),
        (DataConfig, {"path": "a", "near_duplicates": {"method": "minhash"}}, "near_duplicates.threshold: Field required"),
        (DataConfig, {"path": "a", "near_duplicates": {"threshold": 0.8, "method": "simhash"}}, "method: .*'minhash'"),
        (DataConfig, {"path": "a", "near_duplicates": {"threshold": 0.8, "compare": "source"}}, "compare: .*'both', 'prompt' or 'answer'"),
        (DataConfig, {"path": "a", "format": "csv"}, "format: .*row shape 'csv' is unknown; known: auto, alpaca, messages"),
        (ModelConfig, {}, "exactly one of path .* and config"),
        (ModelConfig, {"path": "a", "config": {"model_type": "gpt2"}}, "exactly one of path .* and config"),
        (ModelConfig, {"config": {"hidden_size": 8}}, "config needs model_type, for example"),
        (ModelConfig, {"config": {"model_type": "gpt2"}}, "a fresh config brings no tokenizer: set tokenizer"),
        (ProxyConfig, {"model": MODEL}, r"exactly one of epochs \(now None\) and max_steps \(now None\)"),
        (ProxyConfig, {"model": MODEL, "epochs": 2, "max_steps": 3}, r"epochs \(now 2.0\) and max_steps \(now 3\)"),
        (ProxyConfig, {"model": MODEL, "epochs": 0}, "epochs: .*greater than 0"),
        (ProxyConfig, {"model": MODEL, "epochs": 1, "zero_stage": 2}, "zero_stage: Extra inputs"),
        (TargetConfig, {"model": MODEL, "epochs": 1, "offload_optimizer": True}, "needs zero_stage 1, 2 or 3, not 0"),
        (TargetConfig, {"model": MODEL, "epochs": 1, "zero_stage": 4}, "zero_stage: .*less than or equal to 3"),
        (SelectionConfig, {"budget": 0}, "budget"),
        (SelectionConfig, {"budget": 1.5}, "budget"),
        (SelectionConfig, {"seed": -1}, "seed: .*greater than or equal to 0"),
        (TaskConfig, {"name": "a", "path": "b", "metrics": ["f1"]}, "metrics.0: .*metric 'f1' is unknown; known: acc, .*exact_match"),
        (ResourcesConfig, {"num_workers": 0}, "num_workers: .*0 must be a number of workers from 1, or the fewest"),
        (ResourcesConfig, {"num_workers": [4, 2]}, r"num_workers: .*\[4, 2\] must be a number of workers from 1, or"),
        (ResourcesConfig, {"num_workers": [1, 2, 3]}, "num_workers: .*such as"),
        (ResourcesConfig, {"num_workers": 1.5}, "num_workers: .*1.5 must be a number"),
        # A lost node may leave three of four workers, which cannot share 128 evenly.
        (Recipe, {**MINIMAL, "resources": {"num_workers": [2, 4]}},
         "proxy.global_batch_size=128 must be a multiple of resources.num_workers = 3; change one of the two"),
        (Recipe, {**MINIMAL, "target": {**MINIMAL["target"], "global_batch_size": 16}, "resources": {"num_workers": [1, 3]},
                  "proxy": {**MINIMAL["proxy"], "global_batch_size": 12}},
         "target.global_batch_size=16 must be a multiple of resources.num_workers = 3; change one of the two"),
        (ResourcesConfig, {"wait_timeout_s": 0}, "wait_timeout_s: .*greater than 0"),
        (Recipe, {**MINIMAL, "name": "a/b"}, "name: .*match pattern"),
        (Recipe, {**MINIMAL, "name": "-a"}, "name: .*match pattern"),
        (Recipe, {**MINIMAL, "evaluation": {"tasks": [{"name": "a", "path": "b"}] * 2}},
         r"evaluation.tasks: names must differ, got \['a', 'a'\]"),
        (Recipe, {**MINIMAL, "selection": {"controls": ["random", "s2l"]}},
         r"repeats a selector: \['s2l', 'random', 's2l'\]"),
        # 4 examples in each of 3 workers make 12 a step, and 128 is no multiple of 12.
        (Recipe, {**MINIMAL, "proxy": {**MINIMAL["proxy"], "micro_batch_size": 4}, "resources": {"num_workers": 3}},
         r"proxy.global_batch_size=128 must be a multiple of .* = 4 x 3 = 12; change one of the three"),
        (Recipe, {**MINIMAL, "target": {"model": MODEL, "epochs": 1, "micro_batch_size": 3}},
         r"target.global_batch_size=128 .* = 3 x 1 = 3;"),
    ],
)
def test_what_cannot_work_is_refused(section, values, message):
    assert re.search(message, errors_of(section, **values))


@pytest.mark.parametrize("section", SECTIONS)
def test_unknown_keys_are_refused_everywhere(section):
    assert "nonsense: Extra inputs are not permitted" in errors_of(section, nonsense=1)


@pytest.mark.parametrize(("section", "name"), [(s, n) for s in SECTIONS for n in s.model_fields])
def test_true_stands_for_no_number_and_no_text(section, name):
    # Python's True is 1: `limit: yes` would read one row.
    refused = f"{name}: Value error, true is not possible here" in errors_of(section, nonsense=1, **{name: True})
    assert refused is (section.model_fields[name].annotation is not bool)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_numbers_are_finite(value):
    for name in ("learning_rate", "weight_decay", "max_grad_norm", "epochs", "warmup_fraction"):
        assert f"{name}: " in errors_of(ProxyConfig, model=MODEL, **{name: value})


@settings(deadline=None)
@given(st.integers(1, 10**9))
def test_a_whole_budget_is_a_number_of_examples(budget):
    kept = SelectionConfig(budget=budget).budget
    assert kept == budget and isinstance(kept, int)


@settings(deadline=None)
@given(st.floats(0, 1, exclude_min=True))
def test_a_fractional_budget_is_a_share(budget):
    kept = SelectionConfig(budget=budget).budget
    assert kept == budget and isinstance(kept, float)  # 1.0 is all of the pool, 1 is one example


def test_the_tokenizer_comes_with_the_model_unless_named():
    assert ModelConfig(path="m").tokenizer_path == "m"
    assert ModelConfig(path="m", tokenizer="t").tokenizer_path == "t"


# --- identity ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("section", SECTIONS)
def test_the_where_fields_are_these(section):
    marked = {name for name, field in section.model_fields.items() if WHERE in field.metadata}
    assert marked == WHERE_FIELDS[section]


@pytest.mark.parametrize("path", LEAVES, ids=lambda path: ".".join(map(str, path)))
def test_identity_changes_with_every_field_but_the_where_fields(path):
    altered = changed(RECIPE, path)
    assert altered != RECIPE
    assert (altered.identity() == RECIPE.identity()) is is_where(path)


@settings(max_examples=50, deadline=None)
@given(st.sets(st.sampled_from([path for path in LEAVES if is_where(path)])))
def test_any_number_of_where_fields_leaves_identity_alone(paths):
    altered = RECIPE
    for path in paths:
        altered = changed(altered, path)
    assert altered.identity() == RECIPE.identity()


def test_identity_is_json_and_walks_lists_of_sections():
    identity = RECIPE.identity()
    assert json.loads(json.dumps(identity)) == identity
    assert identity["evaluation"]["tasks"] == [{"name": "first"}, {"name": "second"}], "paths and defaults are left out"
    whole = RECIPE.identity(with_defaults=True)["evaluation"]["tasks"]
    assert [sorted(task)[:2] for task in whole] == [["answer_column", "columns"]] * 2


def test_a_section_of_which_only_where_fields_are_set_is_left_out():
    altered = Recipe.model_validate({**MINIMAL, "resources": {"num_workers": 4}})
    assert "resources" not in altered.identity() and altered.identity() == RECIPE.identity()


def test_an_option_that_is_not_used_is_in_no_identity():
    # So an option that is added makes no artifact of before stale.
    assert RECIPE.identity() == {
        "proxy": {"epochs": 1.0}, "target": {"max_steps": 10},
        "evaluation": {"tasks": [{"name": "first"}, {"name": "second"}]},
    }
