"""The client: a program starts, signals and streams runs with it.

Role: `Client` starts and signals runs, streams events, waits for the end of a run, and keeps the
consumers that you register.  `consume` adds a consumer of your own, and `handle` takes an event
apart for it.  The library's own consumers, `Client.loops`, answer sleeps and signals, keep the
table of runs, and move the inbox.  They start with the first consumer that you register.

Invariant: you may repeat every call.  The second call finds what the first one stored (R1, S1).

Left to `replay.workflow` and `replay.activity`: calling your functions.
"""

from __future__ import annotations

import itertools
import logging
import random
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from enum import IntEnum
from functools import partial
from pathlib import Path
from typing import Any, Self, TypeVar, overload

from . import retention
from . import signal as signals
from .consumer import Consumer, Handler, consumer_name
from .failure import CANCEL, CANCELLED, FAILURE, RESERVED, RESULT, RunFailed, clean, read_failure
from .log import EventsPruned, Log, pruned
from .outbox import Mover, Outbox
from .projection import Projection
from .query import (
    MOST,
    ConsumerInfo,
    ParkedInfo,
    ParkedQuery,
    Queries,
    RunDescription,
    RunInfo,
    RunsQuery,
)
from .retention import BadPrune, Policy, Removed, Retention
from .server.proto.values_pb2 import Cancel, Failure
from .shard import BadShard, Shard
from .sharing import Coordinator, Sharded, Shares, check_shards
from .signature import (
    WORKFLOW,
    SignalType,
    encoded_input,
    encoded_signal,
    signature,
    workflow_name,
)
from .sleep import Sleeper
from .storage.codec import Codec
from .storage.database import Error, OutcomeUnknown, Unavailable, earlier, entered
from .storage.event import (
    LAST_ITERATION,
    Event,
    EventType,
    Key,
    check_name,
    check_run,
    is_pruned,
)
from .storage.group import MOST_ROWS
from .storage.open import open_database
from .storage.tail import Waiter, fitting
from .storage.values import ANY

_log = logging.getLogger("replay")

M = TypeVar("M")
R = TypeVar("R")
T = TypeVar("T")

#: The arguments of `run_workflow`, and those of `signal_run`.
Start = tuple[str, str | Callable[..., Any], str, Any]
Sending = tuple[str, str | Callable[..., Any], str, int | IntEnum | SignalType[Any], Any, str]
Checked = tuple[signals.Run, int | IntEnum, Any, str]
_ROW = 600  # bytes of a signal besides its message
#: How long `Client.close` waits for activities: within what Docker and Kubernetes allow.
GRACE = timedelta(seconds=8)
_STORED = 1.0  # seconds in which consumers of this process store their cursors before a prune
_LAST_STEP = 0.5  # seconds after that in which consumers may still give up their names


class BadFilter(Error, ValueError):
    """A filter with a run but no workflow, or with a workflow but no namespace (L4)."""


class AlreadyRegistered(Error, ValueError):
    """This client already has a consumer of this name."""


class EventsLost(Error):
    """The database came back without events that it had acknowledged: check its durability."""


class NotOurs(Error):
    """No consumer of this library has ever served this workflow, so it cannot cancel its runs."""


class Closed(Error, RuntimeError):
    """The client has been closed."""


def _portions(items: Sequence[T], size: Callable[[T], int]) -> Iterator[Sequence[T]]:
    """Divide `items` into what one transaction holds."""
    start = 0
    while start < len(items):
        count = fitting(size(each) for each in items[start : start + MOST_ROWS])
        yield items[start : start + count]
        start += count


def event_filter(
    namespace: str, workflow: str, run: str, events: tuple[EventType, ...]
) -> Callable[[Event], bool]:
    """Make a filter for events of these types in a namespace, workflow and run (L4)."""
    if (run and not workflow) or (workflow and not namespace):
        raise BadFilter("a run needs its workflow, and a workflow its namespace: give those too")
    wanted = tuple(name for name in (namespace, workflow, run) if name)
    for what, name in zip(("namespace", "workflow", "run"), wanted, strict=False):
        check_name(what, name)
    depth = len(wanted)

    def wants(event: Event) -> bool:
        return event.type in events and event.key[:depth] == wanted

    return wants


DELIVERED = tuple(type for type in EventType if type is not EventType.NOOP)


