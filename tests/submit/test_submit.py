"""What `s2l submit` sends and what it refuses: .venv/bin/pytest tests/submit/test_submit.py"""

import shlex
import socket

import pytest
import yaml

from s2l_ray.cli.main import main
from s2l_ray.errors import InputError
from s2l_ray.recipe.loading import load_recipe, shipped_recipes
from s2l_ray.submit.packing import PACKED, pack_project
from s2l_ray.submit.submit import address_of, exit_code_of, passed_on, runs_here, visible_paths

ADDRESS = "http://10.0.0.7:8265"


@pytest.fixture
def project(tmp_path):
    """A project of a few files."""
    folder = tmp_path / "project"
    for name, content in {"s2l_ray/cli.py": "cli", "s2l_ray/__pycache__/cli.pyc": "no", "jobs/pipeline.py": "go",
                          "jobs/recipes/math.yaml": "shipped", "pyproject.toml": "", "constraints.txt": "",
                          ".git/objects": "no", ".venv/big": "no", "out/data.parquet": "no", "secret.env": "no"}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    return folder


@pytest.fixture
def recipe(tmp_path):
    file = tmp_path / "math.yaml"
    file.write_text("mine")
    return file


def files_of(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


# --- packing -----------------------------------------------------------------------------------------


def test_the_project_and_the_recipe_are_packed_and_nothing_else(project, recipe, tmp_path):
    (tmp_path / "job").mkdir()
    assert pack_project(recipe, tmp_path / "job", project=project) == "jobs/recipes/math.yaml"
    assert files_of(tmp_path / "job") == {"s2l_ray/cli.py", "jobs/pipeline.py", "jobs/recipes/math.yaml",
                                          "pyproject.toml", "constraints.txt"}
    assert (tmp_path / "job/jobs/recipes/math.yaml").read_text() == "mine", "not the shipped one of its name"
    assert (project / "jobs/recipes/math.yaml").read_text() == "shipped", "the project itself is left as it is"


def test_every_shipped_recipe_fits_with_the_real_project(tmp_path):
    for name, file in shipped_recipes().items():
        (tmp_path / name).mkdir()
        place = pack_project(file, tmp_path / name)
        assert load_recipe(tmp_path / name / place, ["data.path=x", "data.hub_name=null"]).name == name
    assert {path.name for path in (tmp_path / "quickstart").iterdir()} == set(PACKED)


def test_a_folder_over_the_limit_is_refused_with_its_largest_files(project, recipe, tmp_path):
    (tmp_path / "job").mkdir()
    (project / "jobs" / "weights.bin").write_bytes(bytes(3 << 20))
    (project / "jobs" / "rows.jsonl").write_bytes(bytes(1 << 20))
    with pytest.raises(InputError, match=r"4\.0 MiB, above --max-mib 2\..*: jobs/weights.bin 3\.0 MiB; jobs/rows.jsonl 1\.0"):
        pack_project(recipe, tmp_path / "job", project=project, max_mib=2)


@pytest.mark.parametrize("max_mib", [0, 501])
def test_the_limit_is_within_rays(project, recipe, tmp_path, max_mib):
    with pytest.raises(InputError, match=f"--max-mib {max_mib} must be between 1 and 500"):
        pack_project(recipe, tmp_path, project=project, max_mib=max_mib)


def test_an_installed_package_without_its_project_is_refused(recipe, tmp_path):
    with pytest.raises(InputError, match=r"holds no s2l_ray, jobs.*submit from a checkout"):
        pack_project(recipe, tmp_path, project=tmp_path)


# --- environment -------------------------------------------------------------------------------------


def test_named_variables_are_passed_on_and_no_others():
    assert passed_on(["HF_TOKEN"], {"HF_TOKEN": "secret", "AWS_SECRET_ACCESS_KEY": "other"}) == {"HF_TOKEN": "secret"}
    assert passed_on([], {"HF_TOKEN": "secret"}) == {}


@pytest.mark.parametrize(("name", "message"), [
    ("WANDB_KEY", "--env WANDB_KEY: this variable is not set here; export it first"),
    ("HF_TOKEN=secret", "--env HF_TOKEN=...: give the name alone"),
    ("HF TOKEN", "no name of an environment variable"),
])
def test_what_cannot_be_passed_on_is_refused_without_its_value(name, message):
    with pytest.raises(InputError, match=message.replace("...", r"\.\.\.")) as refused:
        passed_on([name], {"HF_TOKEN": "secret"})
    assert "secret" not in str(refused.value)


# --- addresses ---------------------------------------------------------------------------------------


def test_the_flag_comes_before_the_environment():
    variables = {"RAY_API_SERVER_ADDRESS": "http://head:8265/"}
    assert address_of(ADDRESS, variables) == ADDRESS
    assert address_of(None, variables) == "http://head:8265"
    assert address_of(None, {}) == "http://127.0.0.1:8265"


@pytest.mark.parametrize("address", ["10.0.0.7:8265", "ray://10.0.0.7:10001", "http://"])
def test_an_address_is_a_url(address):
    with pytest.raises(InputError, match=r"must be the URL of the cluster's job server"):
        address_of(address, {})


def test_a_cluster_is_here_when_all_its_nodes_are():
    assert runs_here(["127.0.0.1"]) and runs_here(["127.0.0.1", "::1"])
    assert not runs_here(["127.0.0.1", "203.0.113.9"])  # a documentation address: nobody's
    assert not runs_here(["node-7.example.com"])
    assert not runs_here([]), "nothing is known of it"


# --- paths -------------------------------------------------------------------------------------------


@pytest.fixture
def local_recipe(small_recipe, word_problems):
    return small_recipe(word_problems, "./out")


def test_local_paths_are_refused_where_the_cluster_cannot_see_them(local_recipe, word_problems):
    with pytest.raises(InputError) as refused:
        visible_paths(local_recipe, ADDRESS, here=False)
    message = str(refused.value)
    for key in ("storage=./out", f"data.path={word_problems}", "proxy.model.path=", "target.model.path=", "evaluation.tasks.0.path="):
        assert key in message
    assert ADDRESS in message and "--shared FOLDER" in message and "s3://" in message and "cluster of this machine" in message


def test_uris_and_names_on_the_hub_go_anywhere(local_recipe):
    phi2 = load_recipe("mathinstruct-phi2", ["storage=s3://bucket/s2l"])
    assert visible_paths(phi2, ADDRESS, here=False) == []
    with pytest.raises(InputError, match=r"storage=\./out"):
        visible_paths(load_recipe("mathinstruct-phi2"), ADDRESS, here=False)
    with pytest.raises(InputError, match=r"storage=file:///out"):
        visible_paths(load_recipe("mathinstruct-phi2", ["storage=file:///out"]), ADDRESS, here=False)
    with pytest.raises(InputError, match=r"target\.model\.path=/models/phi-2"):
        visible_paths(load_recipe("mathinstruct-phi2", ["storage=s3://b", "target.model.path=/models/phi-2"]), ADDRESS, here=False)


def test_a_cluster_of_this_machine_gets_absolute_paths(local_recipe, word_problems, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = visible_paths(local_recipe, "http://127.0.0.1:8265", here=True)
    assert f'storage="{tmp_path}/out"' in settings
    file = tmp_path / "recipe.yaml"
    file.write_text(yaml.safe_dump(local_recipe.model_dump(mode="json")))
    words = shlex.split(shlex.join(settings))
    sent = load_recipe(file, words)
    assert sent.storage == str(tmp_path / "out") and sent.data.path == str(word_problems / "pool.jsonl")
    assert sent.evaluation.tasks[0].path == str(word_problems / "held_out.jsonl")


def test_a_shared_folder_is_as_good_as_a_uri(word_problems, small_recipe, tmp_path):
    recipe = small_recipe(word_problems, tmp_path / "out")
    with pytest.raises(InputError, match=r"proxy\.model\.path") as refused:
        visible_paths(recipe, ADDRESS, here=False, shared=[tmp_path, word_problems])
    assert "storage=" not in str(refused.value) and "data.path=" not in str(refused.value)


def test_a_login_in_the_job_servers_address_is_refused_and_not_repeated():
    with pytest.raises(InputError, match="RAY_AUTH_TOKEN") as refused:
        address_of("https://me:hunter2@cluster.example", {})
    assert "hunter2" not in str(refused.value)


def test_data_that_the_job_makes_itself_is_no_path():
    recipe = load_recipe("quickstart", ["storage=s3://bucket/s2l"])
    assert not [text for text in visible_paths(recipe, ADDRESS, here=True) if text.startswith("data.path")]


# --- the end -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("status", "driver", "code"), [
    ("SUCCEEDED", 0, 0), ("FAILED", 2, 2), ("FAILED", None, 1), ("FAILED", -9, 137), ("FAILED", 0, 1), ("STOPPED", -15, 130),
])
def test_the_exit_code_is_the_jobs(status, driver, code):
    assert exit_code_of(status, driver) == code


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as ended:
        main(["submit", *map(str, arguments)])
    output = capsys.readouterr()
    return ended.value.code or 0, output.out, " ".join(output.err.split())


def test_a_wrong_recipe_is_refused_before_any_cluster_is_asked(capsys):
    code, out, err = run(capsys, "mathinstruct-phi2", "seed=x", "--address", "http://127.0.0.1:1")
    assert (code, out) == (2, "") and "seed='x'" in err


def test_where_no_job_server_answers_it_says_so(capsys):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: a connection is refused
        address = f"http://127.0.0.1:{taken.getsockname()[1]}"
        code, out, err = run(capsys, "mathinstruct-phi2", "--address", address)
    assert (code, out) == (2, "") and f"no job server answers at {address}" in err and "ray dashboard" in err
