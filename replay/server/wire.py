"""The wire format that the server and the remote client share.

Role: encodes errors, times, events and parked events.  Also has the address rule of both sides:
data that leaves the machine needs TLS.

Left to `remote` and `services`: the calls themselves.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from itertools import chain, groupby
from typing import Any

from google.protobuf import any_pb2, message_factory

from ..client import BadFilter
from ..log import EventsPruned, LostOwnership, NameCollision, Parked, Unread
from ..query import BadQuery, ConsumerInfo, ParkedInfo, QueryBehind, RunInfo
from ..retention import BadPrune, Policy, StillServed, UnknownConsumer
from ..sharing import OtherShards
from ..signal import InvalidSignal
from ..storage.database import DatabaseError, Error, OutcomeUnknown, ReadOnly, Unavailable
from ..storage.event import (
    TYPES,
    Event,
    InvalidName,
    Key,
    MessageError,
    MessageTooLarge,
)
from .proto import jettison_pb2
from .proto import log_pb2 as pb

_LARGE = 64 * 1024  # bytes of an event from which on it is not copied more than once
ERROR_KEY = "replay-error"  # metadata: the name of an error's class


class AccessDenied(Error):
    """The server does not accept this token, or not for this call."""


class WrongServer(Error):
    """The server does not offer the service that this client needs."""


class TooBusy(Unavailable):
    """The server's calls, or this client's streams, are at their limit.  Nothing was done."""


class Stopping(Unavailable):
    """The server is stopping.  Nothing was done."""


class SessionLost(Unavailable):
    """The server has ended this client's session.  Nothing was stored."""


#: Errors that go over the wire by name.
ERRORS: dict[str, type[Error]] = {
    each.__name__: each
    for each in (
        BadFilter,
        BadPrune,
        BadQuery,
        DatabaseError,
        EventsPruned,
        InvalidName,
        InvalidSignal,
        LostOwnership,
        MessageError,
        MessageTooLarge,
        NameCollision,
        OtherShards,
        OutcomeUnknown,
        QueryBehind,
        ReadOnly,
        SessionLost,
        StillServed,
        Unavailable,
        UnknownConsumer,
    )
}


def public_name(error: BaseException) -> str:
    """The name of an error on the wire: its class, or the nearest class with a known name."""
    return next((each.__name__ for each in type(error).__mro__ if each.__name__ in ERRORS), "")


def jettison_details(code: Any, text: str, known_as: str) -> tuple[str, bytes]:
    """Make the trailing metadata by which the Go system's clients know an error (G2).

    `code` is a `grpc.StatusCode`.  Code and text repeat the call's, or Go takes them for damaged.
    """
    hop = jettison_pb2.Hop(errors=[jettison_pb2.Error(message=text, code=known_as)])
    detail = any_pb2.Any(
        type_url="type.googleapis.com/jettisonpb.Hop", value=hop.SerializeToString()
    )
    status = jettison_pb2.Status(code=code.value[0], message=text, details=[detail])
    return "grpc-status-details-bin", status.SerializeToString()


def to_us(moment: datetime) -> int:
    """A point in time as microseconds since 1970."""
    return (moment - EPOCH) // timedelta(microseconds=1)


def from_us(number: int) -> datetime:
    """The point in time that `to_us` wrote."""
    return EPOCH + timedelta(microseconds=number)


EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def message_class(descriptor: Any) -> Any:
    """The class of a message of our protos."""
    return message_factory.GetMessageClass(descriptor)


def parked_to(parked: Parked) -> pb.Parked:
    """`parked`, as it goes over the wire."""
    return pb.Parked(
        event_id=parked.event_id,
        key=parked.key,
        attempts=parked.attempts,
        next_at_ms=to_us(parked.next_at) // 1000,
        error=parked.error,
    )


def parked_from(parked: pb.Parked) -> Parked:
    """The parked event that `parked_to` wrote."""
    next_at = from_us(parked.next_at_ms * 1000)
    return Parked(parked.event_id, parked.key, parked.attempts, next_at, parked.error)


def run_to(run: RunInfo) -> pb.RunInfo:
    """`run`, as it goes over the wire."""
    return pb.RunInfo(
        namespace=run.namespace,
        workflow=run.workflow,
        run=run.run,
        iteration=run.iteration,
        status=run.status,
        started_ms=to_us(run.started_at) // 1000,
        ended_ms=None if run.ended_at is None else to_us(run.ended_at) // 1000,
        error=run.error,
        last_event_id=run.last_event_id,
        id=run.id,
    )


