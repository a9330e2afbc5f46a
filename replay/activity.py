"""Activities: functions with side effects, executed for each request.

Role: `ActivityConsumer` reads the requests of one activity, executes your function, and adds the
response.  It passes over a request that has a response (A4).  If the function raises, it parks the
request for another attempt (A2).

Invariant: the transaction that adds a response also moves the cursor past its request, or removes
its parked row.  So there is exactly one response (A1).

With several workers, a slow request must not hold up the cursor.  So it is parked while it runs,
with no failed attempts.  The cursor passes it, its response removes the row, and after a crash the
row is due.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from queue import SimpleQueue
from typing import Any

from .client import Client
from .consumer import WINDOW, Batch, Consumer, Metrics, Window, consumer_name
from .failure import FOR_EVER, Abandoned, BadRetry, GiveUp, Retry, check_timeout, failure
from .log import Attempts, Log, Parked
from .shard import Shard, in_shard
from .signature import ACTIVITY, Signature, check_signature, stored_name
from .storage.codec import CodecFailed
from .storage.database import Error, StatementFailed
from .storage.event import Event, EventType, MessageError, check_name
from .storage.tail import BYTES
from .transactional import STEP, Cursor, NotTransactional

_log = logging.getLogger("replay.activity")

_BUSY = 0.25  # seconds that a consumer waits for a worker before it looks whether it has to stop
_DEEPEST = 64  # requests that wait for a thread at most, for each consumer


class _RequestLog(logging.LoggerAdapter[logging.Logger]):
    """Puts the request in front of each message, where a plain format shows it too."""

    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:
        """As in `LoggerAdapter`."""
        assert self.extra is not None
        request = f"{self.extra['request']}, attempt {self.extra['attempt']}"
        if args:  # only then is the message a format
            request = request.replace("%", "%%")
        kwargs["stacklevel"] = kwargs.get("stacklevel", 1) + 1  # not this line, but the caller's
        super().log(level, f"{request}: {msg}", *args, **kwargs)


class ActivityContext:
    """The request that an activity executes, as the activity sees it."""

    __slots__ = (
        *("_abandoned", "_beat", "_began", "_cursor"),
        *("_ended", "_event", "_told", "attempt"),
    )

    def __init__(self, request: Event, attempt: int) -> None:
        self._event = request
        self._began = self._beat = time.monotonic()
        self._ended: float | None = None
        self._abandoned = False
        self._cursor: Cursor | None = None
        self._told: Callable[[], object] | None = None  # who wants to know when it begins
        #: 1 for the first attempt.  Attempts that ended in a crash do not count (A2).
        self.attempt = attempt

    @property
    def log(self) -> logging.LoggerAdapter[logging.Logger]:
        """A logger whose messages begin with the request's key and the attempt.

        Its records also have them as the extra fields `request` and `attempt`.
        """
        return _RequestLog(_log, {"request": self._event.text, "attempt": self.attempt})

    @property
    def namespace(self) -> str:
        """The namespace of the calling run."""
        return self._event.key.namespace

    @property
    def workflow(self) -> str:
        """The workflow of the calling run."""
        return self._event.key.workflow

    @property
    def run(self) -> str:
        """The id of the calling run."""
        return self._event.key.run

    @property
    def iteration(self) -> int:
        """The iteration of the calling run."""
        return self._event.key.iteration

    @property
    def idempotency_key(self) -> str:
        """The request's key: the same at every attempt, and different for every call (A5)."""
        return self._event.text

    @property
    def cursor(self) -> Cursor:
        """Records statements that are executed once, together with the response (V5).

        Raises `NotTransactional` unless the activity is registered with ``transactional=True``.
        """
        if self._cursor is None:
            raise NotTransactional(
                f"{self.idempotency_key}: ctx.cursor needs"
                " register_activity(..., transactional=True)"
            )
        return self._cursor

    def heartbeat(self) -> None:
        """Say that this attempt is alive: its timeout begins again (E4).

        Raises `Abandoned` if the timeout is over.  Then the result of the attempt is discarded.
        """
        if self._abandoned:
            raise Abandoned(f"attempt {self.attempt} of {self.idempotency_key} has timed out")
        self._beat = time.monotonic()

    def left(self, timeout: timedelta) -> float:
        """The seconds until the timeout is over."""
        return self._beat + timeout.total_seconds() - time.monotonic()

    def begin(self) -> None:
        """Take note that the function begins: the request may have waited for a thread."""
        self._began = self._beat = time.monotonic()
        if self._told is not None:
            self._told()

    def tell(self, told: Callable[[], object]) -> None:
        """Call this when the function begins."""
        self._told = told

    def record(self, cursor: Cursor) -> None:
        """Have the activity's statements recorded."""
        self._cursor = cursor

    def abandon(self) -> None:
        """Have the next heartbeat raise, and record no further statement."""
        self._abandoned = True
        if self._cursor is not None:
            self._cursor.closed = True

    def end(self) -> None:
        """Take note that the function has ended."""
        self._ended = time.monotonic()
        if self._cursor is not None:
            self._cursor.closed = True

    def seconds(self) -> float:
        """How long the attempt took, or has taken so far."""
        return (self._ended or time.monotonic()) - self._began


