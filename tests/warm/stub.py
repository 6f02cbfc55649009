"""The stub of warm workers, also for jobs that bring a folder: such a worker is in it and imports from it first."""

import json
import shlex
from pathlib import Path

from s2l_ray.execution import warm_stub

CONTEXT = "--serialized-runtime-env-context="


def request_in_folder(arguments):
    """Return the request for a worker whose runtime environment is a folder and variables.

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
    return request


if __name__ == "__main__":
    warm_stub.main(request_in_folder)
