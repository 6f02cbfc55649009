"""The base install, without its extras: .venv/bin/pytest tests/test_base_install.py"""

import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from s2l_ray.cli.extras import EXTRAS

ROOT = Path(__file__).resolve().parents[1]
LEFT_OUT = {package for packages in EXTRAS.values() for package in packages}  # tests/cli/test_extras.py: as pyproject says
BROUGHT = {"pandas", "fsspec", "httpx", "packaging", "requests", "filelock", "tqdm"}  # by them, and by the base not

# Stands before every program: the packages of the extras are as if they were not installed.
BLOCKED = f"""
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {sorted(LEFT_OUT | BROUGHT)}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Blocked())
"""
# One process for all commands: the imports are what takes time.
S2L = """
import contextlib, io, json
from s2l_ray.cli.main import main
found = []
for line in json.loads(sys.argv[1]):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main(line.split())
        except SystemExit as ended:
            found.append([ended.code or 0, out.getvalue(), err.getvalue()])
print(json.dumps(found))
"""
LOOKING = ["--version", "--help", "selectors", "recipes"]
LACKING = {"run x.jsonl": "train", "init x.jsonl": "train", "select x.jsonl": "train", "sweep x.jsonl": "train",
           "submit quickstart": "train", "report out/runs/x": "report"}
SELECTING = ["select --trajectories t.parquet --budget 0.1 --output by_command",
             "compare by_command by_python --pool t.parquet"]
SELECT = """
import numpy as np
from s2l_ray import InputError, select
chosen = select(np.random.default_rng(0).random((300, 4)), 0.1)
assert len(chosen) == 30 and chosen.num_candidates == 300
chosen.write("by_python")
"""

pytestmark = pytest.mark.timeout(120)


def python(folder, *arguments):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run([sys.executable, *map(str, arguments)], cwd=folder, env=environment, capture_output=True,
                          text=True, check=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """An otherwise empty folder with rows and a table of losses."""
    folder = tmp_path_factory.mktemp("base")
    losses = np.random.default_rng(0).random((300, 4))
    columns = {"example_id": [str(i) for i in range(300)],
               "losses": pa.FixedSizeListArray.from_arrays(pa.array(losses.reshape(-1)), 4)}
    pq.write_table(pa.table(columns), folder / "t.parquet")
    (folder / "x.jsonl").write_text('{"prompt": "a", "completion": "b"}\n')
    return folder


@pytest.fixture(scope="module")
def ended(folder):
    """Command -> its exit code, stdout, stderr; before them `select` chose of the same losses in Python."""
    commands = [*LOOKING, *LACKING, *SELECTING]
    done = python(folder, "-c", BLOCKED + SELECT + S2L, json.dumps(commands))
    assert done.returncode == 0, done.stderr
    return dict(zip(commands, json.loads(done.stdout), strict=True))


def test_it_selects_as_the_api_does_and_compares(ended, folder):
    assert [ended[command][0] for command in SELECTING] == [0, 0], ended
    same = [(folder / name / "selection.parquet").read_bytes() for name in ("by_command", "by_python")]
    assert same[0] == same[1]
    assert json.loads(ended[SELECTING[1]][1].splitlines()[-1])["pairs"][0]["jaccard"] == 1


@pytest.mark.parametrize("command", LOOKING)
def test_what_only_looks_works(ended, command):
    code, out, _ = ended[command]
    assert code == 0 and out


@pytest.mark.parametrize("command", LACKING)
def test_a_command_says_what_it_lacks_and_how_to_get_it(ended, folder, command):
    code, out, err = ended[command]
    assert (code, out) == (2, "") and "Traceback" not in err
    assert f'which is not installed: pip install "s2l-ray[{LACKING[command]}]"' in " ".join(err.split())
    assert {path.name for path in folder.iterdir()} == {"t.parquet", "x.jsonl", "by_python", "by_command"}


@pytest.mark.parametrize("program", ["import s2l_ray", "from s2l_ray import InputError, select"])
def test_importing_brings_nothing_heavy(program, tmp_path):
    done = python(tmp_path, "-c", f"{program}; import sys; print(sorted({LEFT_OUT!r} & sys.modules.keys()))")
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_importing_takes_less_than_a_third_of_a_second(tmp_path):
    def seconds(program):
        taken = []
        for _ in range(5):
            started = time.perf_counter()
            assert python(tmp_path, "-c", program).returncode == 0
            taken.append(time.perf_counter() - started)
        return statistics.median(taken)

    assert seconds("import s2l_ray") - seconds("pass") < 0.3


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_a_wheel_without_extras_installs_neither_torch_nor_ray_and_selects(folder, tmp_path):
    """As a user has it: a wheel of the project in a virtual environment of its own, from the package index."""
    subprocess.run([sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", tmp_path, ROOT], check=True)
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    run, (wheel,) = tmp_path / "venv" / "bin", tmp_path.glob("*.whl")
    subprocess.run([run / "pip", "install", "--quiet", "--constraint", ROOT / "constraints.txt", wheel], check=True)
    listed = subprocess.run([run / "pip", "list", "--format", "json"], check=True, capture_output=True, text=True)
    installed = {package["name"].lower().replace("-", "_") for package in json.loads(listed.stdout)}
    assert "pyarrow" in installed and not installed & LEFT_OUT
    subprocess.run([run / "python", "-c", SELECT], cwd=tmp_path, check=True)
    for arguments, code in ((["select", "--trajectories", folder / "t.parquet", "--budget", "0.1", "--output", "chosen"], 0),
                            (["compare", "chosen", "by_python"], 0), (["run", folder / "x.jsonl"], 2)):
        done = subprocess.run([run / "s2l", *arguments], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stderr
