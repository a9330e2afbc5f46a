"""Histories as lines of JSON, for backups, for `replay verify`, and before they are pruned.

A line is an iteration: its names, its events in order, and whether the next iteration follows.
Messages are the stored bytes in base64, so those of a codec stay encoded.  They are what your users
have sent you: protect such a file as you protect the database.

Left to `replay.tools.keep` and `replay.verify`: the command, and what histories are good for.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple, TextIO

import msgspec

from .failure import FAILURE
from .log import Log, unread
from .storage.database import Error, to_text
from .storage.event import Event, EventType, Key, is_pruned


class BadHistory(Error, ValueError):
    """Something that should be a history, and is none."""


class Iteration(NamedTuple):
    """The events of an iteration, and whether the next one follows it; None if nobody knows."""

    events: list[Event]
    restarted: bool | None = None


def write_history(log: Log, key: Key, file: TextIO) -> bool:
    """Write the history of an iteration as a line; return False if it is not there, or pruned.

    It holds up to 8 MiB in memory, whatever the history's size.
    """
    if (found := _stored(log, key, all_messages=True)) is None:
        return False
    first, rest, restarted = found
    fields = dict(zip(_NAMES, key, strict=False)) | {"restarted": restarted}
    file.write(json.dumps(fields)[:-1] + ', "events": [' + _event(first))
    for event in rest:
        file.write(", " + _event(event))
    file.write("]}\n")
    return True


def stored_history(log: Log, key: Key) -> Iteration | None:
    """Return the history of an iteration; None if it is not there, or pruned.

    Requests have no messages, and of outputs only the failure has one.
    """
    if (found := _stored(log, key, all_messages=False)) is None:
        return None
    first, rest, restarted = found
    return Iteration([first, *rest], restarted)


def _stored(
    log: Log, key: Key, *, all_messages: bool
) -> tuple[Event, Iterator[Event], bool] | None:
    """The first event, the others, and whether the next iteration follows."""
    events = log.history(key)
    if not any(event.type is EventType.RUN_CREATED for event in events):
        return None
    loaded = log.load(
        unread(event) if all_messages or event.key.target == FAILURE else event for event in events
    )
    first = next(loaded)
    if is_pruned(first.raw):
        return None
    ended = any(event.type is EventType.RUN_COMPLETED for event in events)
    return first, loaded, ended and log.exists(EventType.RUN_CREATED, following(key))


_NAMES = ("namespace", "workflow", "run", "iteration")


def following(key: Key) -> Key:
    """Return the key of the next iteration."""
    return Key(*key[:3], key.iteration + 1)


def _event(event: Event) -> str:
    message = None if event.raw is None else base64.b64encode(event.raw).decode()
    return json.dumps(
        {
            "id": event.id,
            "type": event.type.name,
            "target": event.key.target,
            "sequence": event.key.sequence,
            "timestamp": to_text(event.timestamp).replace(" ", "T") + "Z",
            "message": message,
        }
    )


def iterations(created: Iterator[Event]) -> Iterator[Key]:
    """Yield the iterations that a stream's events begin."""
    return (event.key for event in created if event.type is EventType.RUN_CREATED)


class _Event(msgspec.Struct):
    id: int
    type: str
    target: str
    sequence: str
    timestamp: datetime
    message: bytes | None


class _Line(msgspec.Struct):
    namespace: str
    workflow: str
    run: str
    iteration: int
    events: list[_Event]
    restarted: bool | None = None


_decode = msgspec.json.Decoder(_Line).decode


def read_history(line: str | bytes | Mapping[str, Any]) -> Iteration:
    """Read a line of an export, or the object that is in it.  Raises `BadHistory`."""
    try:
        found = msgspec.convert(line, _Line) if isinstance(line, Mapping) else _decode(line)
        key = Key(found.namespace, found.workflow, found.run, found.iteration)
        events = [_read(key, event) for event in found.events]
    except (ValueError, KeyError, RecursionError) as error:
        raise BadHistory(f"this is no history that `replay export` wrote: {error}") from error
    if not events:
        raise BadHistory("this history has no events")
    return Iteration(events, found.restarted)


def _read(key: Key, event: _Event) -> Event:
    place = key._replace(target=event.target, sequence=event.sequence)
    moment = event.timestamp.astimezone(UTC)
    return Event(event.id, EventType[event.type], place, moment, event.message)
