"""Histories as lines of JSON, for backups, for `replay verify`, and before they are pruned.

A line is an iteration: its names, and its events in order.  Messages are the stored bytes in
base64, so those of a codec stay encoded.  They are what your users have sent you: protect such a
file as you protect the database.

Left to `replay.tools.keep`: the command.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import TextIO

from .log import Log, unread
from .storage.database import to_text
from .storage.event import Event, EventType, Key, is_pruned


def write_history(log: Log, key: Key, file: TextIO) -> bool:
    """Write the history of an iteration as a line; return False if it is not there, or pruned.

    It holds up to 8 MiB in memory, whatever the history's size.
    """
    events = log.history(key)
    if not any(event.type is EventType.RUN_CREATED for event in events):
        return False
    loaded = log.load(map(unread, events))
    first = next(loaded)
    if is_pruned(first.raw):
        return False
    names = dict(zip(("namespace", "workflow", "run", "iteration"), key, strict=False))
    file.write(json.dumps(names)[:-1] + ', "events": [' + _event(first))
    for event in loaded:
        file.write(", " + _event(event))
    file.write("]}\n")
    return True


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
