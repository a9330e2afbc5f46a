"""Workflows: the consumer that gives runs their events, and commits what they add.

Role: `WorkflowConsumer` reads the created events and responses of one workflow, gives them to the
runs, and puts the events that the runs add into its batch.

Invariants:

- A run that is not in memory is replayed from its history, up to the event at hand.  Later
  events come as the log is read on.
- A run that fails leaves nothing of the failed step behind.  It is parked, evicted from memory, and
  replayed later.  Other runs do not notice (R5).
- A run belongs to the thread that steps its consumer.  All runs of a workflow share that thread.

Left to `replay.activity`: the other side of a request.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any

from .client import Client
from .consumer import Batch, Consumer, Metrics, consumer_name
from .failure import CANCEL, CANCELLED, FAILURE, read_cancel
from .log import Log, Parked
from .run import History, Run, RunKey
from .server.proto.values_pb2 import Cancel, Failure
from .shard import Shard, in_shard
from .signature import WORKFLOW, Signature, check_signature, stored_name
from .storage.database import later
from .storage.event import UNKNOWN, Event, EventType, Key, check_name

log = logging.getLogger("replay")

_SILENCE = timedelta(seconds=10)  # until a look whether anybody serves an activity
_CACHED = 64 * 1024 * 1024  # bytes of messages that the waiting runs of a workflow keep in memory


class _Unanswered:
    """The activities that runs of this workflow wait for and that have never answered.

    Their requests would wait in silence if you forgot to register the activity.
    """

    def __init__(self, namespace: str) -> None:
        self._namespace = namespace
        # When each was first called; None if it needs no further look.
        self._since: dict[str, datetime | None] = {}

    def called(self, activity: str, now: datetime) -> None:
        """Take note of a call."""
        if activity not in self._since and not activity.startswith("replay_"):
            self._since[activity] = now

    def answered(self, activity: str) -> None:
        """Take note of a response."""
        self._since[activity] = None

    def due(self) -> datetime | None:
        """When to look next."""
        moments = (later(since, _SILENCE) for since in self._since.values() if since is not None)
        return min(moments, default=None)

    def look(self, events: Log, now: datetime) -> None:
        """Warn once of each activity that has not answered for long and that nobody serves."""
        for activity, since in self._since.items():
            if since is not None and later(since, _SILENCE) <= now:
                self._since[activity] = None
                if not events.served(consumer_name("activity", self._namespace, activity)):
                    log.warning(
                        "nobody serves activity %s of namespace %s, so its requests wait: call"
                        " register_activity in a process that runs",
                        activity,
                        self._namespace,
                    )


def _terminates(event: Event) -> bool:
    cancel = read_cancel(event) if event.key.target == CANCEL else None
    return cancel is not None and cancel.terminate


class WorkflowConsumer(Consumer):
    """Calls one workflow's function for its runs."""

    def __init__(
        self,
        events: Log,
        namespace: str,
        workflow: str,
        function: Callable[..., Any],
        *,
        signature: Signature,
        shard: Shard | None,
        await_timeout: timedelta,
        max_cached: int,
        metrics: Metrics | None,
    ) -> None:
        self._of = (namespace, workflow)
        self._function = function
        self._signature = signature
        self._shard = shard
        self._await_timeout = await_timeout
        self._max_cached = max_cached
        #: Runs in memory; the least recently used one is first.
        self._runs: OrderedDict[RunKey, Run] = OrderedDict()
        self._held = 0  # the bytes that they keep
        self._ended: OrderedDict[RunKey, None] = OrderedDict()
        self._parked_runs: set[RunKey] = set()
        self._unanswered = _Unanswered(namespace)
        self._begun: set[Key] = set()  # iterations of this batch that have a history
        self._now = events.now()
        self._unread: BaseException | None = None  # the error that kept a history from being read
        types = (EventType.ACTIVITY_RESPONSE, EventType.RUN_CREATED)
        self.interest = in_shard(shard, *((type, namespace, workflow) for type in types))
        name = consumer_name("workflow", namespace, workflow, shard.name if shard else "")
        super().__init__(events, name, metrics=metrics)

    def wants(self, event: Event) -> bool:
        """As in `Consumer`."""
        return (
            (event.type is EventType.ACTIVITY_RESPONSE or event.type is EventType.RUN_CREATED)
            and event.key[:2] == self._of
            and (self._shard is None or self._shard.has(event.key.run))
        )

    def claimed(self) -> None:
        """As in `Consumer`."""
        self._parked_runs = {Key.parse(parked.key)[:4] for parked in self._parked.values()}

    def forget(self) -> None:
        """As in `Consumer`."""
        for run in self._runs.values():
            run.evict()
        self._runs.clear()
        self._held = 0
        self._ended.clear()

    def handle(self, events: Sequence[Event], batch: Batch) -> None:
        """As in `Consumer`."""
        self._now = self._log.now()
        self._forget_ended(len(batch.events))
        # Runs that were created later have no history: nobody else has run them.
        self._begun = self._log.begun(
            [e.key for e in events if e.type is EventType.RUN_CREATED and e.id <= self._known_up_to]
        )
        doomed = {e.key[:4] for e in events if e.key.target == CANCEL and _terminates(e)}
        for event in events:
            full = batch.full() or self._held > 2 * _CACHED
            if full and event is not events[0]:
                batch.position = event.id - 1
                break
            key: RunKey = event.key[:4]
            if doomed and key in doomed and not _terminates(event):
                continue  # or a run that restarts and restarts could never be terminated
            if event.type is EventType.ACTIVITY_RESPONSE:
                self._unanswered.answered(event.key.target)
            else:  # after retention has forgotten a run, its id may be used again (L9)
                self._ended.pop(key, None)
            history = None if key in self._runs else self._history_for(key, event)
            if event.key.target == CANCEL and not self._reaches(event, history, batch):
                continue  # it does not go to the run, or no more
            if key in self._parked_runs:
                continue  # the next attempt finds the event in the history
            try:
                run = self._runs.get(key) or self._load(key, event, history)
                if run is not None:
                    self._advance(run, event)
                    self._collect(run, batch)
            except KeyboardInterrupt:
                raise
            except BaseException as error:
                self._park_run(key, event.id, 1, error, batch)
            else:  # an error of the database in here fails the step, not the run
                if event.key.target == CANCEL and run is not None and run.ended:
                    self._pass_on(event, batch)
        self._evict_idle()
        self._unanswered.look(self._log, self._now)

    def retry(self, parked: Parked, batch: Batch) -> None:
        """As in `Consumer`: replay the run."""
        self._retry(parked, self._position or 0, batch)

    def _retry(self, parked: Parked, up_to: int, batch: Batch) -> None:
        self._now = self._log.now()
        key: RunKey = Key.parse(parked.key)[:4]
        history, passed = History(self._log.history(Key(*key))), []
        try:
            if not history.is_over():
                cancels = [each for each in history.responses if each.key.target == CANCEL]
                run = self._replay(history, up_to)
                self._collect(run, batch)
                if run.ended:  # these came while the run was parked
                    passed = [cancel for cancel in cancels if cancel.id <= up_to]
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            self._park_run(key, parked.event_id, parked.attempts + 1, error, batch)
        else:
            self._parked_runs.discard(key)
            batch.unparked.append(parked.event_id)
            for cancel in passed:
                self._pass_on(cancel, batch)

    def _park_run(
        self, key: RunKey, event_id: int, attempts: int, error: BaseException, batch: Batch
    ) -> None:
        if error is self._unread:  # an error of the database fails the step, not the run
            raise error
        self._evict(key)
        self._parked_runs.add(key)
        self.park(batch, event_id, Key(*key), attempts, error)

    # Cancels (E7).

    def _reaches(self, event: Event, history: History | None, batch: Batch) -> bool:
        """Return whether to give a cancel to its run, as a response.

        Otherwise all is done: the run is terminated, or has ended, or has restarted meanwhile, or
        was parked and is tried again.
        """
        key: RunKey = event.key[:4]
        if (cancel := read_cancel(event)) is None:
            log.warning("%r is ignored: it holds no replay.v1.Cancel", event)
            return False
        if key in self._ended or (history is not None and history.is_over()):
            self._pass_on(event, batch)
        elif cancel.terminate:
            self._terminate(key, cancel, batch)
        elif (parked := self._parked_at(key, batch)) is not None:
            self._unpark(parked, batch)
            self._retry(parked, event.id, batch)
        else:
            return True
        return False

    def _pass_on(self, event: Event, batch: Batch) -> None:
        """Hand the cancel of an iteration that has restarted to the next one.

        The restart may be in this very batch, or was committed while the cancel was on its way.  An
        iteration that has got its cancel, and restarts all the same, says so by an output: then a
        cursor that is set back does not cancel the next one.
        """
        key = event.key
        if (cancel := read_cancel(event)) is None:
            return
        following = Key(*key[:3], key.iteration + 1)
        # The next one may have got a cancel of its own already, which must not hide a termination.
        passed = following._replace(target=CANCEL, sequence="1" if cancel.terminate else "0")
        if not cancel.terminate and self._has(EventType.RUN_OUTPUT, key, batch):
            return
        if not self._has(EventType.RUN_CREATED, following, batch):
            self._ignore(event)
        elif not self._has(EventType.ACTIVITY_RESPONSE, passed, batch):
            given = Event(0, EventType.ACTIVITY_RESPONSE, passed, UNKNOWN, event.raw)
            batch.add(self._log.sealed(given))

    def _has(self, type: EventType, key: Key, batch: Batch) -> bool:
        new = any(event.type is type and event.key == key for event in batch.events)
        return new or self._log.exists(type, key)

    def _terminate(self, key: RunKey, cancel: Cancel, batch: Batch) -> None:
        """End a run without its code."""
        self._evict(key)
        failed = Failure(kind=CANCELLED, text=cancel.reason)
        place = Key(*key, FAILURE, "0")
        batch.events.append(self._log.event(EventType.RUN_OUTPUT, place, failed))
        batch.events.append(self._log.event(EventType.RUN_COMPLETED, Key(*key)))
        self._end(key)
        if (parked := self._parked_at(key, batch)) is not None:
            self._unpark(parked, batch)
            self._parked_runs.discard(key)

    def _parked_at(self, key: RunKey, batch: Batch) -> Parked | None:
        """The parked row of a run, stored or of this batch."""
        if key not in self._parked_runs:
            return None
        text = str(Key(*key))
        rows = [*batch.parked, *self._parked.values()]
        return next((parked for parked in rows if parked.key == text), None)

    def _unpark(self, parked: Parked, batch: Batch) -> None:
        batch.parked = [each for each in batch.parked if each.event_id != parked.event_id]
        batch.unparked.append(parked.event_id)

    def _history_for(self, key: RunKey, event: Event) -> History | None:
        """Read the history of a run that is not in memory; None if it has ended, is new, or parked.

        An error of the database here fails the step, not the run.
        """
        if key in self._ended or key in self._parked_runs:
            return None
        if event.type is EventType.RUN_CREATED and event.key not in self._begun:
            return None
        return History(self._log.history(Key(*key)))

    def _load(self, key: RunKey, event: Event, history: History | None) -> Run | None:
        """Bring a run into memory as it was before `event`; None if it has ended."""
        if key in self._ended:
            self._ignore(event)
            return None
        if history is not None and history.is_over():
            self._end(key)
            self._ignore(event)
            return None
        if event.type is EventType.RUN_CREATED:
            return self._begin(event, history)
        assert history is not None
        return self._replay(history, event.id - 1)

    def _ignore(self, event: Event) -> None:
        """Pass over an event of a run that has ended (R9), for instance after a cursor's reset."""
        level = logging.WARNING if event.id > self._known_up_to else logging.INFO
        log.log(level, "%r is ignored: its run has completed, or never began", event)

    def _begin(self, created: Event, history: History | None) -> Run:
        run = Run(self._function, created, history, self._log.event, self._signature)
        self._keep(run)
        return run

    def _replay(self, history: History, up_to: int) -> Run:
        """Replay a run up to the event with id `up_to`."""
        assert history.created is not None
        (history.created,) = self._loaded([history.created])
        run = self._begin(history.created, history)
        # The run keeps its history for requests and outputs; the responses need not stay in memory.
        responses, history.responses = history.responses, []
        try:
            run.start()
            for response in self._loaded(responses):
                if run.ended or response.id > up_to:
                    break
                run.feed(response)
        except BaseException:
            self._evict(run.key)
            raise
        return run

    def _loaded(self, events: Sequence[Event]) -> Iterator[Event]:
        try:
            yield from self._log.load(events)
        except BaseException as error:
            self._unread = error
            raise

    def _advance(self, run: Run, event: Event) -> None:
        if event.type is EventType.RUN_CREATED:
            if run.created.id == event.id:
                run.start()
        elif not run.ended:
            run.feed(event)

    def _collect(self, run: Run, batch: Batch) -> None:
        for event in run.added:
            if event.type is EventType.ACTIVITY_REQUEST:
                self._unanswered.called(event.key.target, self._now)
        batch.bytes += run.added_bytes
        batch.events += run.taken()
        if run.ended:
            self._remove(run.key)
            self._end(run.key)
        else:
            self._keep(run)

    def _keep(self, run: Run) -> None:
        run.used = self._now
        self._runs[run.key] = run
        self._runs.move_to_end(run.key)
        self._held += run.held - run.kept
        run.kept = run.held

    def _remove(self, key: RunKey) -> Run | None:
        if (run := self._runs.pop(key, None)) is not None:
            self._held -= run.kept
        return run

    def _end(self, key: RunKey) -> None:
        self._ended[key] = None

    def _forget_ended(self, new: int) -> None:
        """Forget iterations that ended before this batch, which has so many new events.

        The log does not say yet that those of this batch have ended.
        """
        while len(self._ended) > self._max_cached + new:
            self._ended.popitem(last=False)

    def _evict(self, key: RunKey) -> None:
        if (run := self._remove(key)) is not None:
            run.evict()

    def due(self) -> datetime | None:
        """As in `Consumer`."""
        moments = (self._eviction_due(), self._unanswered.due())
        return min((moment for moment in moments if moment is not None), default=None)

    def _eviction_due(self) -> datetime | None:
        """When the run that has waited longest is evicted."""
        for run in self._runs.values():
            return later(run.used, self._await_timeout)
        return None

    def _evict_idle(self) -> None:
        """Evict runs that have waited too long, and those beyond `max_cached` or 64 MiB (R10).

        The run that was used last may be larger: it would be replayed with each of its events.
        """
        now = self._log.now()
        while (due := self._eviction_due()) is not None and (
            due <= now
            or len(self._runs) > self._max_cached
            or (self._held > _CACHED and len(self._runs) > 1)
        ):
            self._evict(next(iter(self._runs)))


