"""Failures: how a run or an activity says that it will not succeed.

Role: the exceptions that your code raises to end a run or an activity, and those that it gets when
one has ended so.  Between the two stands a stored `Failure` message, so every process and every
replay sees the same.

- A workflow raises `Failed` to end its run with an answer (E2).  Then `Client.result` raises
  `RunFailed`.
- An activity raises `GiveUp` when no further attempt makes sense, or its `Retry` policy runs out
  (E3).  The workflow gets `ActivityFailed`.
- `Client.cancel_run` makes `Cancelled` come out of the run's next wait (E7).

Any other exception is a bug.  It parks the run, and the run goes on when the code is right (R5).

Left to `replay.run` and `replay.activity`: when each of these is raised and stored.
"""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from google.protobuf import any_pb2

from .server.proto.values_pb2 import Cancel, Failure
from .storage.database import Error
from .storage.event import Event, EventType, Key, MessageError, MessageTooLarge, read, unpack

#: Reserved names: outputs of the library's own, and the response that cancels a run.
RESULT, FAILURE, PATCH, CANCEL = (
    "replay_result",
    "replay_failure",
    "replay_patch",
    "replay_cancel",
)
#: The kind of failure of a run that was cancelled.
CANCELLED = "cancelled"
RESERVED = frozenset({RESULT, FAILURE, PATCH, CANCEL})

log = logging.getLogger("replay")

#: An error's text has at most this many bytes.
LONGEST_TEXT = 4000
_MOST = timedelta(days=36500)


class BadRetry(Error, ValueError):
    """A retry policy or a timeout that makes no sense."""


class Failed(Exception):
    """Raise it in a workflow: the run ends as failed, with this text (E2).

    `detail` is any value that can be stored.  `kind` is a word for programs.
    """

    def __init__(self, text: str = "", *, detail: Any = None, kind: str = "failed") -> None:
        super().__init__(text)
        self.text, self.detail, self.kind = text, detail, kind


class GiveUp(Exception):
    """Raise it in an activity: no further attempt is made, and its call raises (E3)."""

    def __init__(self, text: str = "", *, detail: Any = None) -> None:
        super().__init__(text)
        self.text, self.detail = text, detail


class _HasFailed(Error):
    """An error that stands for a stored `Failure`: its `kind`, its `text` and its `detail`."""

    def __init__(self, text: str, failure: Failure) -> None:
        super().__init__(text)
        self.kind, self.text = failure.kind, failure.text
        self.failure = failure

    @property
    def detail(self) -> Any:
        """The detail; None if there is none.  Raises `MessageError` if it cannot be read."""
        if not self.failure.HasField("detail"):
            return None
        return unpack(self.failure.detail.SerializeToString())


class RunFailed(_HasFailed):
    """The run has ended as failed or cancelled.

    `kind` is ``failed``, ``cancelled``, or the kind of an activity's failure.
    """

    def __init__(self, run: str, failure: Failure) -> None:
        how = "been cancelled" if failure.kind == CANCELLED else "failed"
        super().__init__(f"run {run} has {how}: {failure.text}", failure)


class ActivityFailed(_HasFailed):
    """The activity will not succeed; its call in the workflow raises this, on each replay (E3).

    `kind` names the class of the last attempt's error, such as ``ValueError`` or ``GiveUp``, and
    `attempts` counts them.  If the workflow does not catch it, the run fails with the same failure.
    """

    def __init__(self, request: str, failure: Failure) -> None:
        self.attempts = failure.attempts
        text = f"{request} has failed at attempt {failure.attempts}: {failure.text}"
        super().__init__(text, failure)


class Cancelled(BaseException):
    """The run was cancelled: it comes once, out of the wait where the run stands (E7).

    You may catch it, and compensate with further calls.  It is no `Exception`, so that an
    ``except Exception`` does not swallow it.
    """

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason)
        self.reason = reason


class Abandoned(BaseException):
    """This attempt has taken longer than its timeout: another one may run, so end it (E4)."""