class Client:
    """A client of one log: safe to use from any thread, and a context manager that closes itself.

    Calls raise `Unavailable` while the database cannot be reached.  You may repeat them, and also a
    call that was interrupted (Ctrl-C).  Do not call a client in a signal handler: if the handler
    has interrupted a call of the same thread, the call raises `Reentered` and does nothing.
    """

    def __init__(self, log: Log, *, loops: bool = True) -> None:
        self.log = log
        self._start_loops = loops
        self._loops = self._serving()
        self._consumers: dict[str, Consumer] = {}
        #: Shares out the shards of those with `shards`.
        self.coordinator = Coordinator()
        self._shares: dict[Log, Shares] = {}
        self._registering = threading.RLock()
        self._closed = False

    def _serving(self) -> list[Consumer]:
        """Make the library's own consumers: see `loops`."""
        log = self.log
        return [Sleeper(log), signals.Matcher(log), Projection(log), Mover(log)]

    def log_of(self, namespace: str) -> Log:
        """Return the log with the events of a namespace; "" stands for `Client.log`."""
        return self.log

    def shares(self, log: Log) -> Shares:
        """Return what knows which processes serve the consumers of a log (H3)."""
        return self._shares.setdefault(log, Shares(log))

    def divided(
        self,
        events: Log,
        make: Callable[[Shard | None], Consumer],
        shard: Shard | None,
        shards: int | None,
    ) -> Consumer:
        """Return the consumer of one shard or, with `shards`, of so many that are shared (H3).

        `make` makes that of a shard, or of all.  Raises `BadShard` or `OtherShards`.
        """
        one = make(shard)
        if shards is None:
            return one
        if shard is not None:
            text = "give shards, which all processes share, or one shard of your own"
            raise BadShard(f"{one.name}: {text}")
        check_shards(one.name, shards)
        self._patiently(lambda: self.shares(events).settle(one.name, shards))
        members = [make(Shard.hashed(m, shards)) for m in range(shards)]
        return Sharded(events, one.name, members, self.shares, self.coordinator)

    @overload
    def run_workflow(
        self, namespace: str, workflow: Callable[[Any, M], object], run: str, message: M
    ) -> bool: ...
    @overload
    def run_workflow(self, namespace: str, workflow: str, run: str, message: Any) -> bool: ...
    def run_workflow(self, namespace: str, workflow: Any, run: str, message: Any) -> bool:
        """Start a run.  Returns False if the run id was used before: each is used once, ever (R1).

        `workflow` is the stored name, or the function, whose annotation checks the message (J3).
        Raises `InvalidName`, `MessageTooLarge` or another `MessageError`; nothing is stored then.
        """
        key, message = encoded_input(namespace, workflow, run, message)
        log = self.log_of(namespace)
        created = log.event(EventType.RUN_CREATED, key, message)
        return self._patiently(lambda: log.append(created))

    @overload
    def signal_run(
        self,
        namespace: str,
        workflow: str | Callable[..., Any],
        run: str,
        signal: SignalType[M],
        message: M,
        external_id: str,
    ) -> bool: ...
    @overload
    def signal_run(
        self,
        namespace: str,
        workflow: str | Callable[..., Any],
        run: str,
        signal: int | IntEnum,
        message: Any,
        external_id: str,
    ) -> bool: ...
    def signal_run(
        self,
        namespace: str,
        workflow: str | Callable[..., Any],
        run: str,
        signal: int | IntEnum | SignalType[Any],
        message: Any,
        external_id: str,
    ) -> bool:
        """Send a signal to a run, which need not exist yet (S3).

        `signal` is its type, from -128 to 127, or a `SignalType`, which checks the message (J3).
        `external_id`, up to 255 characters, tells signals of one type apart: sending the same one
        again returns False and stores nothing (S1).  Raises `InvalidName`, `InvalidSignal`,
        `MessageTooLarge` or another `MessageError`.
        """
        to = (namespace, workflow_name(workflow), run)
        signal, message = encoded_signal(to, signal, message)
        return self._signal(to, signal, message, external_id)

    def _signal(self, to: signals.Run, signal: int, message: Any, external_id: str) -> bool:
        return self._patiently(lambda: signals.send(self.log, to, signal, message, external_id))

    def run_workflows(self, starts: Iterable[Start]) -> list[bool]:
        """Start many runs; each is a tuple of what `run_workflow` takes, in its order.

        Returns for each what `run_workflow` would return.  All are checked before any is stored.
        Each transaction starts as many as it can hold, up to 2,000 runs and 8 MiB.  After an error
        those of earlier transactions have started: call it again with the same.
        """
        created = defaultdict[Log, list[tuple[int, Event]]](list)
        for number, start in enumerate(starts):
            key, message = encoded_input(*start)
            log = self.log_of(start[0])
            created[log].append((number, log.event(EventType.RUN_CREATED, key, message)))
        answers: dict[int, bool] = {}
        for log, numbered in created.items():
            for some in _portions(numbered, lambda each: each[1].size):
                events = [event for _, event in some]
                stored = self._patiently(partial(log.append_all, events))
                answers.update(zip((number for number, _ in some), stored, strict=True))
        return [answers[number] for number in range(len(answers))]

    def signal_runs(self, sent: Iterable[Sending]) -> list[bool]:
        """Send many signals; each is a tuple of what `signal_run` takes, in its order.

        Returns for each what `signal_run` would return.  All are checked before any is stored.
        Transactions and errors are those of `run_workflows`.  Through a server they are sent one by
        one.
        """
        checked = []
        for namespace, workflow, run, signal, message, external_id in sent:
            to = (namespace, workflow_name(workflow), run)
            checked.append((to, *encoded_signal(to, signal, message), external_id))
        return self._signal_all(checked)

    def _signal_all(self, sent: Sequence[Checked]) -> list[bool]:
        found = [signals.prepared(self.log, *each) for each in sent]
        portions = _portions(found, lambda each: len(each.raw or b"") + _ROW)
        stored = [self._patiently(partial(signals.store_all, self.log, some)) for some in portions]
        return [answer for some in stored for answer in some]

    def within(self, connection: Any) -> Outbox:
        """Return what starts and signals runs within a transaction of yours (V4).

        `connection` leads to the log's own database: it is a DB-API connection, for instance of
        sqlite3 or PyMySQL, or an SQLAlchemy ``Connection``.  Runs start and signals are sent when
        its transaction commits.  After a rollback nothing was sent.  Raises `BadConnection`, or
        `EmbeddedOnly` if this is a client of a server.
        """
        return Outbox(self.log, connection)

    def stream(
        self,
        namespace: str = "",
        workflow: str | Callable[..., Any] = "",
        run: str = "",
        *,
        after: int = 0,
        from_head: bool = False,
        to_head: bool = False,
        lag: timedelta = timedelta(0),
    ) -> Iterator[Event]:
        """Yield the events of a namespace, workflow or run, in order, for ever (L1, L4).

        The stream begins after the id `after`, or with `from_head` at the end of the log.  With
        `to_head` it ends with the newest event at the time of this call.  It also ends when the
        client is closed.  It delivers an event only when the event is `lag` old.  Raises
        `BadFilter` or `InvalidName`, and `EventsLost` if the database loses delivered events.
        `EventsPruned` if events behind `after` were pruned, also while the stream runs; with 0 it
        begins with what is left (L9).
        """
        workflow = workflow_name(workflow)
        wants = event_filter(namespace, workflow, run, DELIVERED)
        if after < 0:
            raise BadFilter(f"after={after}: ids begin at 1, 0 is the beginning")
        log = self.log_of(namespace)
        if after and after < self._patiently(log.floor):
            raise pruned(log, after)
        end = self._patiently(log.newest) if to_head else None
        if from_head:
            # Not the newest id: an event with a smaller one may still be on its way.
            self._patiently(log.poll)
            after = log.tail.end
        if end is not None and run:
            return self._stream_run((namespace, workflow, run), None, after, end, lag)
        return self._stream(log, wants, after, end, lag)

    def _stream_run(
        self,
        run: tuple[str, str, str],
        iteration: int | None,
        after: int,
        end: int,
        lag: timedelta,
    ) -> Iterator[Event]:
        """Yield the events of a run that are there, by the index: reading the log takes longer."""
        log, queries, pauses = self.log_of(run[0]), self.queries(run[0]), _pauses()
        losses, last = log.losses, None
        while not self._closed:
            try:
                if (now := log.refresh()) != losses:
                    _require(log, last)
                    losses = now
                if last is None and not queries.settle(end):
                    time.sleep(next(pauses))
                    continue
                for event in queries.events(run, iteration, after, end):
                    self._sleep_until_old(log, event, lag)
                    if self._closed:
                        return
                    yield event
                    after, last = event.id, event
                return
            except Unavailable:
                time.sleep(next(pauses))

    def _stream(
        self, log: Log, wants: Callable[[Event], bool], after: int, end: int | None, lag: timedelta
    ) -> Iterator[Event]:
        # The last event ends the wait even if nobody wants it.
        waiter = Waiter(lambda e: wants(e) or (end is not None and e.id >= end))
        pauses = _pauses()
        losses, last, floor = log.losses, None, -1
        try:
            while not self._closed and (end is None or after < end):
                try:
                    if end is not None:
                        log.poll()
                    if (now := log.refresh()) != losses:
                        _require(log, last)
                        losses = now
                    if floor < 0 and after < (floor := log.floor()) and after:
                        raise pruned(log, after)
                    events = log.read(after)
                    log.check_read(after, floor, events)
                except Unavailable:
                    time.sleep(next(pauses))
                    continue
                pauses = _pauses()
                for event in events:
                    if end is not None and event.id > end:
                        return
                    if wants(event):
                        self._sleep_until_old(log, event, lag)
                        if self._closed:
                            return
                        yield event
                    after, last = event.id, event
                if not events:
                    self._wait(log, waiter, after, None)
        finally:
            log.tail.leave(waiter)

    def _wait(self, log: Log, waiter: Waiter, position: int, timeout: float | None) -> None:
        """Wait for something after the id `position`, at most `timeout` seconds."""
        log.tail.keep_polling(log.poll)
        log.tail.wait(waiter, position, timeout)

    def _sleep_until_old(self, log: Log, event: Event, lag: timedelta) -> None:
        while lag and not self._closed:
            missing = (event.timestamp + lag - log.now()).total_seconds()
            if missing <= 0:
                return
            time.sleep(min(missing, 0.1))

    def await_completion(
        self,
        namespace: str,
        workflow: str | Callable[..., Any],
        run: str,
        timeout: float | timedelta | None = None,
    ) -> None:
        """Wait until the run's last iteration has completed; a restart is not an end.

        The run need not have started.  Raises `TimeoutError` after `timeout` (seconds, or a
        `timedelta`), and `Closed` if the client is closed meanwhile.
        """
        self._await_end(namespace, workflow_name(workflow), run, timeout)

    @overload
    def result(
        self,
        namespace: str,
        workflow: Callable[[Any, Any], R],
        run: str,
        timeout: float | timedelta | None = None,
    ) -> R: ...
    @overload
    def result(
        self, namespace: str, workflow: str, run: str, timeout: float | timedelta | None = None
    ) -> Any: ...
    def result(
        self, namespace: str, workflow: Any, run: str, timeout: float | timedelta | None = None
    ) -> Any:
        """Wait for the end of a run, and return what its last iteration has returned (E1).

        `workflow` is the function, whose annotation decodes the result, or the stored name.  Raises
        `RunFailed` if the run has failed or was cancelled (E2, E7), `EventsPruned` if the run has
        ended and was pruned (L9), and what `await_completion` raises.
        """
        last = self._await_end(namespace, workflow_name(workflow), run, timeout)
        log = self.log_of(namespace)

        def found(name: str) -> Event | None:
            key = last._replace(target=name, sequence="0")
            return self._patiently(lambda: log.find(EventType.RUN_OUTPUT, key))

        if (event := found(FAILURE)) is not None and (failure := read_failure(event)) is not None:
            raise RunFailed("/".join(last[:3]), failure)
        kind = ANY if isinstance(workflow, str) else signature(workflow, WORKFLOW).returns
        if (event := found(RESULT)) is not None:
            return kind.read(event)
        ended = self._patiently(lambda: log.find(EventType.RUN_COMPLETED, last))
        if ended is None or is_pruned(ended.raw):
            raise EventsPruned(f"run {'/'.join(last[:3])} was pruned: its result is gone")
        return None

    def cancel_run(
        self,
        namespace: str,
        workflow: str | Callable[..., Any],
        run: str,
        reason: str = "",
        *,
        terminate: bool = False,
    ) -> bool:
        """Cancel a run: it raises `Cancelled` where it waits, or at its next wait, once (E7).

        A run that does not catch that ends as cancelled.  With `terminate` it ends without running
        its code any more, also if it is parked or was cancelled before.  Returns False if the run
        is unknown, has ended, or was cancelled before.  True means that the cancel is recorded; use
        `result` to wait for the end.  Raises `InvalidName`, or `NotOurs` if no consumer of this
        library has ever served the workflow: another system's worker would fail on a cancel.
        """
        workflow = workflow_name(workflow)
        check_run(namespace, workflow, run)
        log, name = self.log_of(namespace), consumer_name("workflow", namespace, workflow)
        if not self._patiently(lambda: log.served(name, ever=True)):
            raise NotOurs(
                f"nobody has served workflow {workflow} of namespace {namespace} with this library:"
                " register it, or cancel the run in the system that runs it"
            )
        message = Cancel(reason=clean(reason), terminate=terminate)
        # In any iteration to come the run must be able to say that it was cancelled.
        last = Key(namespace, workflow, run, LAST_ITERATION, FAILURE, "0")
        log.event(EventType.RUN_OUTPUT, last, Failure(kind=CANCELLED, text=message.reason))
        return self._patiently(lambda: _cancel(log, (namespace, workflow, run), message))

    def _await_end(
        self, namespace: str, workflow: str, run: str, timeout: float | timedelta | None
    ) -> Key:
        """Wait as `await_completion` does.  Returns the last iteration."""
        if isinstance(timeout, timedelta):
            timeout = timeout.total_seconds()
        deadline = None if timeout is None else time.monotonic() + timeout
        self._refuse_reentry()
        check_run(namespace, workflow, run)
        wants = event_filter(namespace, workflow, run, (EventType.RUN_COMPLETED,))
        log = self.log_of(namespace)
        waiter, pauses = Waiter(wants), _pauses()
        try:
            while not self._closed:
                position = log.tail.end
                left = None if deadline is None else deadline - time.monotonic()
                pause = 0.0
                try:
                    begun, ended = log.last_iteration(namespace, workflow, run)
                    if begun == ended >= 0:
                        return Key(namespace, workflow, run, ended)
                    pauses = _pauses()
                except Unavailable:
                    pause = next(pauses)
                if left is not None and left <= 0:
                    raise TimeoutError(f"{namespace}/{workflow}/{run}: no end within {timeout} s")
                if pause:
                    time.sleep(pause if left is None else min(pause, left))
                else:
                    self._wait(log, waiter, position, left)
        finally:
            log.tail.leave(waiter)
        raise Closed("the client was closed while it waited for a run")

    # Queries.

    def queries(self, namespace: str) -> Queries:
        """Return what asks the log with the events of a namespace, as `log_of` does."""
        return Queries(self.log_of(namespace))

    def runs(
        self,
        namespace: str = "",
        workflow: str | Callable[..., Any] = "",
        *,
        status: str | Collection[str] | None = None,
        started_after: datetime | None = None,
        limit: int = 50,
        after: RunInfo | int | None = None,
    ) -> list[RunInfo]:
        """Return up to `limit` runs of a namespace or workflow, newest first (Q1).

        Without a namespace these are all runs that you may see, but for those of namespaces that
        have a database of their own.  `status` is one of `replay.query.STATUSES`, or several of
        them, such as `UNFINISHED`.  `started_after` is an aware datetime.  `limit` is 1,000 at
        most; for more, call again with the last run that you got, or its `id`, as `after`.

        Raises `BadQuery`, `BadFilter`, `InvalidName` or `QueryBehind`.
        """
        ask = RunsQuery(
            namespaces=frozenset([namespace]) if namespace else None,
            workflow=workflow_name(workflow),
            statuses=frozenset([status] if isinstance(status, str) else status or ()),
            started_after=started_after,
            limit=limit,
            after=after.id if isinstance(after, RunInfo) else after or 0,
        )
        queries = self.queries(namespace)
        return self._patiently(lambda: queries.runs(ask))

    def count(self, namespace: str = "", workflow: str | Callable[..., Any] = "") -> dict[str, int]:
        """Return how many runs there are of each status (Q1).  Raises as `runs` does.

        It counts all of them, which takes 0.1 to 0.4 s for a million.
        """
        namespaces = frozenset([namespace]) if namespace else None
        ask = RunsQuery(namespaces=namespaces, workflow=workflow_name(workflow))
        queries = self.queries(namespace)
        return self._patiently(lambda: queries.count(ask))

    def describe(
        self, namespace: str, workflow: str | Callable[..., Any], run: str
    ) -> RunDescription:
        """Return the state of a run, its result or failure, and what it waits for (Q1).

        Raises `UnknownRun`, `EventsPruned` (L9), `InvalidName`, or `MessageError` if its result
        cannot be read.
        """
        names = (namespace, workflow_name(workflow), run)
        kind = ANY if isinstance(workflow, str) else signature(workflow, WORKFLOW).returns
        queries = self.queries(namespace)
        return self._patiently(lambda: queries.describe(*names, kind.read))

    def history(
        self,
        namespace: str,
        workflow: str | Callable[..., Any],
        run: str,
        iteration: int | None = None,
    ) -> Iterator[Event]:
        """Yield the events of a run, or of one iteration, in order, up to the head (Q1).

        It reads nothing but these events.  A run that does not exist has none.
        """
        names = (namespace, workflow_name(workflow), run)
        check_run(*names)
        if iteration is not None and not 0 <= iteration <= LAST_ITERATION:
            raise BadFilter(f"iteration={iteration}: they begin at 0")
        log = self.log_of(namespace)
        end = self._patiently(log.newest)
        return self._stream_run(names, iteration, 0, end, timedelta(0))

    def consumers(self, namespace: str = "") -> list[ConsumerInfo]:
        """Return all consumers that you may see, by name (Q1).

        With a namespace, these are those of the database that has its events (G3).
        """
        queries, found = self.queries(namespace), list[ConsumerInfo]()
        some, after = self._patiently(queries.consumers)
        while after:
            found += some
            some, after = self._patiently(partial(queries.consumers, after))
        return [*found, *some]

    def parked(
        self,
        namespace: str = "",
        workflow: str | Callable[..., Any] = "",
        run: str = "",
        *,
        limit: int = 50,
        after: ParkedInfo | None = None,
    ) -> list[ParkedInfo]:
        """Return up to `limit` events that consumers have parked, by key (Q1).

        `limit` is 1,000 at most; for more, call again with the last one as `after`.
        """
        ask = ParkedQuery(
            namespaces=frozenset([namespace]) if namespace else None,
            workflow=workflow_name(workflow),
            run=run,
            limit=limit,
            after=("", 0) if after is None else (after.key, after.id),
        )
        queries = self.queries(namespace)
        return self._patiently(lambda: queries.parked(ask))

    def retry(
        self,
        namespace: str = "",
        workflow: str | Callable[..., Any] = "",
        run: str = "",
        *,
        consumer: str = "",
        event_id: int | None = None,
    ) -> int:
        """Make parked events due at once, and return how many (Q2).

        These are the events of a run, a workflow or a namespace; or with `consumer`, all that this
        consumer has parked, or the one with `event_id`.  The consumer's owner makes the next
        attempt within two seconds, or when it comes back.  That attempt counts as any other (E3).
        Requests that are executed just now are left alone.  Raises `BadFilter` or `InvalidName`.
        """
        if bool(consumer) == bool(namespace) or (event_id is not None and not consumer):
            raise BadFilter("retry takes a run, workflow or namespace, or else a consumer")
        if consumer:
            # workflow/NAMESPACE/... or activity/NAMESPACE/...: ids belong to a namespace's log
            log = self.log_of((*consumer.split("/"), "", "")[1])
            return self._patiently(lambda: _retry(log, consumer, event_id))
        found: dict[str, list[int]] = defaultdict(list)
        last = None
        while some := self.parked(namespace, workflow, run, limit=MOST, after=last):
            for last in some:
                found[last.consumer].append(last.event_id)
        log = self.log_of(namespace)
        return sum(self._patiently(partial(log.retry, name, ids)) for name, ids in found.items())

    def prune(
        self,
        older_than: timedelta,
        *,
        namespace: str = "",
        export: str | Path | None = None,
        forget: bool = False,
        shared_with_go_passed: int | None = None,
    ) -> Removed:
        """Remove what ended longer ago than `older_than`, and return how much that was (L9).

        That is whole runs, and iterations that have restarted, with their sleeps, awaits and
        signals.  It leaves what a consumer has not passed, a request that waits, and what is
        parked.  Of each run two empty events stay, so that its id is not used again (R1); with
        `forget` they go, too.  `namespace` restricts it to the runs of a namespace.

        With `export`, the histories are first written to a new file in that directory.  They hold
        the messages as they are stored.  `shared_with_go_passed` is needed where a Go system shares
        the database: the id of an event that all its consumers have passed.

        Raises `BadPrune` or `InvalidName`.  You may repeat it after any error.
        """
        if not isinstance(older_than, timedelta) or older_than < timedelta(0):
            raise BadPrune(f"older_than={older_than!r}: expected a timedelta from 0 on")
        if shared_with_go_passed is not None and shared_with_go_passed < 0:
            raise BadPrune(f"shared_with_go_passed={shared_with_go_passed}: ids begin at 1")
        if namespace:
            check_name("namespace", namespace)
        found = self._retention(namespace)
        self._patiently(found.log.floor)
        self.store_cursors()
        before = earlier(found.log.now(), older_than)
        policy = Policy(before, namespace, forget, shared_with_go_passed)
        return retention.prune(found, policy, None if export is None else Path(export))

    def _retention(self, namespace: str) -> Retention:
        return Retention(self.log_of(namespace))

    def store_cursors(self) -> None:
        """Have the consumers of this client store their cursors, which they do now and then.

        Waits a second at most.  Otherwise a prune would leave the last 1,000 events.
        """
        deadline, end = time.monotonic() + _STORED, self.log.tail.end
        consumers = [*self._loops, *self._consumers.values()]
        while sum(each.store_soon(end) for each in consumers) and time.monotonic() < deadline:
            time.sleep(0.005)

    def forget_consumer(self, name: str) -> int:
        """Forget the cursor of a consumer that will never come back, and what it has parked (L9).

        Nothing is pruned that a consumer has not passed, so such a one would block that for ever.
        `name` is that of its cursor, such as ``workflow/NAMESPACE/WORKFLOW`` or ``consumer/NAME``.
        Returns how many ids it was behind the newest event.  If it does come back, it begins with
        what is left.  Raises `UnknownConsumer`, `StillServed` or `InvalidName`.
        """
        kind, _, rest = name.partition("/")
        namespace = rest.partition("/")[0] if kind in ("workflow", "activity") else ""
        return self._patiently(lambda: self._retention(namespace).forget(name))

    def loops(self) -> list[Consumer]:
        """Return the library's own consumers: for sleeps, signals, the table of runs, the inbox.

        The first consumer that you register and start also starts them, unless the client was made
        with ``loops=False``.  Then another process must, or you start or step these.
        """
        return list(self._loops)

    def add(self, consumer: Consumer, start: bool) -> Consumer:
        """Keep a consumer until `close`.  With `start`, start it and the loops.  Returns it."""
        self._refuse_reentry()
        with entered(self._registering):
            if self._closed:
                raise Closed("the client is closed: connect again")
            if consumer.name in self._consumers:
                raise AlreadyRegistered(f"{consumer.name} is registered with this client already")
            self._consumers[consumer.name] = consumer
            for each in (*(self._loops if self._start_loops else ()), consumer) if start else ():
                each.start()
        return consumer

    def close(self, grace: timedelta = GRACE) -> None:
        """Stop all consumers after their current step, and close the database.

        Other processes take over at once (L7).  It waits at most `grace` for the activities and
        other functions of yours that run, and half a second for names to be given up.  It logs
        what still runs then and leaves it behind: that cannot be stored any more, and another
        process executes it again (A1).  Raises `Reentered` in a signal handler that has
        interrupted a call; nothing is closed then.
        """
        seconds = max(0.0, grace.total_seconds())
        self._refuse_reentry()
        with entered(self._registering):
            if self._closed:
                return
            self._closed = True
        consumers = [*self._consumers.values(), *self._loops]
        for consumer in consumers:
            consumer.ask_to_stop(seconds)
        deadline = time.monotonic() + seconds + _LAST_STEP
        for consumer in consumers:
            ended = consumer.stop(max(0.0, deadline - time.monotonic()))
            if (running := ", ".join(consumer.executing())) or not ended:
                text = "%s still runs after %g s and is left behind; others do it again: %s"
                _log.warning(text, consumer.name, seconds, running or "a step")
        self._close()

    def _refuse_reentry(self) -> None:
        """Raise `Reentered` if this is a signal handler that has interrupted a call."""
        entered(self._registering)
        self.log.refuse_reentry()

    def _close(self) -> None:
        self.log.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _patiently(self, call: Callable[[], T]) -> T:
        """Try twice, because the server may have closed an idle connection."""
        self._refuse_reentry()
        if self._closed:
            raise Closed("the client is closed: connect again")
        try:
            return call()
        except OutcomeUnknown:
            raise
        except Unavailable:
            return call()


