"""Workflows: the consumer that gives runs their events, and commits what they add.

Role: `WorkflowConsumer` reads created events and responses of one workflow, gives them to its runs,
and puts what the runs ask for into its batch.

Invariants:

- A run that is not in memory is made from its history, up to the event at hand; the rest of its
  history comes along in the log.
- A run that fails leaves nothing of the failed step behind.  It is parked, dropped from memory, and
  made anew from its history later.  Other runs do not notice (R5).
- A cached run belongs to the thread that steps its consumer, and is dropped in it.

Left to `activity`: the other side of a request.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

from google.protobuf.message import Message

from .client import Client, check_signature, consumer_name
from .consumer import FAILURES, Batch, Consumer, Metrics
from .log import Log, Parked
from .run import History, Run, RunKey
from .shard import Shard
from .storage.database import later
from .storage.event import Event, EventType, Key, MessageError, check_name

log = logging.getLogger("replay")


class WrongInput(MessageError):
    """A run was started with a message that its workflow does not take."""


class WorkflowConsumer(Consumer):
    """Gives the events of one workflow's runs to its function."""

    def __init__(
        self,
        events: Log,
        namespace: str,
        workflow: str,
        function: Callable[..., Any],
        *,
        takes: type[Message] | None,
        shard: Shard | None,
        await_timeout: timedelta,
        max_cached: int,
        metrics: Metrics | None,
    ) -> None:
        self._of = (namespace, workflow)
        self._function = function
        self._takes = takes
        self._shard = shard
        self._await_timeout = await_timeout
        self._max_cached = max_cached
        self._runs: OrderedDict[RunKey, tuple[Run, datetime]] = OrderedDict()  # oldest use first
        self._ended: OrderedDict[RunKey, None] = OrderedDict()
        self._aside: set[RunKey] = set()  # parked runs
        self._known_up_to = 0
        self._begun: set[Key] = set()  # of the runs whose creation is at hand
        self._now = events.now()
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
        # Of runs created later than this there is no history: nobody else has run them.
        self._known_up_to = self._log.newest()
        self._aside = {Key.parse(parked.key)[:4] for parked in self._parked.values()}

    def forget(self) -> None:
        """As in `Consumer`."""
        for run, _ in self._runs.values():
            run.drop()
        self._runs.clear()
        self._ended.clear()

    def handle(self, events: Sequence[Event], batch: Batch) -> None:
        """As in `Consumer`."""
        self._now = self._log.now()
        self._begun = self._log.begun(
            [e.key for e in events if e.type is EventType.RUN_CREATED and e.id <= self._known_up_to]
        )
        for event in events:
            key: RunKey = event.key[:4]
            if key in self._aside:
                continue  # it comes back from its history
            history = self._history_for(key, event)
            try:
                run = self._runs[key][0] if key in self._runs else self._revive(key, event, history)
                if run is not None:
                    self._advance(run, event)
                    self._collect(run, batch)
            except FAILURES as error:
                self._set_aside(key, event.id, 1, error, batch)
        self._evict()

    def retry(self, parked: Parked, batch: Batch) -> None:
        """As in `Consumer`: make the run anew from its history."""
        self._now = self._log.now()
        key: RunKey = Key.parse(parked.key)[:4]
        history = History(self._log.history(Key(*key)))
        try:
            if history.completed is None and history.created is not None:
                run = self._replay(history, self._position or 0)
                self._collect(run, batch)
        except FAILURES as error:
            self._set_aside(key, parked.event_id, parked.attempts + 1, error, batch)
        else:
            self._aside.discard(key)
            batch.unparked.append(parked.event_id)

    def _set_aside(
        self, key: RunKey, event_id: int, attempts: int, error: BaseException, batch: Batch
    ) -> None:
        self._drop(key)
        self._aside.add(key)
        self.park(batch, event_id, Key(*key), attempts, error)

    def _history_for(self, key: RunKey, event: Event) -> History | None:
        """The history of a run that is not in memory; None for one that ended or is new.

        A database that fails here fails the step, not the run.
        """
        if key in self._runs or key in self._ended:
            return None
        if event.type is EventType.RUN_CREATED and event.key not in self._begun:
            return None
        return History(self._log.history(Key(*key)))

    def _revive(self, key: RunKey, event: Event, history: History | None) -> Run | None:
        """A run that is not in memory, as it was before `event`; None if it has ended."""
        if key in self._ended:
            self._ignore(event)
            return None
        if history is not None and (history.completed is not None or history.created is None):
            self._end(key)
            self._ignore(event)
            return None
        if event.type is EventType.RUN_CREATED:
            return self._begin(event, history)
        assert history is not None
        return self._replay(history, event.id - 1)

    def _ignore(self, event: Event) -> None:
        """R9: also what is read once more after a cursor was set back."""
        level = logging.WARNING if event.id > self._known_up_to else logging.INFO
        log.log(level, "%r is ignored: its run has completed, or never began", event)

    def _begin(self, created: Event, history: History | None) -> Run:
        message = created.message
        if self._takes is not None and not isinstance(message, self._takes | None):
            raise WrongInput(
                f"run {created.key} was started with a {type(message).__name__}, its workflow takes"
                f" {self._takes.__name__}: start another run, or let the workflow take this too"
            )
        run = Run(self._function, created, history, self._log.event)
        self._keep(run)
        return run

    def _replay(self, history: History, up_to: int) -> Run:
        """A run as it was after the event with id `up_to`."""
        assert history.created is not None
        run = self._begin(history.created, history)
        # The run keeps its history for what is still to be asked for, and not for the rest.
        responses, history.responses = history.responses, []
        try:
            run.start()
            for response in responses:
                if run.ended or response.id > up_to:
                    break
                run.feed(response)
        except BaseException:
            self._drop(run.key)
            raise
        return run

    def _advance(self, run: Run, event: Event) -> None:
        if event.type is EventType.RUN_CREATED:
            if run.created.id == event.id:
                run.start()
        elif not run.ended:
            run.feed(event)

    def _collect(self, run: Run, batch: Batch) -> None:
        batch.events += run.added
        run.added = []
        if run.ended:
            self._runs.pop(run.key, None)
            self._end(run.key)
        else:
            self._keep(run)

    def _keep(self, run: Run) -> None:
        self._runs[run.key] = (run, self._now)
        self._runs.move_to_end(run.key)

    def _end(self, key: RunKey) -> None:
        self._ended[key] = None
        if len(self._ended) > self._max_cached:
            self._ended.popitem(last=False)

    def _drop(self, key: RunKey) -> None:
        if (found := self._runs.pop(key, None)) is not None:
            found[0].drop()

    def due(self) -> datetime | None:
        """As in `Consumer`: when the run that has waited longest is to be dropped."""
        for _, used in self._runs.values():
            return later(used, self._await_timeout)
        return None

    def _evict(self) -> None:
        """Keep the cache within its bounds (R10)."""
        now = self._log.now()
        while (due := self.due()) is not None and (
            due <= now or len(self._runs) > self._max_cached
        ):
            self._drop(next(iter(self._runs)))


def register_workflow(
    client: Client,
    namespace: str,
    workflow: Callable[..., Any],
    *,
    name: str | None = None,
    shard: Shard | None = None,
    await_timeout: timedelta = timedelta(hours=1),
    max_cached: int = 10_000,
    metrics: Metrics | None = None,
    start: bool = True,
) -> Consumer:
    """Run the workflow function ``workflow(ctx: RunContext, message: M) -> None`` for its runs.

    Its runs are stored under `name`, or else the function's own (N1).  `shard` takes a part of the
    runs (H1).  At most `max_cached` waiting runs are kept in memory, and none that has waited for
    `await_timeout` (R10).  Raises `BadSignature`, `InvalidName`, `AlreadyRegistered`.
    """
    takes = check_signature(workflow, "workflow(ctx: RunContext, message: M) -> None")
    check_name("namespace", namespace)
    stored = check_name("workflow", getattr(workflow, "__name__", "") if name is None else name)
    consumer = WorkflowConsumer(
        client.log_of(namespace),
        namespace,
        stored,
        workflow,
        takes=takes,
        shard=shard,
        await_timeout=await_timeout,
        max_cached=max_cached,
        metrics=metrics,
    )
    client.add(consumer, start)
    return consumer