@dataclass(frozen=True, kw_only=True)
class Retry:
    """When an activity is tried again, and when no more (E3).

    The pause before the n-th further attempt is `first` times `factor` to the power n-1, at most
    `longest`, times a random number from 0.75 to 1.  After `attempts` attempts, or an error of a
    class in `stop_on`, the call fails with `ActivityFailed`.  None means without limit.
    """

    first: timedelta = timedelta(seconds=1)
    factor: float = 2
    longest: timedelta = timedelta(minutes=5)
    attempts: int | None = None
    stop_on: tuple[type[BaseException], ...] = ()

    def __post_init__(self) -> None:
        for name, value in (("first", self.first), ("longest", self.longest)):
            if not isinstance(value, timedelta) or not timedelta(0) < value <= _MOST:
                raise BadRetry(f"Retry({name}={value!r}): expected a timedelta above 0")
        factor, attempts = self.factor, self.attempts
        if not isinstance(factor, int | float) or not (1 <= factor < math.inf):
            raise BadRetry(f"Retry(factor={factor!r}): expected a number from 1 on")
        if attempts is not None and (type(attempts) is not int or attempts < 1):
            raise BadRetry(f"Retry(attempts={attempts!r}): expected 1 or more, or None")
        if not isinstance(self.stop_on, tuple) or not all(map(_is_error, self.stop_on)):
            raise BadRetry(
                f"Retry(stop_on={self.stop_on!r}): expected a tuple of exception classes"
            )

    def pause(
        self, attempts: int, uniform: Callable[[float, float], float] | None = None
    ) -> timedelta:
        """The backoff after that many failed attempts, with jitter."""
        longest = self.longest.total_seconds()
        try:
            seconds = self.first.total_seconds() * float(self.factor) ** (attempts - 1)
        except OverflowError:
            seconds = longest
        return timedelta(seconds=min(seconds, longest) * (uniform or random.uniform)(0.75, 1.0))

    def is_over(self, attempts: int, error: BaseException) -> bool:
        """Whether no further attempt follows this error, the last of so many attempts."""
        return isinstance(error, self.stop_on) or (
            self.attempts is not None and attempts >= self.attempts
        )


def _is_error(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseException)


#: The policy of an activity that has none: it is tried until it succeeds (A2).
FOR_EVER = Retry()


def check_timeout(what: str, timeout: timedelta | None) -> timedelta | None:
    """Return a timeout that makes sense.  Raises `BadRetry`."""
    if timeout is not None and (
        not isinstance(timeout, timedelta) or not timedelta(0) < timeout <= _MOST
    ):
        raise BadRetry(f"{what}: timeout={timeout!r}: expected a timedelta above 0")
    return timeout


def failure(
    error: BaseException, make: Callable[[EventType, Key, Any], Event], attempts: int = 0
) -> Failure:
    """Return what is stored of an error that ends a run or an activity.

    `make` makes an event, and so says whether a detail can be stored.  One that cannot is left out
    with a warning: the text must arrive.
    """
    if isinstance(error, ActivityFailed):
        return error.failure
    stored = Failure(kind=_kind(error), text=clean(_text(error)), attempts=attempts)
    while stored.text and not _fits(stored, make):
        stored.text = stored.text[: len(stored.text) // 2]
    detail = getattr(error, "detail", None)
    return stored if detail is None else _with_detail(stored, detail, make)


_PLACE = Key("detail", "of", "a failure", 0, FAILURE, "0")


def _fits(stored: Failure, make: Callable[[EventType, Key, Any], Event]) -> bool:
    try:
        make(EventType.RUN_OUTPUT, _PLACE, stored)
    except MessageTooLarge:
        return False
    return True


def _with_detail(
    stored: Failure, detail: Any, make: Callable[[EventType, Key, Any], Event]
) -> Failure:
    whole = Failure()
    whole.CopyFrom(stored)
    try:
        whole.detail.ParseFromString(make(EventType.RUN_OUTPUT, _PLACE, detail).content() or b"")
        make(EventType.RUN_OUTPUT, _PLACE, whole)  # with the detail it may be too large
    except MessageError as problem:
        log.warning("the detail of a failure is left out: %s", problem)
        return stored
    return whole


def read_failure(event: Event) -> Failure | None:
    """Return the failure that an event holds; None if it holds anything else."""
    if event.raw is None or not event.raw.startswith(_IS_FAILURE):
        return None
    found = read(event.raw)
    assert isinstance(found, Failure)
    return found


def read_cancel(event: Event) -> Cancel | None:
    """Return what a cancel says; None for a row that is none, which no client of ours has added."""
    try:
        found = read(event.raw)
    except MessageError:
        return None
    return found if isinstance(found, Cancel) else None


#: With these bytes an `Any` begins that holds a failure.
_IS_FAILURE = any_pb2.Any(
    type_url=f"type.googleapis.com/{Failure.DESCRIPTOR.full_name}"
).SerializeToString()


def _kind(error: BaseException) -> str:
    if isinstance(error, Cancelled):
        return CANCELLED
    if isinstance(error, Failed):
        return clean(str(error.kind))
    return clean(type(error).__name__)


def _text(error: BaseException) -> str:
    if isinstance(error, Cancelled):
        return error.reason
    if isinstance(error, Failed | GiveUp):
        return str(error.text)
    return text_of(error)


def text_of(error: BaseException) -> str:
    """Return the text of any error, also of one that cannot say it."""
    try:
        return str(error)
    except Exception as worse:
        return f"its text cannot be made: {type(worse).__name__}"


def clean(text: str) -> str:
    """Make text that any column, call and log can take: at most `LONGEST_TEXT` bytes."""
    raw = text[:LONGEST_TEXT].encode("utf-8", "backslashreplace").replace(b"\0", b"\\0")
    return raw[:LONGEST_TEXT].decode("utf-8", "ignore")  # without half a character at the end
