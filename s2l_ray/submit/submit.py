"""Send a recipe to a Ray cluster as a job and follow it: `s2l submit`."""

import asyncio
import contextlib
import ipaddress
import json
import os
import re
import shlex
import socket
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from s2l_ray.errors import InputError
from s2l_ray.progress.notes import note
from s2l_ray.quickstart.setting import MADE_HERE
from s2l_ray.recipe.loading import find_recipe, load_recipe
from s2l_ray.recipe.recipe import Recipe
from s2l_ray.storage.files import Storage
from s2l_ray.storage.secrets import redacted
from s2l_ray.submit.packing import MAX_MIB, pack_project

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

DEFAULT_ADDRESS = "http://127.0.0.1:8265"
UNKNOWN = "UNKNOWN"
_POLL_S = 1.0
_INTERRUPTED = 130
_SIGNAL_BASE = 128  # a shell's exit code for a process that a signal ended


@dataclass(frozen=True)
class Submission:
    """A job as it was last seen."""

    job_id: str
    status: str
    """Ray's (PENDING, RUNNING, STOPPED, SUCCEEDED, FAILED), or UNKNOWN where the job server answers no more."""
    run: str
    """URI of the run's folder, for `s2l status`."""
    exit_code: int = 0
    """The job's own once it has ended; 130 where following it was interrupted."""

    @property
    def record(self) -> dict[str, str]:
        """Return what is told on stdout."""
        return {"job_id": self.job_id, "status": self.status, "run": self.run}


def submit_recipe(
    source: str, overrides: Sequence[str] = (), *, address: str | None = None, follow: bool = True,
    names: Sequence[str] = (), shared: Sequence[Path] = (), sweep: bool = False, max_mib: int = MAX_MIB,
) -> Submission:
    """Submit a recipe to the cluster whose job server answers at `address`, and follow it to its end.

    `names` are environment variables to pass on; `shared` are folders that every node sees as this machine does.

    Raises
    ------
    InputError
        The recipe is wrong, names paths that the cluster cannot see, or is too large with its project; a variable
        is not set; no job server answers, or it wants another token.
    """
    recipe = load_recipe(source, overrides)
    variables = passed_on(names, os.environ)
    address = address_of(address, os.environ)
    with _asking(address):
        from ray.job_submission import JobSubmissionClient  # heavy: Ray

        client = JobSubmissionClient(address)
        here = runs_here(node_addresses(address))
        settings = [*overrides, *visible_paths(recipe, address, here=here, shared=shared)]
        with tempfile.TemporaryDirectory(prefix="s2l-job-") as folder:
            packed = pack_project(find_recipe(source), Path(folder), max_mib=max_mib)
            words = ["python", "jobs/pipeline.py", *(["--sweep"] if sweep else []), packed, *settings]
            job_id = client.submit_job(
                entrypoint=shlex.join(words), runtime_env={"working_dir": folder, "env_vars": variables}
            )
        run = _folder_of(recipe, "sweeps" if sweep else "runs")
        note(f"job {job_id} at {address}; its state from any machine: s2l status {shlex.quote(run)}")
        if not follow:
            return Submission(job_id, str(client.get_job_status(job_id).value), run)
        return _followed(client, address, job_id, run)


def address_of(address: str | None, environment: Mapping[str, str]) -> str:
    """Return the job server's URL: --address, else RAY_API_SERVER_ADDRESS, else a cluster of this machine.

    Raises
    ------
    InputError
        It is no http:// or https:// URL, or holds a login.
    """
    found = address or environment.get("RAY_API_SERVER_ADDRESS") or DEFAULT_ADDRESS
    if redacted(found) != found:
        raise InputError("--address (or RAY_API_SERVER_ADDRESS) holds a login or token: remove it. The cluster's token "
                         "is read from ~/.ray/auth_token or RAY_AUTH_TOKEN")
    if not re.match(r"https?://[^/]", found):
        raise InputError(f"--address {found!r} must be the URL of the cluster's job server, such as {DEFAULT_ADDRESS}")
    return found.rstrip("/")


def passed_on(names: Iterable[str], environment: Mapping[str, str]) -> dict[str, str]:
    """Return the named environment variables with their values. Messages never hold a value.

    Raises
    ------
    InputError
        A name is malformed or not set.
    """
    for name in names:
        plain = name.partition("=")[0]
        if plain != name:
            raise InputError(f"--env {plain}=...: give the name alone; its value is taken from the environment, where "
                             "other users of this machine cannot see it")
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            raise InputError(f"--env {name!r} is no name of an environment variable (letters, digits, underscore)")
        if name not in environment:
            raise InputError(f"--env {name}: this variable is not set here; export it first, or leave it out")
    return {name: environment[name] for name in names}


# --- which paths the cluster sees --------------------------------------------------------------------


def node_addresses(address: str) -> list[str]:
    """Return the IP address of each live node of a cluster."""
    from ray.util.state import list_nodes  # heavy: Ray

    # A cluster that has lost nodes counts them as missing output: what is left out is not alive.
    nodes = list_nodes(address=address, filters=[("state", "=", "ALIVE")], limit=10_000, raise_on_missing_output=False)
    return [node.node_ip for node in nodes]


def runs_here(nodes: Sequence[str]) -> bool:
    """Tell whether all nodes are this machine. A URL of loopback proves nothing: it may be a tunnel."""
    kinds = (socket.AF_INET, socket.AF_INET6)
    mine = {a.address.partition("%")[0] for all_ in psutil.net_if_addrs().values() for a in all_ if a.family in kinds}
    return bool(nodes) and all(node in mine or _is_loopback(node) for node in nodes)


