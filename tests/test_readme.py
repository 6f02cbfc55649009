"""The README says what is so: .venv/bin/pytest tests/test_readme.py"""

import re
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml

from s2l_ray.cli import app
from s2l_ray.recipes import load_recipe, shipped_recipes

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def tree_in_readme():
    """Paths of the tree block: two spaces of indentation a level, a comment after two blanks."""
    block = re.search(r"<!-- tree -->\n```\n(.*?)```", README, re.DOTALL)
    assert block, "the README has no tree block"
    paths, folders = [], []
    for line in block[1].splitlines():
        name = line.strip().split("  ")[0]
        depth = (len(line) - len(line.lstrip())) // 2
        folders = [*folders[:depth], name]
        if not name.endswith("/"):
            paths.append("".join(folders))
    return paths


def tracked():
    listed = subprocess.run(["git", "-C", ROOT, "ls-files", "--cached", "--others", "--exclude-standard"],
                            capture_output=True, text=True, check=True)
    return [path for path in listed.stdout.splitlines() if (ROOT / path).is_file()]


def test_the_file_tree_names_every_module_and_nothing_else():
    wanted = {path for path in tracked() if path.endswith((".py", ".yaml")) and not path.startswith("tests/")
              and not path.endswith("__init__.py")}
    named = {path for path in tree_in_readme() if path.endswith((".py", ".yaml"))}
    assert named == wanted


def test_every_path_of_the_file_tree_exists():
    assert [path for path in tree_in_readme() if not (ROOT / path).exists()] == []


def shell_lines():
    blocks = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    joined = "\n".join(blocks).replace("\\\n", " ")
    return [line.split("  #")[0].strip() for line in joined.splitlines() if line.strip() and not line.startswith("#")]


def test_make_targets_exist():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    used = {line.split()[1] for line in shell_lines() if line.startswith("make ")}
    assert {"quickstart", "test"} <= used <= targets


def test_the_first_two_commands_are_quickstart_and_test():
    assert shell_lines()[:2] == ["make quickstart", "make test"]


@pytest.mark.parametrize("line", [line for line in shell_lines() if re.search(r"(^|/)s2l |jobs/pipeline.py", line)])
def test_every_command_is_one_that_exists(line):
    words = shlex.split(line)
    if "jobs/pipeline.py" in words:
        words = ["s2l", "run", *words[words.index("jobs/pipeline.py") + 1:]]
    words = words[next(i for i, word in enumerate(words) if word.endswith("s2l")) + 1:]
    commands = {command.name or command.callback.__name__: command for command in app.registered_commands}
    assert words[0] in commands
    recipes = [word for word in words[1:] if word in shipped_recipes()]
    overrides = [word for word in words if re.match(r"^[a-z_.0-9]+=", word)]
    if recipes:
        load_recipe(recipes[0], overrides)


def test_recipe_snippets_are_recipes():
    snippets = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)
    assert snippets
    for snippet in snippets:
        assert isinstance(yaml.safe_load(snippet), dict)
