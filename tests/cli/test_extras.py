"""Which extra a command lacks: .venv/bin/pytest tests/cli/test_extras.py"""

import importlib.util
import tomllib
from pathlib import Path

import pytest
import typer
from packaging.requirements import Requirement

from s2l_ray.cli.extras import EXTRAS
from s2l_ray.cli.output import exit_codes

PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]


def test_it_knows_what_pyproject_says_and_how_to_import_it():
    for extra, packages in EXTRAS.items():
        names = {Requirement(one).name for one in PROJECT["optional-dependencies"][extra]} - {"s2l-ray"}
        assert {name.replace("-", "_") for name in names} == set(packages)
        assert [name for name in packages if importlib.util.find_spec(name) is None] == []


@pytest.mark.parametrize(("missing", "code", "said"), [
    ("torch", 2, 'error: this command needs torch, which is not installed: pip install "s2l-ray[train]"'),
    ("plotly", 2, 'pip install "s2l-ray[report]"'),
    ("torch.no_such_part", 1, "failed: ModuleNotFoundError"),  # torch is there, of another version
    ("no_such_package", 1, "failed: ModuleNotFoundError"),
])
def test_only_a_missing_extra_is_the_users_to_mend(missing, code, said, capsys):
    with pytest.raises(typer.Exit) as ended, exit_codes(debug=False):
        raise ModuleNotFoundError(f"No module named {missing!r}", name=missing)
    assert ended.value.exit_code == code
    assert said in " ".join(capsys.readouterr().err.split())
