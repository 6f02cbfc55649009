"""Compare expressions by what they mean, with math-verify, in a process of its own that can be ended.

A model's answer may be anything: `9^(9^9)` would take a computer algebra system for ever. So a child compares, under a
limit of memory, and is ended where it takes too long; the next question starts another.
"""

import atexit
import contextlib
import functools
import json
import os
import selectors
import subprocess
import sys
import threading
from typing import Any

MAX_SECONDS = 5.0
"""For one comparison; beyond it there is no verdict."""
_START_SECONDS = 120.0  # the child's own imports, on a machine that is busy
_MAX_BYTES = 4 << 30  # of the child's addresses
_CHILD = "from s2l_ray.metrics.symbolic import serve; serve()"


@functools.lru_cache(maxsize=10_000)
def same_value(predicted: str, reference: str) -> bool | None:
    """Return whether two tidied answers are the same value, None where that cannot be said in time."""
    return _JUDGE.ask(predicted, reference)


class _Judge:
    """One child process, started when it is first asked, and again after one that had to be ended."""

    def __init__(self) -> None:
        self._child: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()  # one question at a time

    def ask(self, predicted: str, reference: str) -> bool | None:
        with self._lock:
            if self._child is None or self._child.poll() is not None:
                self._start()
            assert self._child is not None and self._child.stdin is not None
            try:
                self._child.stdin.write(json.dumps([predicted, reference]).encode() + b"\n")
                self._child.stdin.flush()
                answer = self._line(MAX_SECONDS)
            except BrokenPipeError:  # it ran out of memory between two questions
                answer = None
            if answer is None:
                self.end()
                return None
            found: bool | None = json.loads(answer)
            return found

    def _start(self) -> None:
        self._child = subprocess.Popen([sys.executable, "-c", _CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                       stderr=subprocess.DEVNULL)
        if self._line(_START_SECONDS) != b"ready\n":
            self.end()
            raise RuntimeError(f"math-verify did not start within {_START_SECONDS} s: is it installed (pip install "
                               "math-verify)?")

    def _line(self, seconds: float) -> bytes | None:
        """Return the child's next line, None where none comes in time or it has ended."""
        assert self._child is not None and self._child.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self._child.stdout, selectors.EVENT_READ)
            if not selector.select(seconds):
                return None
        return self._child.stdout.readline() or None

    def end(self) -> None:
        """End the child, if there is one."""
        child, self._child = self._child, None
        if child is not None:
            child.kill()
            child.wait()
            for pipe in (child.stdin, child.stdout):
                if pipe is not None:
                    with contextlib.suppress(BrokenPipeError):  # what was written and not read
                        pipe.close()


_JUDGE = _Judge()
atexit.register(_JUDGE.end)


def serve() -> None:
    """Answer lines of [predicted, reference] with true, false, or null where they cannot be compared."""
    import resource  # Unix alone has it, and the child alone needs it

    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # what a library prints is no answer
    resource.setrlimit(resource.RLIMIT_AS, (_MAX_BYTES, _MAX_BYTES))
    from math_verify import LatexExtractionConfig, parse, verify  # heavy: sympy

    def read(text: str) -> Any:
        return parse(f"${text}$", extraction_config=[LatexExtractionConfig()], parsing_timeout=None)

    answers.write(b"ready\n")
    for line in sys.stdin.buffer:
        predicted, reference = json.loads(line)
        try:
            sides = read(reference), read(predicted)
            found = any(verify(*pair, timeout_seconds=None) for pair in (sides, sides[::-1]))
        except Exception:  # sympy raises anything on what is no mathematics
            found = None
        answers.write(json.dumps(found).encode() + b"\n")
