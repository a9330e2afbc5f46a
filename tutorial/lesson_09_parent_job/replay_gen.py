# Made by "typedreplay namespace.py" from that file: change it, not this one.
# isort: skip_file
"""The namespace parent_job."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import NoReturn, Protocol

import replay
from replay import typed

from tutorial.lesson_09_parent_job import job_pb2

_NAMESPACE = "parent_job"


class JobFlow(typed.Flow, Protocol):
    """Finds one provider for a job."""

    def restart(self, message: job_pb2.Job) -> NoReturn:
        """End this iteration and begin the next with `message`, in one transaction."""
        ...

    def await_claim(self, timeout: timedelta) -> job_pb2.Claim | None:
        """The next signal claim; None if none comes within `timeout`. I want it."""
        ...

    def await_confirm(self, timeout: timedelta) -> job_pb2.Claim | None:
        """The next signal confirm; None if none comes within `timeout`. I am on my way."""
        ...

    def emit_offered(self, message: job_pb2.Offer) -> None:
        """OPEN: who wants it?"""
        ...

    def emit_claimed(self, message: job_pb2.Claim) -> None:
        """CLAIMED: it is yours."""
        ...

    def emit_refused(self, message: job_pb2.Claim) -> None:
        """A claim is refused."""
        ...

    def emit_done(self, message: job_pb2.Claim) -> None:
        """DONE: a provider has it."""
        ...

    def emit_cancelled(self, message: job_pb2.Offer) -> None:
        """CANCELLED: nobody got it."""
        ...


class _JobFlow(typed.RunFlow):
    def restart(self, message: job_pb2.Job) -> NoReturn:
        self._ctx.restart(message)

    def await_claim(self, timeout: timedelta) -> job_pb2.Claim | None:
        return self._await(1, job_pb2.Claim, timeout)

    def await_confirm(self, timeout: timedelta) -> job_pb2.Claim | None:
        return self._await(2, job_pb2.Claim, timeout)

    def emit_offered(self, message: job_pb2.Offer) -> None:
        self._ctx.emit_output("offered", message)

    def emit_claimed(self, message: job_pb2.Claim) -> None:
        self._ctx.emit_output("claimed", message)

    def emit_refused(self, message: job_pb2.Claim) -> None:
        self._ctx.emit_output("refused", message)

    def emit_done(self, message: job_pb2.Claim) -> None:
        self._ctx.emit_output("done", message)

    def emit_cancelled(self, message: job_pb2.Offer) -> None:
        self._ctx.emit_output("cancelled", message)


def run_job(client: replay.Client, run: str, message: job_pb2.Job) -> bool:
    """Start a run of job; False if its id is used already. Finds one provider for a job."""
    return client.run_workflow(_NAMESPACE, "job", run, message)


def signal_job_claim(
    client: replay.Client,
    run: str,
    message: job_pb2.Claim,
    external_id: str,
) -> bool:
    """Send claim to a run of job; False if that `external_id` has been sent. I want it."""
    return client.signal_run(_NAMESPACE, "job", run, 1, message, external_id)


def signal_job_confirm(
    client: replay.Client,
    run: str,
    message: job_pb2.Claim,
    external_id: str,
) -> bool:
    """Send confirm to a run of job; False if that `external_id` has been sent. I am on my way."""
    return client.signal_run(_NAMESPACE, "job", run, 2, message, external_id)


def stream_job(
    client: replay.Client,
    run: str = "",
    *,
    after: int = 0,
    from_head: bool = False,
    to_head: bool = False,
    lag: timedelta = timedelta(0),
) -> Iterator[replay.Event]:
    """The events of job, or of one run, as `replay.Client.stream` gives them."""
    return client.stream(
        _NAMESPACE,
        "job",
        run,
        after=after,
        from_head=from_head,
        to_head=to_head,
        lag=lag,
    )


def handle_job_run(event: replay.Event, fn: Callable[[str, job_pb2.Job], object]) -> None:
    """Call `fn` with run and input if the event begins an iteration of job."""
    typed.handle(event, replay.EventType.RUN_CREATED, (_NAMESPACE, "job"), "", fn)


def handle_offered(event: replay.Event, fn: Callable[[str, job_pb2.Offer], object]) -> None:
    """Call `fn` with run and message if the event is offered. OPEN: who wants it?"""
    typed.handle(event, replay.EventType.RUN_OUTPUT, (_NAMESPACE, "job"), "offered", fn)


def handle_claimed(event: replay.Event, fn: Callable[[str, job_pb2.Claim], object]) -> None:
    """Call `fn` with run and message if the event is claimed. CLAIMED: it is yours."""
    typed.handle(event, replay.EventType.RUN_OUTPUT, (_NAMESPACE, "job"), "claimed", fn)


def handle_refused(event: replay.Event, fn: Callable[[str, job_pb2.Claim], object]) -> None:
    """Call `fn` with run and message if the event is refused. A claim is refused."""
    typed.handle(event, replay.EventType.RUN_OUTPUT, (_NAMESPACE, "job"), "refused", fn)


def handle_done(event: replay.Event, fn: Callable[[str, job_pb2.Claim], object]) -> None:
    """Call `fn` with run and message if the event is done. DONE: a provider has it."""
    typed.handle(event, replay.EventType.RUN_OUTPUT, (_NAMESPACE, "job"), "done", fn)


def handle_cancelled(event: replay.Event, fn: Callable[[str, job_pb2.Offer], object]) -> None:
    """Call `fn` with run and message if the event is cancelled. CANCELLED: nobody got it."""
    typed.handle(event, replay.EventType.RUN_OUTPUT, (_NAMESPACE, "job"), "cancelled", fn)


def register_job(
    client: replay.Client,
    fn: Callable[[JobFlow, job_pb2.Job], None],
    *,
    shard: replay.Shard | None = None,
    await_timeout: timedelta = timedelta(hours=1),
    max_cached: int = 10_000,
    metrics: typed.Metrics | None = None,
    start: bool = True,
) -> replay.Consumer:
    """Run job by this function; the rest is as in `replay.register_workflow`."""
    typed.check_workflow(fn, "job", job_pb2.Job)

    def workflow(ctx: replay.RunContext, message: job_pb2.Job) -> None:
        fn(_JobFlow(ctx), message)

    return replay.register_workflow(
        client,
        _NAMESPACE,
        workflow,
        name="job",
        shard=shard,
        await_timeout=await_timeout,
        max_cached=max_cached,
        metrics=metrics,
        start=start,
    )


def start_replay_loops(
    client: replay.Client,
    backends: None = None,
    *,
    job: Callable[[JobFlow, job_pb2.Job], None],
    start: bool = True,
) -> list[replay.Consumer]:
    """Register all workflows and activities, each under its name in the definition."""
    return [
        register_job(client, job, start=start),
    ]
