"""The shape of the house: imports go down one list of rooms, the core is light, and nothing grows too large."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import s2l_ray
from s2l_ray.stages.table import STAGES

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "s2l_ray"
ROOMS = (  # from top to bottom: a room imports from those below it and from no other
    "testing", "cli", "submit", "quickstart", "starter", "report", "export", "sweep", "comparison", "results", "pipeline", "stages", "execution",
    "selectors", "modeling", "metrics", "rows", "numerics", "tables", "recipe", "progress", "storage", "errors",
)
MAX_ARROWS = 113
WITH_TORCH = {"cli", "quickstart", "sweep", "results", "pipeline", "stages", "execution", "modeling"}
WITH_RAY = {"cli", "submit", "sweep", "results", "pipeline", "stages", "execution"}
TORCH = {"torch", "transformers", "accelerate", "deepspeed", "safetensors"}
AT_THE_ROOT = {"__init__", "errors", "testing"}

STAGE_NAMES = {stage.name for stage in STAGES}

FILES = sorted(PACKAGE.rglob("*.py"))
CHECKS = [path for room in ("benchmarks", "chaos", "evidence") for path in sorted((ROOT / "tests" / room).glob("*.py"))]
OURS = [*FILES, *sorted((ROOT / "jobs").rglob("*.py")), *CHECKS]


def room_of(module):
    """Return the room of a dotted name: s2l_ray.rows.hub is in rows."""
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
    """Return what a module imports against the order of rooms."""
    room, found = room_of(module), []
    for name in sorted(imports_of(source, module)):
        top, other = name.partition(".")[0], room_of(name)
        if (top == "ray" and room not in WITH_RAY) or (top in TORCH and room not in WITH_TORCH):
            found.append(f"{module} imports {name}, which {room} may not")
        if top != "s2l_ray" or not other or other == "__version__":
            continue
        if other == room:
            if {module.split(".")[-1], name.split(".")[2]} <= STAGE_NAMES and room == "stages":
                found.append(f"{module} imports {name}: stages meet at tables")
        elif ROOMS.index(other) <= ROOMS.index(room):
            found.append(f"{module} imports {name}, which is above it")
    return found


def arrows():
    """Return the pairs of rooms of which the first imports from the second."""
    found = set()
    for path in FILES:
        module = module_of(path)
        names = {name for name in imports_of(path.read_text(encoding="utf-8"), module)
                 if name.startswith("s2l_ray.") and room_of(name) != "__version__"}
        found |= {(room_of(module), room_of(name)) for name in names}
    return {(one, other) for one, other in found if one != other and one and other}


def test_every_room_is_in_the_list_and_the_root_holds_only_what_the_package_is():
    assert {room_of(module_of(path)) for path in FILES} - {""} == set(ROOMS), "name a new room in ROOMS, at its height"
    assert {path.stem for path in PACKAGE.glob("*.py")} == AT_THE_ROOT


@pytest.mark.parametrize("path", [p for p in FILES if p.parent != PACKAGE or p.stem != "__init__"], ids=module_of)
def test_imports_go_down(path):
    assert breaches(path.read_text(encoding="utf-8"), module_of(path)) == []


def test_there_are_few_arrows():
    found = arrows()
    assert len(found) <= MAX_ARROWS, sorted(found)


def test_the_package_itself_imports_nothing_before_it_is_asked():
    program = "import sys, importlib, typing; before = set(sys.modules); import s2l_ray; print(sys.modules.keys() - before)"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "{'s2l_ray'}"


def test_what_the_package_offers_is_what_type_checkers_see():
    source = (PACKAGE / "__init__.py").read_text(encoding="utf-8")
    offered = {name.rpartition(".")[2] for name in imports_of(source, "s2l_ray") if name.startswith("s2l_ray.")}
    assert offered | {"__version__"} == set(s2l_ray.__all__) <= set(dir(s2l_ray))
    assert all(getattr(s2l_ray, name) is not None for name in s2l_ray.__all__)
    with pytest.raises(AttributeError, match="no attribute 'selct'"):
        _ = s2l_ray.selct


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("s2l_ray.storage.files", "from s2l_ray.tables.schemas import SELECTION"),
        ("s2l_ray.errors", "import s2l_ray.recipe"),
        ("s2l_ray.numerics.kmeans", "from s2l_ray import rows"),
        ("s2l_ray.selectors.methods.s2l", "from s2l_ray.execution.work_units import run_units"),
        ("s2l_ray.selectors.methods.s2l", "def f():\n    import torch.nn"),
        ("s2l_ray.modeling.models", "from ray import train"),
        ("s2l_ray.modeling.models", "from s2l_ray.selectors.pool import Pool"),
        ("s2l_ray.execution.work_units", "from s2l_ray.stages.select import run_select"),
        ("s2l_ray.stages.select", "from s2l_ray.stages.proxy import run_proxy"),
        ("s2l_ray.stages.select", "from s2l_ray.pipeline.plan import RunPlan"),
        ("s2l_ray.pipeline.plan", "from s2l_ray.results.results import collect_results"),
    ],
)
def test_the_order_does_bite(module, line):
    assert len(breaches(line, module)) == 1


def test_rays_private_api_is_touched_in_one_place():
    private = re.compile(r"\b_(internal|private|raylet)\b|ray\.core\.generated|backend_cls|failure_limit|RAY_TRAIN_")
    touching = {module_of(path) for path in FILES if private.search(path.read_text(encoding="utf-8"))}
    assert touching <= {"s2l_ray.execution.ray_internals", "s2l_ray.execution.process_group"}, touching


def loaded_by(*modules, of=("torch", "ray")):
    """Return which libraries of these a fresh Python holds after importing the modules."""
    program = f"import sys, {', '.join(modules)}\nprint(sorted({set(of)!r} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, capture_output=True, text=True)
    return ast.literal_eval(done.stdout)


HEAVY = ("torch", "ray", "transformers", "transformers.trainer", "deepspeed", "datasets", "sklearn", "plotly", "pandas")


@pytest.mark.parametrize(("module", "loads"), [
    ("cli.main", []),  # `s2l --help`
    ("stages.workers.tokenising", ["torch", "transformers"]),  # prepare
    ("stages.workers.sharding", []),
    ("stages.workers.scoring", ["torch", "transformers"]),
    ("stages.workers.embedding", ["torch", "transformers"]),
    ("execution.train_worker", ["datasets", "pandas", "torch", "transformers", "transformers.trainer"]),
])
def test_what_a_step_loads(module, loads):
    assert loaded_by(f"s2l_ray.{module}", of=HEAVY) == loads


def test_the_core_loads_neither_torch_nor_ray():
    light = ("recipe.loading", "tables.schemas", "tables.losses_file", "storage.artifacts", "results.status",
             "progress.bars", "rows.originals", "selectors", "stages.select", "metrics.answers", "report.build",
             "submit.submit", "export.writing", "export.card", "cli.main", "selectors.api")
    assert loaded_by(*(f"s2l_ray.{name}" for name in light)) == []


def test_modeling_runs_on_a_machine_without_ray():
    heavy = ("models", "tokenization", "batching", "losses", "generation", "training", "examples")
    assert loaded_by(*(f"s2l_ray.modeling.{name}" for name in heavy)) == ["torch"]


def test_a_run_is_planned_and_reused_without_what_only_workers_need():
    heavy = ("transformers.modeling_utils", "accelerate", "deepspeed", "sklearn", "scipy", "torch._dynamo", "ray.train")
    stages = [f"s2l_ray.stages.{stage.name}" for stage in STAGES if stage.name not in ("proxy", "finetune")]
    assert loaded_by("s2l_ray.pipeline.plan", "s2l_ray.pipeline.run", "s2l_ray.results.results", *stages, of=heavy) == []


# --- sizes and names ---------------------------------------------------------------------------------


@pytest.mark.parametrize("path", OURS, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_and_functions_stay_small(path):
    source = path.read_text(encoding="utf-8")
    assert len(source.splitlines()) <= 300
    functions = [n for n in ast.walk(ast.parse(source)) if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef))]
    assert [f.name for f in functions if f.end_lineno - f.lineno + 1 > 60] == []


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_an_import_inside_a_function_says_why(path):
    source = path.read_text(encoding="utf-8")
    lines = source.splitlines()
    inside = {
        node.lineno
        for function in ast.walk(ast.parse(source)) if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef))
        for node in ast.walk(function) if isinstance(node, (ast.Import, ast.ImportFrom))
    }

    def says_why(number):
        """A comment on the line, or above the group of imports that it is in."""
        while re.match(r"\s+(from|import) ", lines[number - 1]) or lines[number - 1].strip() in (")", ""):
            if re.search(r"#\s*\w", lines[number - 1]):
                return True
            number -= 1
        return lines[number - 1].strip().startswith("#")

    assert [lines[number - 1].strip() for number in sorted(inside) if not says_why(number)] == []


def test_no_module_is_named_after_nothing():
    vague = {"utils", "util", "helpers", "helper", "common", "misc", "manager"}
    assert [str(path) for path in OURS if vague & {path.stem, *path.relative_to(ROOT).parts}] == []
