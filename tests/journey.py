"""A workflow that uses everything there is, for tests of what must not change its events."""

from datetime import timedelta
from typing import Any, Protocol

from replay import (
    ActivityContext,
    Client,
    Consumer,
    RunContext,
    Shard,
    register_activity,
    register_workflow,
)
from tests.example_pb2 import Int, String
from tests.support import loops

NAMESPACE = "trip"
SLEEP = timedelta(milliseconds=10)


class Calls(Protocol):
    """What notes the keys of the activities that are executed: a list, say."""

    def append(self, key: str, /) -> None: ...


def double(ctx: ActivityContext, calls: Calls, message: Int) -> Int:
    calls.append(ctx.idempotency_key)
    return Int(value=2 * message.value)


def journey(ctx: RunContext, message: Int) -> None:
    """Two iterations, each of an activity, an output, a sleep, a signal, two activities at once."""
    doubled = ctx.exec_activity(double, message)
    ctx.emit_output("doubled", doubled)
    ctx.sleep(SLEEP)
    signal = ctx.await_signal(1, timedelta(hours=1))
    assert signal is not None
    ctx.emit_output("heard", signal.message)
    pair = ctx.gather(ctx.call(double, doubled), ctx.call(double, Int(value=1)))
    if ctx.iteration == 0:
        ctx.restart(pair[0])


def begin(client: Client, run: str, value: int) -> None:
    """Start a run, and send it the two signals that it will wait for."""
    assert client.run_workflow(NAMESPACE, "journey", run, Int(value=value))
    for external_id in ("a", "b"):
        message = String(value=external_id)
        assert client.signal_run(NAMESPACE, "journey", run, 1, message, external_id)


def staff(
    client: Client, calls: Calls, shard: Shard | None = None, **options: Any
) -> list[Consumer]:
    """All consumers that a journey needs; `calls` gets the key of each activity executed."""
    register_workflow(client, NAMESPACE, journey, shard=shard, **options)
    register_activity(client, NAMESPACE, double, calls, shard=shard, **options)
    return [*client._consumers.values(), *loops(client)]


def events(run: str, value: int) -> list[str]:
    """What `listing` has to give for a run that has ended."""
    lines: list[str] = []
    for iteration, heard in enumerate("ab"):
        key = f"{NAMESPACE}/journey/{run}/{iteration}"
        request, response = f"ACTIVITY_REQUEST {key}", f"ACTIVITY_RESPONSE {key}"
        lines += [
            f"RUN_CREATED {key} value: {value}",
            f"{request}/double/0 value: {value}",
            f"{response}/double/0 value: {2 * value}",
            f"RUN_OUTPUT {key}/doubled/0 value: {2 * value}",
            f"{request}/replay_sleep/0 duration {{ nanos: 10000000 }}",
            f"{response}/replay_sleep/0",
            f"{request}/replay_signal/1:0 duration {{ seconds: 3600 }}",
            f'{response}/replay_signal/1:0 value: "{heard}"',
            f'RUN_OUTPUT {key}/heard/0 value: "{heard}"',
            f"{request}/double/1 value: {2 * value}",
            f"{request}/double/2 value: 1",
            f"{response}/double/1 value: {4 * value}",
            f"{response}/double/2 value: 2",
            f"RUN_COMPLETED {key} -",
        ]
        value *= 4
    return lines


def calls_of(run: str) -> list[str]:
    """The activities that a run has executed, each once."""
    keys = [f"{NAMESPACE}/journey/{run}/{iteration}/double" for iteration in (0, 1)]
    return [f"{key}/{n}" for key in keys for n in range(3)]
