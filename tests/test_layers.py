"""The shape of the house: imports go strictly downward, the core is light, and nothing grows too large."""

import ast
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "s2l_ray"
EVERYTHING_BELOW = None


class Rule(NamedTuple):
    """A part's place. It may import lower layers alone, and of those above the foundation (1 and up) only `also`."""

    layer: float
    also: frozenset[str] | None = frozenset()
    torch: bool = False
    ray: bool = False


def only(*parts: str) -> frozenset[str]:
    return frozenset(parts)


RULES = {
    # L0, the foundation: no torch, no Ray. The decimals order its modules among themselves.
    "errors": Rule(0.0),
    "section": Rule(0.0),
    "links": Rule(0.0),
    "secret_uris": Rule(0.05),
    "progress": Rule(0.1),
    "hub": Rule(0.1),
    "selection_config": Rule(0.05),
    "training_config": Rule(0.05),
    "sweep_config": Rule(0.05),
    "config": Rule(0.1),
    "tables": Rule(0.1),
    "retrying": Rule(0.15),
    "storage": Rule(0.2),
    "artifacts": Rule(0.3),
    "parts": Rule(0.3),
    "status": Rule(0.35),
    "answering": Rule(0.3),
    "recipes": Rule(0.3),
    # L1: the foundation alone below them.
    "bring": Rule(1),
    "rows": Rule(1),
    "numerics": Rule(1),
    "metrics": Rule(1),
    "quickstart": Rule(1, torch=True),  # make_base trains the models that it ships
    # L2: models without Ray, selectors without either.
    "modeling": Rule(2, only("rows"), torch=True),
    "selectors": Rule(2, only("numerics")),
    "comparison_tables": Rule(1),
    "comparison": Rule(2, only("bring", "numerics")),
    # L3, the lowest that imports Ray.
    "execution": Rule(3, EVERYTHING_BELOW, torch=True, ray=True),
    # L4: no stage imports another one.
    "stages": Rule(4, EVERYTHING_BELOW, torch=True, ray=True),
    "feasibility": Rule(4.5, EVERYTHING_BELOW, torch=True),
    # L5: results read what a pipeline's line made.
    "pipeline": Rule(5.0, EVERYTHING_BELOW, torch=True, ray=True),
    "results": Rule(5.1, EVERYTHING_BELOW, torch=True, ray=True),
    "plan": Rule(5.1, EVERYTHING_BELOW, torch=True, ray=True),
    "sweep": Rule(5.1, EVERYTHING_BELOW, torch=True, ray=True),
    "report": Rule(5.2, EVERYTHING_BELOW),  # reads what all of them wrote, on any machine: no torch, no Ray
    # Between: a job's submitter needs the foundation, one name of the quickstart, and Ray's client.
    "packing": Rule(5.5),
    "submit": Rule(5.6, only("quickstart", "packing"), ray=True),
    # L6
    "cli_views": Rule(5.9, EVERYTHING_BELOW, torch=True, ray=True),
    "cli": Rule(6, EVERYTHING_BELOW, torch=True, ray=True),
}

FOUNDATION = 1  # layers below this one
TORCH = {"torch", "transformers", "accelerate", "deepspeed", "safetensors"}
FILES = sorted(path for path in PACKAGE.rglob("*.py"))
OURS = [*FILES, *sorted((ROOT / "jobs").rglob("*.py"))]


def part_of(module):
    """Return the part of a dotted name below the package: s2l_ray.rows.hub is of rows."""
    return module.split(".")[1] if "." in module else ""


def module_of(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(source, module):
    """Return the dotted names that a module imports, wherever in it the import stands."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: imports are absolute"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def breaches(source, module):
    """Return what a module imports against the rules."""
    part, found = part_of(module), []
    rule = RULES[part]
    for name in sorted(imports_of(source, module)):
        top, other = name.partition(".")[0], part_of(name)
        if (top == "ray" and not rule.ray) or (top in TORCH and not rule.torch):
            found.append(f"{module} imports {name}, which layer {rule.layer} may not")
        if top != "s2l_ray" or not other or (other == part and part != "stages"):
            continue
        lower = RULES[other].layer < rule.layer
        listed = rule.also is EVERYTHING_BELOW or RULES[other].layer < FOUNDATION or other in rule.also
        if not (lower and listed):
            found.append(f"{module} (layer {rule.layer}) imports {name} (layer {RULES[other].layer})")
    return found


def test_every_part_has_a_rule():
    parts = {part_of(module_of(path)) for path in FILES} - {""}
    assert parts == set(RULES), "give a new part its layer in RULES; take a removed one out"


@pytest.mark.parametrize("path", [p for p in FILES if p.parent != PACKAGE or p.stem != "__init__"], ids=module_of)
def test_imports_go_strictly_downward(path):
    assert breaches(path.read_text(encoding="utf-8"), module_of(path)) == []


def test_the_package_itself_imports_nothing():
    assert imports_of((PACKAGE / "__init__.py").read_text(encoding="utf-8"), "s2l_ray") == set()


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("s2l_ray.tables", "from s2l_ray.storage import Storage"),
        ("s2l_ray.errors", "import s2l_ray.section"),
        ("s2l_ray.rows.hub", "from s2l_ray import numerics"),
        ("s2l_ray.selectors.s2l", "from s2l_ray.rows.reasons import Reason"),
        ("s2l_ray.selectors.s2l", "def f():\n    import torch.nn"),
        ("s2l_ray.modeling.models", "from ray import train"),
        ("s2l_ray.modeling.models", "from s2l_ray.selectors import find_selector"),
        ("s2l_ray.execution.work", "from s2l_ray.stages.select import run_select"),
        ("s2l_ray.stages.select", "from s2l_ray.stages.proxy import run_proxy"),
        ("s2l_ray.stages.select", "from s2l_ray.pipeline import Line"),
        ("s2l_ray.pipeline", "from s2l_ray.results import collect_results"),
        ("s2l_ray.quickstart.problems", "from s2l_ray.rows.formats import BadRow"),
    ],
)
def test_the_rules_do_bite(module, line):
    assert len(breaches(line, module)) == 1


def loaded_by(*modules):
    """Return which of torch and Ray a fresh Python holds after importing the modules."""
    program = f"import sys, {', '.join(modules)}\nprint(sorted({{'torch', 'ray'}} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, capture_output=True, text=True)
    return ast.literal_eval(done.stdout)


def test_the_core_loads_neither_torch_nor_ray():
    light = ("config", "tables", "storage", "artifacts", "recipes", "status", "progress", "rows", "rows.originals",
             "selectors", "stages.select", "metrics", "report.build", "submit", "cli")
    assert loaded_by(*(f"s2l_ray.{name}" for name in light)) == []


def test_modeling_runs_on_a_machine_without_ray():
    heavy = ("models", "tokenization", "batching", "losses", "generation", "training", "examples")
    assert loaded_by(*(f"s2l_ray.modeling.{name}" for name in heavy)) == ["torch"]


# --- sizes and names ---------------------------------------------------------------------------------


@pytest.mark.parametrize("path", OURS, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_and_functions_stay_small(path):
    source = path.read_text(encoding="utf-8")
    assert len(source.splitlines()) <= 300
    functions = [n for n in ast.walk(ast.parse(source)) if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef))]
    assert [f.name for f in functions if f.end_lineno - f.lineno + 1 > 60] == []


def test_no_module_is_named_after_nothing():
    vague = {"utils", "util", "helpers", "helper", "common", "misc", "manager"}
    assert [str(path) for path in OURS if vague & {path.stem, *path.relative_to(ROOT).parts}] == []
