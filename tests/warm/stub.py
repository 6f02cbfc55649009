"""The stub of warm workers, also for jobs that bring a folder: such a worker is in it and imports from it first."""

import json
import os
import shlex
import sys
from pathlib import Path

from s2l_ray.execution import warm_stub

CONTEXT = "--serialized-runtime-env-context="


def ask_in_folder(address, arguments):
    """Have the server fork a worker whose runtime environment is a folder and variables.

    Raises
    ------
    ColdStartError
        It is more than that.
    """
    contexts = [argument for argument in arguments if argument.startswith(CONTEXT)]
    context = json.loads(contexts[0].removeprefix(CONTEXT)) if contexts else {}
    match context.get("command_prefix"):
        case ["cd", quoted, "&&"]:
            del context["command_prefix"]
            (folder,) = shlex.split(quoted)
        case _:
            folder = ""
    path = context.get("env_vars", {}).pop("PYTHONPATH", "") if folder else ""
    request = warm_stub.request_of([*(argument for argument in arguments if argument not in contexts),
                                    f"{CONTEXT}{json.dumps(context)}"])
    if folder:
        script = str(Path(__file__).with_name("in_folder.py"))
        request |= {"folder": folder, "command": [script, path, *request["command"]]}
    warm_stub.ask(address, request)


if __name__ == "__main__":
    address, setup = os.environ.pop(warm_stub.SOCKET), os.environ.pop(warm_stub.SETUP)
    try:
        ask_in_folder(address, sys.argv[1:])
    except Exception as error:  # whatever it is: Ray's own way is still open
        sys.stderr.write(f"warm start: {error!r}; this worker starts cold\n")
        sys.stderr.flush()
        os.execv(sys.executable, [sys.executable, setup, *sys.argv[1:]])