def open_client(url: str, *, loops: bool = True, codec: Codec | None = None) -> Client:
    """Open the database at `url`, and return a client of its log.  See `replay.connect`."""
    database = open_database(url)
    try:
        return Client(Log(database, codec), loops=loops)
    except BaseException:
        database.close()
        raise


def _cancel(log: Log, run: tuple[str, str, str], message: Cancel) -> bool:
    begun, ended = log.last_iteration(*run)
    if begun == ended:  # also of a run that is unknown
        return False
    # A run that goes on after a cancel can still be terminated.
    for sequence in ("0", "1") if message.terminate else ("0",):
        key = Key(*run, begun, CANCEL, sequence)
        if log.append(log.event(EventType.ACTIVITY_RESPONSE, key, message)):
            return True
    return False


def _retry(log: Log, consumer: str, event_id: int | None) -> int:
    ids = [parked.event_id for parked in log.parked(consumer)] if event_id is None else [event_id]
    return log.retry(consumer, ids)


def _require(log: Log, last: Event | None) -> None:
    """Raise `EventsLost` if the database has lost the last delivered event (L1)."""
    if last is None or ((found := log.get(last.id)) and found.text == last.text):
        return
    if found is None and last.id <= log.floor():  # it was pruned
        return
    raise EventsLost(
        f"{log.name} has lost event {last.id}, which this stream has delivered: undo what you did"
        " with it, and stream again from the last event that is there"
    )


