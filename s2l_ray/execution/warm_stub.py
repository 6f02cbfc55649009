"""What Ray starts in place of its own set-up script: it asks the warm server for a worker, else does as Ray would.

A script of its own, gone after a moment, hence few imports. Ray knows a worker by the id among its arguments, not by
the process that it started, and so does not mind that this one ends. Whatever goes wrong here, Ray's script still runs.
"""

import json
import os
import resource
import socket
import sys
from collections.abc import Callable, Sequence
from typing import Any

SOCKET = "S2L_WARM_SOCKET"
"""Environment variable: where the server listens."""
SETUP = "S2L_WARM_SETUP"
"""Environment variable: Ray's own set-up script."""
PATIENCE_S = 30
"""How long to wait for a server that is still loading. Ray gives a worker 60 s to report, a cold start included."""
LIMITS = ("RLIMIT_NOFILE", "RLIMIT_NPROC", "RLIMIT_CORE", "RLIMIT_STACK", "RLIMIT_AS")


class ColdStartError(Exception):
    """This worker cannot be forked."""


def worker_of(arguments: list[str]) -> tuple[list[str], dict[str, str]]:
    """Return the worker's command and its runtime environment's variables.

    Raises
    ------
    ColdStartError
        It is no Python worker, or its runtime environment is more than variables.
    """
    options = {"--language": "", "--serialized-runtime-env-context": "{}"}
    command = []
    for argument in arguments:
        name, _, value = argument.partition("=")
        if name in options:
            options[name] = value
        else:
            command.append(argument)
    if options["--language"] != "PYTHON" or os.path.basename(command[0]) != "default_worker.py":
        raise ColdStartError(f"{command[0]} is no worker in Python")
    context = {name: value for name, value in json.loads(options["--serialized-runtime-env-context"]).items() if value}
    variables = context.pop("env_vars", {})
    if context.pop("py_executable", sys.executable) != sys.executable or context:
        raise ColdStartError("its runtime environment is more than variables")
    if any("$" in value for value in variables.values()):
        raise ColdStartError("its runtime environment has variables made of others")
    return command, variables


def request_of(arguments: list[str]) -> dict[str, Any]:
    """Return all that makes a process this one: what the server's child takes over."""
    command, variables = worker_of(arguments)
    return request_for(command, {**os.environ, **variables})


def request_for(command: list[str], environment: dict[str, str]) -> dict[str, Any]:
    """Return the request for a process with this command and environment, and all else as it is here."""
    umask = os.umask(0o077)
    os.umask(umask)
    return {
        "command": command, "environment": environment, "folder": os.getcwd(), "umask": umask,
        "nice": os.nice(0), "limits": {name: resource.getrlimit(getattr(resource, name)) for name in LIMITS},
        "executable": sys.executable,
    }


def ask(
    address: str, request: dict[str, Any], files: Sequence[int] = (0, 1, 2), patience_s: float = PATIENCE_S
) -> int:
    """Have the server fork this worker, with these files as its standard ones; return its process id.

    The child waits for our word: were it not for that, a stub that lost patience as the server forked would leave two
    workers of one id.

    Raises
    ------
    ColdStartError
        The server refuses.
    OSError
        It is not there, or does not answer in time.
    """
    message = json.dumps(request).encode()
    with socket.socket(socket.AF_UNIX) as server:
        server.settimeout(patience_s)
        server.connect(address)
        socket.send_fds(server, [len(message).to_bytes(8, "big")], files)
        server.sendall(message)
        answer = server.recv(4096)
        if not answer.isdigit():
            raise ColdStartError(answer.decode() or "the server ended")
        server.sendall(b"go")
    return int(answer)


def main(describe: Callable[[list[str]], dict[str, Any]] = request_of) -> None:
    """Get the worker started, one way or the other; `describe` makes a request of its arguments."""
    address, setup = os.environ.pop(SOCKET), os.environ.pop(SETUP)
    try:
        ask(address, describe(sys.argv[1:]))
    except Exception as error:  # whatever it is: Ray's own way is still open
        sys.stderr.write(f"warm start: {error!r}; this worker starts cold\n")
        sys.stderr.flush()
        os.execv(sys.executable, [sys.executable, setup, *sys.argv[1:]])


if __name__ == "__main__":
    main()