class _Raised(Error):
    """A `MessageError` that the activity itself has raised: the next attempt may succeed."""

    def __init__(self, error: MessageError) -> None:
        super().__init__(str(error))
        self.error = error


@dataclass(slots=True)
class _Running:
    event: Event
    context: ActivityContext
    result: Future[Any]
    prompt: bool  # whether a thread was free for it
    told: bool = False  # whether its consumer is woken when it begins and ends

    def has_begun(self) -> bool:
        """Whether a thread has taken it."""
        return self.result.running() or self.result.done()

    def tell(self, wake: Callable[[], object]) -> None:
        """Call `wake` when it begins and when it ends.

        Not earlier than at the end of a step, or it would wake a thread for what that has seen.
        """
        if not self.told:
            self.told = True
            self.context.tell(wake)
            self.result.add_done_callback(lambda _: wake())


_Tasks = SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None]


class _Workers:
    """Threads that execute requests.

    A process that exits waits for the threads of a `ThreadPoolExecutor`, but not for these.
    """

    def __init__(self, count: int, name: str) -> None:
        self.count = count
        self._left, self._name = count, name
        self._threads = self._busy = self._users = 0
        self._tasks: _Tasks = SimpleQueue()
        self._lock = threading.RLock()
        #: The executions that nobody waits for any more.
        self._abandoned: set[Future[Any]] = set()

    def submit(self, function: Callable[[], Any]) -> tuple[Future[Any], bool]:
        """Execute `function` in a thread, as soon as one is free.  Returns also whether one is."""
        result: Future[Any] = Future()
        with self._lock:
            prompt = self._busy < self.count
            self._busy += 1
            self._tasks.put((result, function))
            self._hire()
        return result, prompt

    def _hire(self) -> None:
        """Start a thread if something waits for one, and there may be one more (E4)."""
        if self._left and len(self._abandoned) < self.count and not self._tasks.empty():
            self._left, self._threads = self._left - 1, self._threads + 1
            name = f"{self._name}_{self._threads}"
            work = partial(self._work, self._tasks)
            threading.Thread(target=work, name=name, daemon=True).start()

    def _work(self, tasks: _Tasks) -> None:
        while (task := tasks.get()) is not None:
            result, function = task
            if not result.set_running_or_notify_cancel():
                with self._lock:
                    self._busy -= 1
            else:
                try:
                    finish = partial(result.set_result, function())
                except BaseException as error:  # for the thread that takes the result
                    finish = partial(result.set_exception, error)
                with self._lock:
                    finish()
                    if result in self._abandoned:
                        self._abandoned.discard(result)
                        self._hire()
                        return  # another thread has its place
                    self._busy -= 1
        with self._lock:
            self._left += 1
            self._hire()

    def abandon(self, result: Future[Any]) -> bool:
        """Wait no more for what a thread executes, and let another one take its place.

        Returns False if it has just ended.
        """
        with self._lock:
            if result.done():
                return False
            self._abandoned.add(result)
            self._left += 1
            self._busy -= 1
            self._hire()
            return True

    def lost(self) -> int:
        """How many threads are abandoned."""
        return len(self._abandoned)

    def join(self) -> None:
        """Take note of one more consumer that executes with these threads."""
        with self._lock:
            self._users += 1

    def leave(self) -> None:
        """Take note of one less.  After the last one, each thread ends after what it executes."""
        with self._lock:
            self._users -= 1
            if not self._users:
                for _ in range(self._threads):
                    self._tasks.put(None)
                self._threads, self._tasks = 0, SimpleQueue()