def _pauses() -> Iterator[float]:
    """Yield the seconds of a backoff: growing, with jitter."""
    for n in itertools.count():
        yield min(0.05 * 2 ** min(n, 10), 5.0) * random.uniform(0.5, 1.0)


def consume(
    client: Client,
    name: str,
    handler: Callable[[Event], object],
    *,
    namespace: str = "",
    workflow: str | Callable[..., Any] = "",
    run: str = "",
    start: bool = True,
) -> Consumer:
    """Call `handler` with every event of a namespace, workflow or run, in order (L5).

    The cursor is stored under `name`, and one process at a time calls its handler.  If the handler
    raises, it gets the same event again after a backoff, before any later one.  Raises
    `InvalidName`, `BadFilter` or `AlreadyRegistered`.
    """
    check_name("consumer", name)
    wants = event_filter(namespace, workflow_name(workflow), run, DELIVERED)
    log = client.log_of(namespace)
    consumer = Handler(log, consumer_name("consumer", name), handler, wants)
    return client.add(consumer, start)


def handle(
    event: Event,
    *,
    skip: Callable[[str, str, str], bool] | None = None,
    run_created: Callable[[str, str, str, Any], object] | None = None,
    run_completed: Callable[[str, str, str], object] | None = None,
    run_output: Callable[[str, str, str, str, Any], object] | None = None,
    activity_request: Callable[[str, str, str, str, Any], object] | None = None,
    activity_response: Callable[[str, str, str, str, Any], object] | None = None,
) -> None:
    """Call the function that you give for the event's type, if any.

    `run_created` gets namespace, workflow, run and message, `run_completed` the same without the
    message; both are called for each iteration.  The others get namespace, workflow, run, target
    and message.  If ``skip(namespace, workflow, run)`` is true, nothing is called.  Nor is it for
    what the library itself has added to a run: results, failures, cancels and patches.  Nor is it
    for what retention has left of a run (L9).
    """
    run = event.key[:3]
    if is_pruned(event.raw) or event.key.target in RESERVED or (skip is not None and skip(*run)):
        return
    with_target = {
        EventType.RUN_OUTPUT: run_output,
        EventType.ACTIVITY_REQUEST: activity_request,
        EventType.ACTIVITY_RESPONSE: activity_response,
    }
    if event.type is EventType.RUN_CREATED and run_created is not None:
        run_created(*run, event.message)
    elif event.type is EventType.RUN_COMPLETED and run_completed is not None:
        run_completed(*run)
    elif (function := with_target.get(event.type)) is not None:
        function(*run, event.key.target, event.message)
