"""Verification: whether code still fits the histories that its runs have (V2).

Role: `verify` replays a workflow from a history, as a worker would, and raises the first
`Difference`.  It adds nothing to a log, calls no activity, and needs no database.

Invariants:

- Code that a worker would park is found: another request, an end that comes too early, an error.
- So is code that a worker would never try, because the iteration is over: it must make no further
  request, and end as the iteration did.  Results and outputs are not compared (O2), and neither are
  the messages of requests (R4).
- The code that made a history never differs from it.

A run that is over has passed the place of each patch.  So `patched` is False there, unless the
history says otherwise.

Left to `replay.tools.verify`: which histories, and which function for each.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from traceback import walk_stack, walk_tb
from types import FrameType
from typing import Any, NoReturn

from .export import BadHistory, Iteration, following, read_history
from .failure import (
    CANCEL,
    CANCELLED,
    FAILURE,
    RESULT,
    clean,
    read_cancel,
    read_failure,
    text_of,
)
from .run import History, HistoryMismatch, Run
from .signature import WORKFLOW, Signature, check_signature
from .storage.codec import Codec, Sealer
from .storage.database import MAX_MESSAGE
from .storage.event import (
    UNKNOWN,
    Event,
    EventType,
    Key,
    UnknownMessageType,
    is_pruned,
    pack,
)
from .storage.values import ANY
from .typed import untyped

#: How an iteration ends: what is said of a history, and of code.
_ENDS = {
    "completed": ("has completed", "returns"),
    "failed": ("has failed", "fails"),
    "cancelled": ("was cancelled", "ends as cancelled"),
    "restarted": ("has restarted", "restarts"),
}
_LIBRARY = os.path.dirname(__file__) + os.sep
_GENERATED = "replay_gen.py"


class Difference(HistoryMismatch):
    """Code that does something else than a history says (V2).

    `event` is the place in the history.  `line` is the line of code, as ``FILE:LINE in FUNCTION``:
    where it makes a call, waits or raises, or its last call before it returns.  `history` and
    `code` say what the two do.
    """

    def __init__(self, event: Event, line: str, history: str, code: str) -> None:
        self.event, self.line, self.history, self.code = event, line, history, code
        run = "/".join(map(str, event.key[:4]))
        where = f" ({line})" if line else ""
        super().__init__(
            f"run {run}, event {event.id}: the history {history}, the code {code}{where}"
        )


def verify(
    function: Callable[..., Any],
    history: str | bytes | Mapping[str, Any] | Iteration | Iterable[Event],
    *,
    codec: Codec | None = None,
) -> None:
    """Replay a workflow from a history, and raise the first `Difference` (V2).

    `history` is a line that ``replay export`` wrote, or the events of a run or of one iteration, as
    `Client.history` returns them.  A history may end in the middle.  `codec` is for a line whose
    messages are encoded (J4).  Raises `BadHistory`, `UnknownMessageType`, `BadSignature` or
    `BadAnnotation`, too.
    """
    kinds = check_signature(function, WORKFLOW)
    workflow = untyped(function)
    for iteration in _iterations(history, codec):
        _Script(iteration).verify(workflow, kinds)


def _iterations(history: Any, codec: Codec | None) -> Iterator[Iteration]:
    if isinstance(history, str | bytes | Mapping):
        history = read_history(history)
    if isinstance(history, Iteration):
        if codec is not None:
            sealer = Sealer(codec)
            for event in history.events:
                event.seal = sealer
        yield history
        return
    groups: dict[Key, list[Event]] = {}
    for event in history:
        groups.setdefault(event.key.iteration_key(), []).append(event)
    if not groups:
        raise BadHistory("there are no events: is there such a run?")
    for key, events in groups.items():
        yield Iteration(events, following(key) in groups or None)


class _Script(History):
    """A history that the code has to follow to its end, which stands behind its last request."""

    __slots__ = ("_ends", "_line", "_over")

    def __init__(self, iteration: Iteration) -> None:
        super().__init__(iteration.events)
        self._line: tuple[str, int, str] | None = None
        self._over = self.completed
        for n, response in enumerate(self.responses):
            late = self.completed is not None and response.id > self.completed.id
            if late or _terminates(response):
                del self.responses[n:]
                self._over = self.completed if late else None  # the code did not end it (E7)
                break
        self._ends = _ends(iteration)
        if self._over is not None:
            self.requests.append(self._over)

    def verify(self, workflow: Callable[..., Any], kinds: Signature) -> None:
        """Replay a workflow.  Raises `Difference`."""
        if self.created is None or is_pruned(self.created.raw):
            raise BadHistory("the history does not begin with its created event, or was pruned")

        def watched(ctx: Any, message: Any) -> Any:
            try:
                return workflow(ctx, message)
            except BaseException as error:
                self._see(reversed(list(walk_tb(error.__traceback__))))
                raise

        run = Run(watched, self.created, self, _make, kinds)
        try:
            self._replay(run)
        finally:
            run.evict()

    def _replay(self, run: Run) -> None:
        try:
            run.start()
            for response in self.responses:
                if run.ended:
                    break
                run.taken()
                run.feed(response)
        except (Difference, KeyboardInterrupt, UnknownMessageType):
            raise
        except BaseException as error:
            run.evict()  # which shows the line where it waited
            text = clean(f"raises {type(error).__name__}: {text_of(error)}")
            self._differ(text, run.last, error)
        if not run.ended:
            if self.requests:
                code = f"waits for {' or '.join(run.waits_for)}"
                run.evict()
                self._differ(code, run.last)
            return
        end = _end(run.added)
        if self.requests and (self.requests[0] is not self._over or end not in self._ends):
            self._differ(_ENDS[end][1], run.last)

    def has_request(self, key: Key) -> bool:
        """As in `History`, but nothing may follow the end."""
        self._see(walk_stack(sys._getframe(1)))
        if self.requests and self.requests[0].key != key:
            self._differ(f"requests {key.target}/{key.sequence}", self.requests[0])
        return super().has_request(key)

    def require_all_requested(self) -> None:
        """Leave that to `verify`, which knows how the code has ended."""

    def _see(self, frames: Iterable[tuple[FrameType, int]]) -> None:
        """Remember the innermost line that is the user's."""
        for frame, number in frames:
            file = frame.f_code.co_filename
            if not file.startswith(_LIBRARY) and os.path.basename(file) != _GENERATED:
                self._line = (file, number, frame.f_code.co_qualname)
                return

    def _differ(self, code: str, last: Event, error: BaseException | None = None) -> NoReturn:
        """Raise a difference at what the history has next; `last` if it has nothing more."""
        event, history = last, "ends here"
        if self.requests:
            event = self.requests[0]
            history = f"requests {event.key.target}/{event.key.sequence}"
        if event is self._over:
            history = _ENDS[self._ends[0]][0] if len(self._ends) == 1 else "has ended"
        raise Difference(event, self._where(), history, code) from error

    def _where(self) -> str:
        if self._line is None:
            return ""
        file, number, function = self._line
        return f"{file.removeprefix(os.getcwd() + os.sep)}:{number} in {function}"


def _terminates(event: Event) -> bool:
    cancel = read_cancel(event) if event.key.target == CANCEL else None
    return cancel is not None and cancel.terminate


def _ends(iteration: Iteration) -> Sequence[str]:
    """How an iteration may have ended, by its history."""
    if iteration.restarted:
        return ("restarted",)
    end = _end(iteration.events[1:])
    has_result = any(event.key.target == RESULT for event in iteration.events)
    known = has_result or end != "completed" or iteration.restarted is False
    return (end,) if known else (end, "restarted")


def _end(added: Sequence[Event]) -> str:
    """How code has ended, by what it has added."""
    for event in added:
        if event.type is EventType.RUN_CREATED:
            return "restarted"
        if event.type is EventType.RUN_OUTPUT and event.key.target == FAILURE:
            found = read_failure(event)
            return "cancelled" if found is not None and found.kind == CANCELLED else "failed"
    return "completed"


def _make(type: EventType, key: Key, message: Any = None) -> Event:
    raw = None
    if type is not EventType.RUN_COMPLETED:
        raw = pack(ANY.message(message, key), MAX_MESSAGE, key)
    return Event(0, type, key, UNKNOWN, raw)