class ActivityConsumer(Consumer):
    """Executes the requests of one activity."""

    def __init__(
        self,
        events: Log,
        namespace: str,
        activity: str,
        function: Callable[..., Any],
        backends: Any,
        *,
        signature: Signature,
        shard: Shard | None,
        workers: int,
        crew: _Workers | None = None,
        retry: Retry | None,
        timeout: timedelta | None,
        metrics: Metrics | None,
        transactional: bool = False,
    ) -> None:
        self._namespace = namespace
        self._activity = activity
        self._function = function
        self._backends = backends
        self._takes, self._returns = signature
        self._shard = shard
        self._workers = workers
        #: The threads that it shares with the other shards of this process.
        self._crew = crew
        self._left_over = False  # whether a step has left requests that it could not hand out
        self._depth = 0  # requests beyond the workers that may wait for a thread
        self._policy, self._timeout = retry or FOR_EVER, timeout
        self._transactional = transactional
        #: The requests and attempts whose statements this step stores, by their keys.
        self._recorded: dict[str, tuple[Event, int]] = {}
        self._full = False  # of threads that are abandoned
        self._told: set[int] = set()  # ids of requests whose hopeless error was logged
        self._running: dict[int, _Running] = {}
        self._executing: set[str] = set()
        self._pool: _Workers | None = None
        self._context: Callable[[Event, int], ActivityContext] = ActivityContext
        self.interest = in_shard(shard, (EventType.ACTIVITY_REQUEST, namespace, activity))
        name = consumer_name("activity", namespace, activity, shard.name if shard else "")
        super().__init__(events, name, metrics=metrics)

    def run_inline(
        self, context: Callable[[Event, int, timedelta | None], ActivityContext]
    ) -> None:
        """Execute requests in the thread that steps, one by one; `context` watches the timeout."""
        timeout = self._timeout
        self._context = lambda request, attempt: context(request, attempt, timeout)
        self._workers, self._timeout, self._crew = 1, None, None

    def wants(self, event: Event) -> bool:
        """As in `Consumer`."""
        return (
            event.type is EventType.ACTIVITY_REQUEST
            and event.key.target == self._activity
            and event.key.namespace == self._namespace
            and (self._shard is None or self._shard.has(event.key.run))
        )

    def claimed(self) -> None:
        """As in `Consumer`."""
        if self._crew is not None or self._workers > 1 or self._timeout is not None:
            self._pool = self._crew or _Workers(self._workers, self.name)
            self._pool.join()

    def forget(self) -> None:
        """As in `Consumer`.  Requests that run now count as not executed."""
        for running in self._running.values():
            running.result.cancel()
        self._running.clear()
        if self._pool is not None:
            self._pool.leave()
            self._pool = None

    def executing(self) -> Sequence[str]:
        """As in `Consumer`."""
        return sorted(self._executing)

    def handle(self, events: Sequence[Event], batch: Batch) -> None:
        """As in `Consumer`."""
        answered = self.answered(events)
        waiting = deque(
            event for event in events if event.key not in answered and not self._has(event.id)
        )
        window = self.tempo.window()
        if self._pool is not None:
            self._execute_pooled(waiting, window, batch)
            held = self._settle(waiting, batch)
        else:
            while waiting and not self._stop.is_set() and not batch.full():
                event = waiting.popleft()
                context = self._attempt(event, 1)
                self._conclude(event, context, partial(self._execute, event, context), batch)
                if not window.left():
                    break
            held = [event.id for event in waiting]
        if held:
            batch.position = min(held) - 1

    def _has(self, request: int) -> bool:
        """Whether it is handed out, or parked: so it may be, after the cursor was set back."""
        return request in self._running or request in self._parked

    def _execute_pooled(self, waiting: deque[Event], window: Window, batch: Batch) -> None:
        """Keep the workers busy while the window is open."""
        while True:
            while waiting and self._free(self._depth):
                self._submit(waiting.popleft(), 0)
            self._harvest(batch)
            left = window.left()
            if not self._running or not left or self._stop.is_set() or batch.full():
                return
            new = self._new()
            # With nothing left to hand out, wait only for requests that begin in this step.
            soon = any(running.prompt or running.has_begun() for running in new)
            if not soon and not (waiting and self._free(self._depth)):
                return
            self._await([running.result for running in new], left, batch, more=bool(waiting))

    def _settle(self, waiting: deque[Event], batch: Batch) -> list[int]:
        """Park what runs.  Returns the ids of the other requests, before which the cursor stays.

        Only what runs may be parked (A3).  Of what waits for a thread, so much keeps its place that
        no thread has to wait for this one, and no other shard for long.
        """
        queued: list[_Running] = []
        now = self._log.now()
        for running in self._running.values():
            running.tell(self.wake)  # before the look, or it may begin in between
            if running.event.id in self._parked:
                continue
            if running.has_begun():
                row = Parked(running.event.id, running.event.text, 0, now, "running")
                batch.parked.append(row)
            else:
                queued.append(running)
        self._recall(queued[self._workers :])
        self._plan(batch, slow=bool(queued))
        self._left_over = bool(waiting)
        return [event.id for event in waiting] + [running.event.id for running in queued]

    def _recall(self, some: Sequence[_Running]) -> None:
        """Take back those of these requests that no thread has taken, the last ones first."""
        for running in reversed(some):
            if running.result.cancel():
                del self._running[running.event.id]

    def _await(self, new: Sequence[Future[Any]], left: float, batch: Batch, more: bool) -> None:
        """Wait until there is something to do; `more` says that requests wait to be handed out."""
        if self._depth and new:
            # All of them: to look after each one would take longer than a quick one itself.
            wait(new[len(new) // 2 :][:1] if more else new, left)
            return
        # With all workers busy, and all they do parked, there is nothing to commit for a while.
        idle = len(self._running) == self._workers and not batch.size() and not new
        futures = [running.result for running in self._running.values()]
        wait(futures, _BUSY if idle else left, FIRST_COMPLETED)

    def _plan(self, batch: Batch, *, slow: bool) -> None:
        """Choose how many requests may wait for a thread: what is done in half a window, or 4 MiB.

        Threads that take the next request by themselves need not wait for this one.  If something
        is `slow`, only as many as there are workers may run or wait.
        """
        if slow:
            self._depth = 0
        elif count := len(batch.seconds):
            each = max(sum(batch.seconds) / count, WINDOW / 2 / _DEEPEST)
            size = max(batch.bytes / count, BYTES / 2 / _DEEPEST)
            done = min(self._workers * WINDOW / 2 / each, BYTES / 2 / size, _DEEPEST)
            self._depth = max(0, int(done) - self._workers)

    def _new(self) -> list[_Running]:
        """Return what runs and is not parked yet."""
        return [running for id, running in self._running.items() if id not in self._parked]

    def _free(self, depth: int = 0) -> bool:
        """Whether another request may be handed out, where `depth` more than workers may wait.

        Each attempt that was abandoned may go on for ever.  So when there are as many as workers,
        nothing is handed out until one of them ends (E4).
        """
        assert self._pool is not None
        full = self._pool.lost() >= self._pool.count
        if full and not self._full:
            _log.error(
                "%s executes nothing more: %d attempts have not ended after their timeout;"
                " let them call heartbeat(), or start this process again",
                self.name,
                self._workers,
            )
        self._full = full
        return not full and len(self._running) < self._workers + depth

    def can_retry(self, parked: Parked) -> bool:
        """As in `Consumer`: not while the request runs, or while all workers are busy."""
        idle = parked.event_id not in self._running
        return idle and (self._pool is None or self._free())

    def blocked(self) -> datetime | None:
        """As in `Consumer`: when to look again, if a thread does not wake it before."""
        if self._pool is None:
            return None
        queued = any(not running.has_begun() for running in self._running.values())
        full = self._pool.lost() >= self._pool.count
        if not (queued or full or (self._left_over and not self._free(self._depth))):
            return None
        seconds = min(_BUSY, self._next_timeout())
        return self._log.now() + timedelta(seconds=seconds)

    def due_when_claimed(self, parked: Parked) -> bool:
        """As in `Consumer`: only what was running, or each start would use up an attempt."""
        return parked.error == "running"

    def due(self) -> datetime | None:
        """As in `Consumer`: when the next attempt times out."""
        if self._timeout is None or not self._running:
            return None
        return self._log.now() + timedelta(seconds=self._next_timeout())

    def _next_timeout(self) -> float:
        """The seconds until the next attempt times out."""
        if (timeout := self._timeout) is None:
            return threading.TIMEOUT_MAX
        begun = (running.context for running in self._running.values() if running.has_begun())
        left = (context.left(timeout) for context in begun)
        return max(0.0, min(left, default=threading.TIMEOUT_MAX))

    def retry(self, parked: Parked, batch: Batch) -> None:
        """As in `Consumer`."""
        event = self._log.get(parked.event_id)
        if (
            event is None
            or not self.wants(event)
            or self._log.exists(EventType.ACTIVITY_RESPONSE, event.key)
        ):
            batch.unparked.append(parked.event_id)
        elif self._pool is None:
            context = self._attempt(event, parked.attempts + 1)
            self._conclude(event, context, partial(self._execute, event, context), batch)
        else:
            self._submit(event, parked.attempts)

    def _attempt(self, event: Event, attempt: int) -> ActivityContext:
        context = self._context(event, attempt)
        if self._transactional:
            context.record(Cursor(self._log.max_message))
        return context

    def _submit(self, event: Event, attempts: int) -> None:
        """Hand a request to a thread."""
        assert self._pool is not None
        context = self._attempt(event, attempts + 1)
        execute = partial(self._execute, event, context)
        self._running[event.id] = _Running(event, context, *self._pool.submit(execute))

    def _harvest(self, batch: Batch) -> None:
        for id, running in list(self._running.items()):
            if running.result.done() and not batch.full():
                del self._running[id]
                self._conclude(running.event, running.context, running.result.result, batch)
            elif self._is_late(running):
                self._abandon(id, running, batch)

    def _is_late(self, running: _Running) -> bool:
        timeout = self._timeout
        if timeout is None or running.context.left(timeout) > 0:
            return False
        return running.result.running()  # one that waits for a thread has not begun

    def _abandon(self, id: int, running: _Running, batch: Batch) -> None:
        """Count an attempt that takes too long as failed, and discard what comes of it (E4)."""
        assert self._pool is not None
        if not batch.full() and self._pool.abandon(running.result):
            del self._running[id]
            running.context.abandon()
            batch.seconds.append(running.context.seconds())
            error = TimeoutError(f"the attempt has taken longer than {self._timeout}")
            self._fail(running.event, running.context.attempt, error, batch)

    def give_up(self) -> None:
        """As in `Consumer`, after the workers have ended, or when it is time to stop."""
        self._recall(list(self._running.values()))
        try:
            while self._position is not None and self._running:
                futures = [running.result for running in self._running.values()]
                left = min(self._stop_by - time.monotonic(), threading.TIMEOUT_MAX)
                if left <= 0:
                    break
                wait(futures, min(left, self._next_timeout()), FIRST_COMPLETED)
                batch = Batch(self._position)
                self._harvest(batch)
                self._measure((), batch, self._commit(batch))
        except Error as error:
            _log.warning("%s: what it executed is executed again: %s", self.name, error)
            self._forget()
        super().give_up()

    def _execute(self, event: Event, context: ActivityContext) -> Any:
        self._executing.add(event.text)
        context.begin()
        try:
            message = self._takes.read(event)
            try:
                return self._function(context, self._backends, message)
            except MessageError as error:
                raise _Raised(error) from error
        finally:
            self._executing.discard(event.text)
            context.end()

    def _conclude(
        self, event: Event, context: ActivityContext, result: Callable[[], Any], batch: Batch
    ) -> None:
        """Add the response, or park the request."""
        try:
            message = self._returns.encode(result(), event.text)
            response = self._log.event(EventType.ACTIVITY_RESPONSE, event.key, message, event.text)
        except KeyboardInterrupt:
            raise
        except _Raised as error:
            self._fail(event, context.attempt, error.error, batch)
        except MessageError as error:  # of what it takes or returns; a codec may work later
            hopeless = not isinstance(error, CodecFailed)
            self._fail(event, context.attempt, error, batch, hopeless=hopeless)
        except BaseException as error:
            self._fail(event, context.attempt, error, batch)
        else:
            self._respond(response, batch, event.id)
            if self._transactional and context.cursor.steps:
                batch.steps[event.text] = steps = tuple(context.cursor.steps)
                batch.bytes += context.cursor.size + STEP * len(steps)
                self._recorded[event.text] = (event, context.attempt)
        batch.seconds.append(context.seconds())

    def _commit(self, batch: Batch) -> Attempts:
        """As in `Consumer`.  If a recorded statement fails, only its own request is parked (V5)."""
        try:
            while True:
                try:
                    return super()._commit(batch)
                except StatementFailed as error:
                    self._take_back(error, batch)
        finally:
            self._recorded.clear()

    def _take_back(self, error: StatementFailed, batch: Batch) -> None:
        """Count the attempt as failed whose statement the database has refused."""
        guilty = (key for key, steps in batch.steps.items() if any(s is error.step for s in steps))
        event, attempt = self._recorded[key := next(guilty)]
        del batch.steps[key]
        batch.events = [each for each in batch.events if each.text != key]
        batch.unparked = [id for id in batch.unparked if id != event.id]
        self._fail(event, attempt, error, batch)

    def _respond(self, response: Event, batch: Batch, request: int) -> None:
        batch.add(response)
        self._told.discard(request)
        if request in self._parked:
            batch.unparked.append(request)

    def _fail(
        self,
        event: Event,
        attempts: int,
        error: BaseException,
        batch: Batch,
        *,
        hopeless: bool = False,
    ) -> None:
        """Park the request for another attempt, or respond that there will be none (E3, E5)."""
        policy = self._policy
        limited = policy is not FOR_EVER
        if isinstance(error, GiveUp) or policy.is_over(attempts, error) or (hopeless and limited):
            stored = failure(error, self._log.event, attempts)
            _log.warning("%s: %s gives up after attempt %d", self.name, event.text, attempts)
            response = self._log.event(EventType.ACTIVITY_RESPONSE, event.key, stored, event.text)
            self._respond(response, batch, event.id)
            batch.failed += 1
            return
        if not hopeless:
            pause = policy.pause(attempts, self.tempo.uniform)
            self.park(batch, event.id, event.key, attempts, error, pause)
            return
        report = event.id not in self._told
        self._told.add(event.id)
        self.park(
            batch, event.id, event.key, attempts, error, policy.longest, report, traceback=False
        )


def register_activity(
    client: Client,
    namespace: str,
    activity: Callable[..., Any],
    backends: Any = None,
    *,
    name: str | None = None,
    shard: Shard | None = None,
    shards: int | None = None,
    workers: int = 1,
    retry: Retry | None = None,
    timeout: timedelta | None = None,
    transactional: bool = False,
    metrics: Metrics | None = None,
    start: bool = True,
) -> Consumer:
    """Execute ``activity(ctx: ActivityContext, backends: B, message: M) -> R``.

    The annotations of the message and of the result say what it takes and returns (J1, J3).  Make
    it idempotent: after a crash a request may be executed again (A1).  Workflows call it by `name`,
    or else by the function's own name (N1).  Each call gets `backends`.  With `shards`, all
    processes that register the activity with the same number share its requests evenly (H3).
    `shard` restricts it to a part of the runs that you choose (H1).  With several `workers`, up to
    that many requests are executed at once, in threads (A3), which the shards of a process share.
    `retry` says when a request is tried again and when no more (E3); without it, a request is tried
    until it succeeds, unless the activity raises `GiveUp`.  An attempt that takes longer than
    `timeout`, and calls no ``ctx.heartbeat()`` meanwhile, has failed (E4).  With `transactional`,
    ``ctx.cursor.execute(sql, parameters)`` records statements that are executed exactly once,
    together with the response (V5).

    Raises `BadSignature`, `BadAnnotation`, `BadRetry`, `BadShard`, `InvalidName`,
    `AlreadyRegistered`, `OtherShards`, `EmbeddedOnly` if `transactional` with a client of a server,
    or `ValueError` for fewer than one worker.
    """
    signature = check_signature(activity, ACTIVITY)
    check_name("namespace", namespace)
    stored = stored_name("activity", activity, name)
    if workers < 1:
        raise ValueError(f"activity {stored}: {workers} workers, expected 1 or more")
    if retry is not None and not isinstance(retry, Retry):
        raise BadRetry(f"activity {stored}: retry={retry!r}: expected a Retry(...)")
    if transactional:
        client.log_of(namespace).require_embedded(f"activity {stored}: transactional=True")
    events, timeout = client.log_of(namespace), check_timeout(f"activity {stored}", timeout)
    crew = _Workers(workers, f"activity/{namespace}/{stored}") if shards is not None else None

    def make(shard: Shard | None) -> Consumer:
        return ActivityConsumer(
            events,
            namespace,
            stored,
            activity,
            backends,
            signature=signature,
            shard=shard,
            workers=workers,
            crew=crew,
            retry=retry,
            timeout=timeout,
            transactional=transactional,
            metrics=metrics,
        )

    return client.add(client.divided(events, make, shard, shards), start)