def _is_loopback(node: str) -> bool:
    try:
        return ipaddress.ip_address(node).is_loopback
    except ValueError:  # a name, which may be anybody's
        return False


def visible_paths(recipe: Recipe, address: str, *, here: bool, shared: Sequence[Path] = ()) -> list[str]:
    """Return overrides that make the recipe's local paths absolute: a job has another working directory.

    Raises
    ------
    InputError
        A path is of this machine, the cluster is not on it, and no folder of `shared` holds the path.
    """
    roots = [_absolute(str(folder)) for folder in shared]
    found, hidden = [], []
    for key, value in _paths_of(recipe).items():
        if not _is_local(key, value):
            continue
        path = _absolute(value)
        found.append(f"{key}={json.dumps(str(path))}")
        if not here and not any(path.is_relative_to(root) for root in roots):
            hidden.append(f"{key}={value}")
    if hidden:
        raise InputError(
            f"the cluster at {address} has nodes that are not this machine and cannot see its paths: "
            f"{', '.join(hidden)}. Give storage URIs (s3://bucket/...; for a model its name on the hub), or name a "
            "folder that every node has under the same path with --shared FOLDER. A cluster of this machine alone "
            "takes any path"
        )
    return found


def _paths_of(recipe: Recipe) -> dict[str, str]:
    """Return every key of a recipe that may hold a path: key -> value."""
    places: dict[str, str | None] = {"storage": recipe.storage, **recipe.paths()}
    for name, model in recipe.models().items():
        places |= {f"{name}.path": model.path, f"{name}.tokenizer": model.tokenizer}
    return {key: value for key, value in places.items() if value is not None}


def _is_local(key: str, value: str) -> bool:
    if value == MADE_HERE:  # the job writes these files itself, into its storage
        return False
    if "://" in value:
        return value.startswith("file://")
    if key.endswith((".model.path", ".tokenizer", ".judge.path")):  # else it is a name on the hub
        return value.startswith(("/", "./", "../", "~")) or Path(value).is_dir()
    return True


def _absolute(path: str) -> Path:
    return Path(os.path.abspath(Path(path.removeprefix("file://")).expanduser()))


def _folder_of(recipe: Recipe, kind: str) -> str:
    local = _is_local("storage", recipe.storage)
    return Storage(str(_absolute(recipe.storage)) if local else recipe.storage).uri_of(f"{kind}/{recipe.name}")


# --- the job, once it is there -----------------------------------------------------------------------


def _followed(client: "JobSubmissionClient", address: str, job_id: str, run: str) -> Submission:
    """Stream the job's log to stderr until it ends."""
    import aiohttp  # heavy, and there only with Ray's jobs client

    again = (f"  follow it again: ray job logs --address {address} --follow {job_id}\n"
             f"  stop it:         ray job stop --address {address} {job_id}")
    try:
        try:
            asyncio.run(_stream(client, job_id))
        except (RuntimeError, OSError, aiohttp.ClientError) as error:
            note(f"the log's connection broke ({error}); waiting for the job to end")
        while not (info := client.get_job_info(job_id)).status.is_terminal():
            time.sleep(_POLL_S)
    except KeyboardInterrupt:
        note(f"no longer following: job {job_id} goes on.\n{again}")
        return Submission(job_id, "RUNNING", run, _INTERRUPTED)
    except OSError as error:
        note(f"the job server at {address} answers no more ({error}); if the cluster is still there, job {job_id} goes "
             f"on.\n{again}\nIf it is gone: submit again, finished work is kept and will be reused.")
        return Submission(job_id, UNKNOWN, run, 1)
    status = str(info.status.value)
    code = exit_code_of(status, info.driver_exit_code)
    note(f"job {job_id}: {status.lower()}" + (f", exit code {code}: {info.message}" if code else ""))
    return Submission(job_id, status, run, code)


async def _stream(client: "JobSubmissionClient", job_id: str) -> None:
    async for lines in client.tail_job_logs(job_id):
        sys.stderr.write(lines)
        sys.stderr.flush()


def exit_code_of(status: str, driver_exit_code: int | None) -> int:
    """Return a job's exit code as a shell would: 128 + n after signal n, 1 where Ray knows none, 130 when stopped."""
    if status == "SUCCEEDED":
        return 0
    if status == "STOPPED":
        return _INTERRUPTED
    code = driver_exit_code or 1
    return code if code > 0 else _SIGNAL_BASE - code


@contextlib.contextmanager
def _asking(address: str) -> Iterator[None]:
    """Let Ray's clients ask this job server; say what to do where none answers or it refuses our token."""
    from ray.exceptions import AuthenticationError  # heavy: Ray

    variable = "RAY_API_SERVER_ADDRESS"
    before = os.environ.get(variable)
    os.environ[variable] = address  # Ray lets this and RAY_ADDRESS override the address that it is given
    try:
        yield
    except AuthenticationError as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            f"the cluster at {address} wants its token: {reason}. On a machine that has it, `ray get-auth-token` "
            "prints it; here, put it into ~/.ray/auth_token or RAY_AUTH_TOKEN, and set RAY_AUTH_MODE=token"
        ) from error
    except ConnectionError as error:
        raise InputError(
            f"no job server answers at {address}: start a cluster (`ray up cluster.yaml`, then `ray dashboard "
            "cluster.yaml` for a tunnel to it), or give another --address"
        ) from error
    finally:
        if before is None:
            del os.environ[variable]
        else:
            os.environ[variable] = before
