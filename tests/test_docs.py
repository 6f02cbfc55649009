"""README and docs/ say what is so: .venv/bin/pytest tests/test_docs.py"""

import importlib.util
import re
import shlex
from pathlib import Path

import pytest
import typer
import yaml

from s2l_ray.cli.main import app
from s2l_ray.recipe.loading import load_recipe, parse_recipe, shipped_recipes
from s2l_ray.recipe.registry import FORMATS, METRICS, SELECTORS, SHAPES, TRAINERS

ROOT = Path(__file__).resolve().parent.parent
PAGES = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
         for path in (*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"))}
README = PAGES["README.md"]


def lines_of(language):
    """(page, line) of every block in a language, joined where a backslash ends a line, without comments."""
    for page, text in PAGES.items():
        for block in re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL):
            for line in block.replace("\\\n", " ").splitlines():
                if line.strip() and not line.lstrip().startswith("#"):
                    yield page, line.split("  #")[0].strip()


COMMANDS = [(page, line) for page, line in lines_of("sh") if line.split()[0] == "s2l"]
SCRIPTS = [(page, line) for page, line in lines_of("sh") if line.startswith("python ")]


def test_the_readme_is_short_and_begins_with_two_commands():
    assert len(README.splitlines()) <= 150
    assert [line for page, line in lines_of("sh") if page == "README.md"][:2] == ["make quickstart", "make test"]


