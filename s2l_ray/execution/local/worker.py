"""What runs in a worker of this machine: calls that come through a socket, one after another, until the driver ends.

A script of its own, run by a fork of warm_server.py or by a new Python; the socket is its standard input.
"""

import os
import select
import sys
import threading
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

Failure = tuple[str, str, str]
"""The class, text and trace of an exception, which itself may not travel."""
REPORT, RESULT, ERROR = "report", "result", "error"
"""Kinds of message to the driver: what a call reports on its way, what it returned, or its `Failure`."""


def end_with_driver(socket: int) -> None:
    """End this process, whatever it does, when the other end of the socket is gone."""
    gone = select.poll()
    gone.register(socket, getattr(select, "POLLRDHUP", select.POLLHUP))

    def watch() -> None:
        gone.poll()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def answer(call: tuple[Callable[..., Any], dict[str, Any], bool], driver: Connection) -> tuple[str, Any]:
    """Do a call, which is given what it reports with where it asks for that, and return the message about it."""
    function, arguments, reports = call
    if reports:
        arguments["report"] = lambda report: driver.send((REPORT, report))
    try:
        return RESULT, function(**arguments)
    except Exception as error:  # the driver decides what becomes of it
        return ERROR, (type(error).__name__, str(error), traceback.format_exc())


def main() -> None:
    """Answer calls."""
    socket = os.dup(0)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)  # what we start must not keep the socket open
    end_with_driver(socket)
    driver = Connection(socket)
    sys.path.extend(folder for folder in driver.recv() if folder not in sys.path)
    while True:
        try:
            call = driver.recv()
        except EOFError:
            return
        driver.send(answer(call, driver))


if __name__ == "__main__":
    del sys.path[0]  # this folder: its names are not those of packages
    main()