def register_workflow(
    client: Client,
    namespace: str,
    workflow: Callable[..., Any],
    *,
    name: str | None = None,
    shard: Shard | None = None,
    shards: int | None = None,
    await_timeout: timedelta = timedelta(hours=1),
    max_cached: int = 10_000,
    metrics: Metrics | None = None,
    start: bool = True,
) -> Consumer:
    """Call the function ``workflow(ctx: RunContext, message: M) -> R`` for the workflow's runs.

    The annotation of the message says what the workflow takes (J1, J3).  All these runs share one
    thread, so a function that blocks delays the others.  They are stored under `name`, or else
    under the function's own name (N1).  With `shards`, all processes that register the workflow
    with the same number share its runs evenly (H3).  `shard` restricts the consumer to a part of
    the runs that you choose (H1).  At most `max_cached` waiting runs of each shard stay in memory,
    and none that has waited for `await_timeout` (R10).  Raises `BadSignature`, `BadAnnotation`,
    `InvalidName`, `AlreadyRegistered`, `BadShard` or `OtherShards`.
    """
    signature = check_signature(workflow, WORKFLOW)
    check_name("namespace", namespace)
    stored = stored_name("workflow", workflow, name)
    events = client.log_of(namespace)

    def make(shard: Shard | None) -> Consumer:
        return WorkflowConsumer(
            events,
            namespace,
            stored,
            workflow,
            signature=signature,
            shard=shard,
            await_timeout=await_timeout,
            max_cached=max_cached,
            metrics=metrics,
        )

    return client.add(client.divided(events, make, shard, shards), start)