def test_all_pages_are_there_and_can_be_reached_from_the_readme():
    wanted = {"recipe", "models", "python", "data", "selectors", "sweeps", "cluster", "recovery", "results", "architecture",
              "export"}
    assert {Path(page).stem for page in PAGES if page.startswith("docs/")} == wanted
    assert all(f"]({page})" in README for page in PAGES if page != "README.md")


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", PAGES[page])
    local = [link for link in links if "://" not in link]
    assert [link for link in local if not ((ROOT / page).parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES)
def test_paths_that_are_named_are_there(page):
    named = re.findall(r"(?<![\w/.<-])((?:s2l_ray|tests|jobs|docs)/[\w./*-]*[\w*/])", PAGES[page])
    gone = set(re.findall(r"`(\S+)` is `tests/", PAGES[page])) if page == "CHANGELOG.md" else set()  # what was moved
    wanted = set(named) - set(re.findall(r"<!-- file: (\S+) -->", PAGES[page])) - gone
    assert [name for name in sorted(wanted) if not list(ROOT.glob(name.rstrip("/")))] == []


def test_make_targets_exist():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    used = {target for text in PAGES.values() for target in re.findall(r"(?:^|`)make ([a-z-]+)", text, re.MULTILINE)}
    assert {"quickstart", "test", "test-long"} <= used <= targets | {"test-slow"}  # which the changelog says is gone


@pytest.mark.parametrize(("page", "line"), COMMANDS, ids=lambda value: value.replace("/", "-"))
def test_every_command_is_one_that_exists(page, line):
    name, *words = shlex.split(line)[1:]
    command = typer.main.get_command(app).commands[name]
    if "--help" not in words:
        parsed = command.make_context(name, list(words))  # refuses unknown options
        assert "debug" in parsed.params
    recipes = [word for word in words if word in shipped_recipes()]
    overrides = [word for word in words if re.match(r"^[a-z_.0-9]+=", word)]
    if recipes:
        load_recipe(recipes[0], overrides)


@pytest.mark.parametrize("page", PAGES)
def test_commands_within_a_sentence_exist_too(page):
    commands = typer.main.get_command(app).commands
    for line in re.findall(r"`s2l ([^`\n]+)`", PAGES[page]):
        name, *words = line.split()
        if not name.startswith("-"):
            known = {option for parameter in commands[name].params for option in parameter.opts}
            assert {word for word in words if word.startswith("--")} <= known, line


@pytest.mark.parametrize(("page", "line"), SCRIPTS, ids=lambda value: value.replace("/", "-"))
def test_every_script_is_there_and_takes_these_options(page, line):
    _, script, *words = shlex.split(line)
    source = (ROOT / script).read_text(encoding="utf-8")
    assert [word for word in words if word.startswith("--") and f'"{word}"' not in source] == []


def test_the_python_on_its_page_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", PAGES["docs/python.md"], re.DOTALL)
    names = {}
    for block in blocks:  # one after another, as somebody reads them
        exec(block, names)
    assert len(blocks) >= 3 and (tmp_path / "chosen" / "selection.parquet").exists()


def test_the_package_on_the_page_is_the_one_that_is_tested():
    plugin = ROOT / "tests" / "plugin" / "letters"
    for language, file in (("toml", "pyproject.toml"), ("python", "test_letters.py")):
        (block,) = re.findall(rf"```{language}\n(.*?)```", PAGES["docs/selectors.md"], re.DOTALL)
        lines = (plugin / file).read_text(encoding="utf-8").splitlines()
        assert [line for line in block.splitlines() if line not in lines] == []


@pytest.mark.parametrize("page", [page for page, text in PAGES.items() if "```yaml" in text])
def test_recipes_on_the_page_are_recipes(page):
    for snippet in re.findall(r"```yaml\n(.*?)```", PAGES[page], re.DOTALL):
        assert parse_recipe(yaml.safe_load(snippet)).selection.budget == 0.11


@pytest.fixture(scope="module")
def reference():
    """docs/make_reference.py, as a module."""
    spec = importlib.util.spec_from_file_location("make_reference", ROOT / "docs" / "make_reference.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_what_is_generated_is_what_the_code_says(reference):
    assert reference.stale() == [], "run: python docs/make_reference.py"
    for name in reference.PARTS:
        assert sum(text.count(f"<!-- generated: {name} -->") for text in PAGES.values()) == 1
    for registry, page in ((SELECTORS, "selectors"), (METRICS, "results"), (SHAPES, "data"), (FORMATS, "data")):
        text = PAGES[f"docs/{page}.md"]
        assert [name for name in registry.own if f"| `{name}` |" not in text] == []


def test_every_trainer_is_on_the_page_with_its_data_and_command():
    rows = {row[0].strip(" `"): row for row in (line.split("|")[1:-1] for line in PAGES["docs/export.md"].splitlines() if line.startswith("| `"))}
    assert set(rows) == {name.replace("_", "-") for name in TRAINERS.names}
    for trainer in TRAINERS:
        _, _, layout, command, _ = rows[trainer.name.replace("_", "-")]
        assert trainer.data_file in layout and command.strip(" `") in trainer.start()


def test_what_is_stale_is_named_with_the_command_and_written_again(reference, tmp_path, monkeypatch, capsys):
    page = tmp_path / "results.md"
    page.write_text("Before.\n<!-- generated: metrics -->\nold\n<!-- end -->\nBehind.\n")
    monkeypatch.setattr(reference, "DOCS", tmp_path)
    monkeypatch.setattr("sys.argv", ["make_reference.py", "--check"])
    assert reference.main() == 1 and "old" in page.read_text()
    said = capsys.readouterr().err
    assert "docs/results.md" in said and "python docs/make_reference.py" in said
    monkeypatch.setattr("sys.argv", ["make_reference.py"])
    assert reference.main() == 0 and reference.stale() == []
    written = page.read_text()
    assert written.startswith("Before.\n") and written.endswith("Behind.\n") and "| `exact_match` |" in written


def test_every_key_is_described_with_its_bounds():
    rows = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
            for line in PAGES["docs/recipe.md"].splitlines() if line.startswith("| `")]
    assert len(rows) > 100
    assert [row[0] for row in rows if len(row) != 4 or not all(row)] == []
    types = {(row[0], row[1]) for row in rows}
    assert {("`budget`", "whole number >= 1 or number > 0 and <= 1"), ("`max_steps`", "whole number >= 1 or null"),
            ("`warmup_fraction`", "number >= 0 and <= 1")} <= types


def test_the_tree_names_every_part():
    block = re.search(r"<!-- tree -->\n```\n(.*?)```", README, re.DOTALL)[1]
    rooms = re.findall(r"^  ([a-z]+)/", block, re.MULTILINE)
    packages = [path.name for path in (ROOT / "s2l_ray").iterdir() if (path / "__init__.py").exists()]
    assert sorted(rooms) == sorted(packages)
    for room in packages:
        assert f"| `{room}` |" in PAGES["docs/architecture.md"]
    tops = re.findall(r"^(\w+)/", block, re.MULTILINE)
    assert sorted(tops) == ["docs", "jobs", "s2l_ray", "tests"]


def test_numbers_in_words_are_right():
    assert "and more than twenty other selectors" in README and len(SELECTORS.names) - 1 > 20
    rooms = [path for path in (ROOT / "s2l_ray").iterdir() if (path / "__init__.py").exists()]
    assert f"The package has {len(rooms) + 2} rooms" in PAGES["docs/architecture.md"]  # errors.py and testing.py are, too
