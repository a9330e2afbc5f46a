# Made by "typedreplay namespace.py" from that file: change it, not this one.
# fmt: off
# isort: skip_file
# flake8: noqa
# ruff: noqa
"""The namespace parent_job."""

from __future__ import annotations

import typing
from collections.abc import Callable, Iterator
from datetime import timedelta

import replay
from replay import typed

import tutorial.lesson_09_parent_job.job_pb2 as _job_pb2

_NAMESPACE = 'parent_job'


class JobFlow(typed.Flow, typing.Protocol):
    """The methods of the workflow job. Finds one provider for a job."""

    def restart(self, message: _job_pb2.Job) -> typing.NoReturn:
        """End this iteration and begin the next with `message`, in one transaction."""

    def await_claim(self, timeout: timedelta) -> _job_pb2.Claim | None:
        """The next signal claim, or None if none comes within `timeout`. I want it."""

    def await_confirm(self, timeout: timedelta) -> _job_pb2.Claim | None:
        """The next signal confirm, or None if none comes within `timeout`. I am on my way."""

    def emit_offered(self, message: _job_pb2.Offer) -> None:
        """Add the output offered. OPEN: who wants it?"""

    def emit_claimed(self, message: _job_pb2.Claim) -> None:
        """Add the output claimed. CLAIMED: it is yours."""

    def emit_refused(self, message: _job_pb2.Claim) -> None:
        """Add the output refused. A claim is refused."""

    def emit_done(self, message: _job_pb2.Claim) -> None:
        """Add the output done. DONE: a provider has it."""

    def emit_cancelled(self, message: _job_pb2.Offer) -> None:
        """Add the output cancelled. CANCELLED: nobody got it."""


class _JobFlow(typed.RunFlow):
    def restart(self, message: _job_pb2.Job) -> typing.NoReturn:
        self._ctx.restart(message)

    def await_claim(self, timeout: timedelta) -> _job_pb2.Claim | None:
        return self._await(1, _job_pb2.Claim, timeout)

    def await_confirm(self, timeout: timedelta) -> _job_pb2.Claim | None:
        return self._await(2, _job_pb2.Claim, timeout)

    def emit_offered(self, message: _job_pb2.Offer) -> None:
        self._ctx.emit_output("offered", message)

    def emit_claimed(self, message: _job_pb2.Claim) -> None:
        self._ctx.emit_output("claimed", message)

    def emit_refused(self, message: _job_pb2.Claim) -> None:
        self._ctx.emit_output("refused", message)

    def emit_done(self, message: _job_pb2.Claim) -> None:
        self._ctx.emit_output("done", message)

    def emit_cancelled(self, message: _job_pb2.Offer) -> None:
        self._ctx.emit_output("cancelled", message)


def run_job(client: replay.Client, run: str, message: _job_pb2.Job) -> bool:
    """Start a run of job. False means that its id is used already."""
    return client.run_workflow(_NAMESPACE, "job", run, message)


def stream_job(
    client: replay.Client, run: str = "", **options: typing.Unpack[typed.StreamOptions]
) -> Iterator[replay.Event]:
    """The events of job, or of one run. The options are those of `replay.Client.stream`."""
    return client.stream(_NAMESPACE, "job", run, **options)


def handle_job_run(event: replay.Event, fn: Callable[[str, _job_pb2.Job], object]) -> None:
    """Call `fn` with run and input if the event begins an iteration of job."""
    typed.handle(event, replay.EventType.RUN_CREATED, (_NAMESPACE, "job"), "", fn)


def register_job(
    client: replay.Client,
    fn: Callable[[JobFlow, _job_pb2.Job], None],
    **options: typing.Unpack[typed.WorkflowOptions],
) -> replay.Consumer:
    """Run job by `fn`. The options are those of `replay.register_workflow`."""
    typed.check_workflow(fn, "job", _job_pb2.Job)

    def workflow(ctx: replay.RunContext, message: _job_pb2.Job) -> None:
        fn(_JobFlow(ctx), message)

    return replay.register_workflow(client, _NAMESPACE, workflow, name="job", **options)


def signal_job_claim(
    client: replay.Client, run: str, message: _job_pb2.Claim, external_id: str
) -> bool:
    """Send claim to a run of job. False means that `external_id` was sent before. I want it."""
    return client.signal_run(_NAMESPACE, "job", run, 1, message, external_id)


def signal_job_confirm(
    client: replay.Client, run: str, message: _job_pb2.Claim, external_id: str
) -> bool:
    """Send confirm to a run of job. False means that `external_id` was sent before. I am on my
    way."""
    return client.signal_run(_NAMESPACE, "job", run, 2, message, external_id)


def handle_offered(event: replay.Event, fn: Callable[[str, _job_pb2.Offer], object]) -> None:
    """Call `fn` with run and message if the event is offered. OPEN: who wants it?"""
    typed.handle(event, replay.EventType.RUN_OUTPUT, (_NAMESPACE, "job"), "offered", fn)


def handle_claimed(event: replay.Event, fn: Callable[[str, _job_pb2.Claim], object]) -> None:
    """Call `fn` with run and message if the event is claimed. CLAIMED: it is yours."""
    typed.handle(event, replay.EventType.RUN_OUTPUT, (_NAMESPACE, "job"), "claimed", fn)


def handle_refused(event: replay.Event, fn: Callable[[str, _job_pb2.Claim], object]) -> None:
    """Call `fn` with run and message if the event is refused. A claim is refused."""
    typed.handle(event, replay.EventType.RUN_OUTPUT, (_NAMESPACE, "job"), "refused", fn)


def handle_done(event: replay.Event, fn: Callable[[str, _job_pb2.Claim], object]) -> None:
    """Call `fn` with run and message if the event is done. DONE: a provider has it."""
    typed.handle(event, replay.EventType.RUN_OUTPUT, (_NAMESPACE, "job"), "done", fn)


def handle_cancelled(event: replay.Event, fn: Callable[[str, _job_pb2.Offer], object]) -> None:
    """Call `fn` with run and message if the event is cancelled. CANCELLED: nobody got it."""
    typed.handle(event, replay.EventType.RUN_OUTPUT, (_NAMESPACE, "job"), "cancelled", fn)


def start_replay_loops(
    client: replay.Client,
    backends: None = None,
    *,
    job: Callable[[JobFlow, _job_pb2.Job], None],
    start: bool = True,
) -> list[replay.Consumer]:
    """Register all workflows and activities under their names in the definition."""
    return [
        register_job(client, job, start=start),
    ]