def run_from(run: pb.RunInfo) -> RunInfo:
    """The run that `run_to` wrote."""
    return RunInfo(
        run.namespace,
        run.workflow,
        run.run,
        run.iteration,
        run.status,
        from_us(run.started_ms * 1000),
        from_us(run.ended_ms * 1000) if run.HasField("ended_ms") else None,
        run.error,
        run.last_event_id,
        run.id,
    )


def consumer_to(consumer: ConsumerInfo) -> pb.ConsumerInfo:
    """`consumer`, as it goes over the wire."""
    until = consumer.lease_until
    return pb.ConsumerInfo(
        name=consumer.name,
        owner=consumer.owner,
        lease_until_ms=None if until is None else to_us(until) // 1000,
        cursor=consumer.cursor,
        lag=consumer.lag,
        parked=consumer.parked,
    )


def consumer_from(each: pb.ConsumerInfo) -> ConsumerInfo:
    """The consumer that `consumer_to` wrote."""
    until = from_us(each.lease_until_ms * 1000) if each.HasField("lease_until_ms") else None
    return ConsumerInfo(each.name, each.owner, until, each.cursor, each.lag, each.parked)


def info_to(info: ParkedInfo) -> pb.ParkedInfo:
    """Write a parked event for the wire."""
    parked = Parked(info.event_id, info.key, info.attempts, info.next_at, info.error)
    return pb.ParkedInfo(parked=parked_to(parked), consumer=info.consumer, id=info.id)


def info_from(info: pb.ParkedInfo) -> ParkedInfo:
    """Read what `info_to` wrote."""
    parked = parked_from(info.parked)
    return ParkedInfo(
        info.consumer,
        parked.event_id,
        *Key.parse(parked.key)[:3],
        parked.key,
        parked.attempts,
        parked.error,
        parked.next_at,
        info.id,
    )


def event_to(event: Event, *, message: bool = True) -> pb.Event:
    """`event`, as it goes over the wire, with its message or without."""
    return pb.Event(
        id=event.id,
        type=int(event.type),
        key=event.text,
        time_ms=to_us(event.timestamp) // 1000,
        message=event.raw if message else None,
        unread=isinstance(event, Unread),
    )


def encode_events(
    reply: Any, events: Iterable[Event], seen: Callable[[Event], bool] = lambda event: True
) -> bytes:
    """Encode a reply with these events.  An event that is not seen has its id alone.

    Large messages are joined as they are: meanwhile Python lets other threads compute.
    """
    parts = [reply.SerializeToString()]
    for large, some in groupby(events, lambda event: event.size > _LARGE and seen(event)):
        if large:
            parts += chain.from_iterable(map(_parts, some))
        else:
            shown = (event_to(event) if seen(event) else pb.Event(id=event.id) for event in some)
            parts.append(pb.Events(events=shown).SerializeToString())
    return b"".join(parts)


def _parts(event: Event) -> tuple[bytes, ...]:
    """The field with one event, whose message comes last, as it is."""
    raw, head = event.raw or b"", event_to(event, message=False).SerializeToString()
    head += _begin(pb.Event, "message", len(raw))
    return _begin(pb.Events, "events", len(head) + len(raw)), head, raw


def _begin(message: Any, field: str, length: int) -> bytes:
    """Tag and length, with which a field of so many bytes begins."""
    begun = bytearray([message.DESCRIPTOR.fields_by_name[field].number << 3 | 2])
    while length > 127:
        begun.append(length & 127 | 128)
        length >>= 7
    return bytes([*begun, length])


def event_from(event: pb.Event) -> Event:
    """The event that `event_to` wrote."""
    raw = event.message if event.HasField("message") else None
    key, moment = Key.parse(event.key), from_us(event.time_ms * 1000)
    kind = Unread if event.unread else Event
    return kind(event.id, TYPES[event.type], key, moment, raw, event.key)


def policy_to(policy: Policy) -> pb.Policy:
    """`policy`, as it goes over the wire."""
    return pb.Policy(
        before_us=to_us(policy.before),
        namespace=policy.namespace,
        forget=policy.forget,
        shared_with_go_passed=policy.shared_with_go_passed,
    )


def policy_from(policy: pb.Policy) -> Policy:
    """The policy that `policy_to` wrote.  Raises `OverflowError`."""
    passed = policy.shared_with_go_passed if policy.HasField("shared_with_go_passed") else None
    return Policy(from_us(policy.before_us), policy.namespace, policy.forget, passed)


def is_loopback(host: str) -> bool:
    """Whether data for this host stays on this machine."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
