"""Calls to an object store are made again, with growing pauses, before they fail for good."""

import functools
import logging
from collections.abc import Callable
from typing import Concatenate, NoReturn, ParamSpec, Protocol, TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_delay, wait_exponential_jitter

_LOG = logging.getLogger(__name__)
_P = ParamSpec("_P")
_R = TypeVar("_R")
_FINAL = ("ACCESS_DENIED", "NO_SUCH_BUCKET", "NO_SUCH_KEY", "INVALID_ACCESS_KEY_ID", "SIGNATURE_DOES_NOT_MATCH",
          "INVALID_CLIENT_TOKEN_ID", "MISSING_AUTHENTICATION_TOKEN", "VALIDATION")
"""What object stores answer to a request that no repetition can fix, as Arrow's messages name it."""


class _Remote(Protocol):
    """What may be patient: a storage."""

    @property
    def uri(self) -> str:
        """What people know it by."""
        ...

    @property
    def patience_s(self) -> float:
        """Seconds after which it is given up."""
        ...

    @property
    def is_local(self) -> bool:
        """Tell whether it is a folder of this machine, whose errors do not pass."""
        ...


_S = TypeVar("_S", bound=_Remote)


def patient(method: Callable[Concatenate[_S, _P], _R]) -> Callable[Concatenate[_S, _P], _R]:
    """Let a method of a storage that others share be called again after errors that may pass, for `patience_s`.

    The first pause is half a second, the longest 10; an error of a folder, or one that says no for good (no such
    bucket, access denied), comes at once. The method must be whole: done twice, it leaves what doing it once would.

    Raises
    ------
    OSError
        The store did not answer in time.
    """

    @functools.wraps(method)
    def call(storage: _S, *arguments: _P.args, **keywords: _P.kwargs) -> _R:
        if storage.is_local:
            return method(storage, *arguments, **keywords)
        retrying = Retrying(
            retry=retry_if_exception(may_pass), stop=stop_after_delay(storage.patience_s), before_sleep=_say,
            wait=wait_exponential_jitter(initial=0.5, max=10), retry_error_callback=functools.partial(_fail, storage),
        )
        return retrying(method, storage, *arguments, **keywords)

    return call


def may_pass(error: BaseException) -> bool:
    """Tell whether the same request may succeed later: a lost connection, a busy store, and not a refusal."""
    if not isinstance(error, OSError) or isinstance(error, (FileNotFoundError, PermissionError, IsADirectoryError)):
        return False
    return not any(word in str(error) for word in _FINAL)


def _say(state: RetryCallState) -> None:
    assert state.outcome is not None and state.next_action is not None
    _LOG.warning("storage: %s; trying again in %.1f s", state.outcome.exception(), state.next_action.sleep)


def _fail(storage: _Remote, state: RetryCallState) -> NoReturn:
    assert state.outcome is not None
    error = state.outcome.exception()
    tried = f"storage {storage.uri!r} failed {state.attempt_number} times in {state.seconds_since_start:.0f} s"
    raise OSError(f"{tried}: {error}. Check the network and the store, then run again; finished work is kept"
                  ) from error
