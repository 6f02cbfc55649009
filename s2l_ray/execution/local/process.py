"""One worker process of this machine, as the driver sees it."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from s2l_ray.errors import InputError
from s2l_ray.execution.local.worker import ERROR
from s2l_ray.execution.warm_stub import ColdStartError, ask, request_for

_SCRIPT = Path(__file__).with_name("worker.py")
_PATIENCE_S = 120.0
"""How long to wait for a server that is still loading: by itself, a worker takes as long."""


class CallError(RuntimeError):
    """A call failed in its process, or the process died before it had answered."""

    def __init__(self, text: str, trace: str = "", *, has_died: bool = False) -> None:
        super().__init__(text)
        self.trace, self.has_died = trace, has_died
        if trace:
            self.add_note(trace)


class WorkerProcess:
    """A process that does calls one after another; it ends with us."""

    def __init__(self, server: Path | None, environment: Mapping[str, str], log: Path) -> None:
        """Start it: forked by the server at this address, or where there is none or it refuses, as a new Python."""
        self._log = log
        self._child: subprocess.Popen[bytes] | None = None
        self._pid: int | None = None
        self.is_cold_because = ""
        ours, theirs = socket.socketpair()
        with theirs, log.open("wb") as output:
            files = [theirs.fileno(), output.fileno(), output.fileno()]
            if server is not None:
                try:
                    request = request_for([str(_SCRIPT)], dict(environment))
                    self._pid = ask(str(server), request, files, _PATIENCE_S)
                except (ColdStartError, OSError) as error:
                    self.is_cold_because = str(error)
            if self._pid is None:
                self._child = subprocess.Popen([sys.executable, str(_SCRIPT)], stdin=files[0], stdout=files[1],
                                               stderr=files[2], env=dict(environment), start_new_session=True)
                self._pid = self._child.pid
        self.connection = Connection(ours.detach())
        self._send(sys.path)  # a script that the user runs may have added to it

    def call(self, function: Callable[..., Any], *, reports: bool = False, **arguments: Any) -> None:
        """Have it call the function; `receive` returns what comes of it.

        With `reports`, the function is given `report` too, a function that sends a message on the way.
        """
        self._send((function, arguments, reports))

    def _send(self, message: object) -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it died: receive says so
            self.connection.send(message)

    def receive(self) -> tuple[str, Any]:
        """Return its next message, waiting for it: what was reported on the way, or what the call returned.

        Raises
        ------
        InputError
            The call did: the user's to fix.
        CallError
            The call failed, or the process died.
        """
        try:
            kind, found = self.connection.recv()
        except (EOFError, OSError) as error:
            why = "its process died (out of memory, or a crash in a library)"
            raise CallError(f"{why}{self._last_words()}", has_died=True) from error
        if kind != ERROR:
            return kind, found
        name, text, trace = found
        if name == InputError.__name__:
            raise InputError(text)
        raise CallError(f"{name}: {text}", trace)

    def _last_words(self) -> str:
        lines = self._log.read_text(errors="replace").splitlines()
        return f": {lines[-1]}" if lines else ""

    def end(self) -> None:
        """End it and what it started, whatever they do."""
        self.connection.close()
        assert self._pid is not None
        with contextlib.suppress(ProcessLookupError):  # it has ended by itself
            os.killpg(self._pid, signal.SIGKILL)
        if self._child is not None:
            self._child.wait()
