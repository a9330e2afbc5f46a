"""Lesson 6: two readers that know nothing of each other get the same table from one log."""

import hashlib
import json
import secrets
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import replay
from replay import EventType
from tutorial.lesson_06_append_only_log.orders import (
    HEARD,
    NAMESPACE,
    SENT,
    TABLE,
    VERDICT,
    Order,
    Parcel,
    Table,
    pack,
)
from tutorial.lessons import STATE
from tutorial.show import line

DAY = {
    "noon": [Order("apples", 3), Order("pears", 6)],
    "evening": [Order("apples", 5)],
}
DISK = 0.2  # Seconds: a slow disk, so that a kill comes after the file and before the cursor.


# The workflows, which add to the log.


def order(ctx: replay.RunContext, order: Order) -> None:
    """A workflow: one parcel."""
    ctx.emit_output(SENT, ctx.exec_activity(pack, order))


def audit(ctx: replay.RunContext, question: None) -> None:
    """A workflow: waits for two readers, however late they answer, and compares their tables."""
    tables: list[Table] = []
    while len(tables) < 2:
        if (table := ctx.await_signal(TABLE, timedelta(hours=1))) is not None:
            ctx.emit_output(HEARD, table)
            tables.append(table)
    ctx.emit_output(VERDICT, tables[0] == tables[1])


# Both readers share these: the choice of events, and the fold.


def ours(event: replay.Event, run: str) -> bool:
    """Whether an event belongs to this day's orders and audits: run-1.noon belongs to run-1."""
    return event.key.run.rpartition(".")[0] == run


def fold(owed: Counter[str], event: replay.Event) -> None:
    """Update the table with one event. It counts the pieces of each item that are still owed."""
    if event.key.workflow == "order" and event.type is EventType.RUN_CREATED:
        order = Order(**event.message)
        # TODO(you): add these pieces to what is owed.
        owed[order.item] += order.pieces
        # done
    elif event.type is EventType.RUN_OUTPUT and event.key.target == SENT.name:
        parcel = Parcel(**event.message)
        # TODO(you): subtract these pieces from what is owed.
        owed[parcel.item] -= parcel.pieces
        # done


def text(owed: Mapping[str, int]) -> str:
    """A table in one line."""
    return ", ".join(f"{item} {owed[item]}" for item in sorted(owed))


# One reader: a consumer. It goes on at its cursor, and stores its table in a file.


@dataclass
class Kept:
    """The content of the file."""

    cursor: str
    event: int  # The id of the last event in the table.
    owed: Counter[str]


def load(path: Path) -> Kept:
    """Read the file."""
    found = json.loads(path.read_text())
    return Kept(found["cursor"], found["event"], Counter(found["owed"]))


def store(path: Path, kept: Kept) -> None:
    """Store the table and the id of its last event in one step: there is never half a file."""
    new = path.with_suffix(".new")
    new.write_text(json.dumps(vars(kept), indent=2))
    new.replace(path)
    time.sleep(DISK)


def keep(client: replay.Client, path: Path, run: str) -> None:
    """Start a consumer that stores the table, and answers each audit when it comes to it."""
    if not path.exists():
        # An empty table needs every event, so its cursor has to be new as well.
        store(path, Kept(f"table {secrets.token_hex(4)}", 0, Counter()))

    def handle(event: replay.Event) -> None:
        if ours(event, run) and event.type in (EventType.RUN_CREATED, EventType.RUN_OUTPUT):
            follow(event)
            if event.key.workflow == "audit" and event.type is EventType.RUN_CREATED:
                owed = dict(load(path).owed)
                client.signal_run(NAMESPACE, audit, event.key.run, TABLE, owed, "kept")

    def follow(event: replay.Event) -> None:
        kept = load(path)
        # TODO(you): if the table does not have this event yet, fold it in. Then set kept.event to
        # the event's id, and store `kept`.
        if event.id > kept.event:
            fold(kept.owed, event)
            kept.event = event.id
            store(path, kept)
        # done

    replay.consume(client, load(path).cursor, handle, namespace=NAMESPACE)


# The other reader: a stream, from the first event on.


def orders(client: replay.Client, run: str) -> Iterator[replay.Event]:
    """The events of all orders, from the first one up to now."""
    log = client.stream(NAMESPACE, "order", to_head=True)
    return (event for event in log if ours(event, run))


def as_of(client: replay.Client, run: str, last: int) -> Counter[str]:
    """The table as of the event with the id `last`."""
    owed: Counter[str] = Counter()
    # TODO(you): fold in the events of the orders, up to that one.
    for event in orders(client, run):
        if event.id <= last:
            fold(owed, event)
    # done
    return owed


# The program.


def begin_audit(client: replay.Client, id: str) -> None:
    """Begin an audit, and wait until the first reader has answered."""
    client.run_workflow(NAMESPACE, audit, id, None)
    for event in client.stream(NAMESPACE, audit, id):
        if event.type is EventType.RUN_OUTPUT:
            print(f"{id}, the stored table: {text(event.message)}", flush=True)
            return


def answer_late(client: replay.Client, run: str, id: str) -> None:
    """Answer an audit that began long ago, and print whether the two readers agree."""
    begun = next(client.stream(NAMESPACE, audit, id))
    owed = as_of(client, run, begun.id)
    print(f"{id}, as of event {begun.id}: {text(owed)}")
    client.signal_run(NAMESPACE, audit, id, TABLE, dict(owed), "late")
    client.await_completion(NAMESPACE, audit, id)
    for event in client.stream(NAMESPACE, audit, id, to_head=True):
        if event.type is EventType.RUN_OUTPUT and event.key.target == VERDICT.name:
            print(f"{id}, they agree: {event.message}")


def main(url: str, run: str) -> None:
    """Orders, an audit at noon, orders, an audit in the evening, and then a late reader."""
    log = hashlib.sha256(url.encode()).hexdigest()[:8]
    with replay.connect(url) as client:
        replay.register_workflow(client, NAMESPACE, order)
        replay.register_workflow(client, NAMESPACE, audit)
        replay.register_activity(client, NAMESPACE, pack)
        keep(client, STATE / f"06-{run}-{log}.json", run)
        for when, asked in DAY.items():
            for what in asked:
                id = f"{run}.{what.item}-{what.pieces}"
                client.run_workflow(NAMESPACE, order, id, what)
                client.await_completion(NAMESPACE, order, id)
            begin_audit(client, f"{run}.{when}")
        print("A new reader comes and reads:")
        for event in orders(client, run):
            print(line(event))
        for when in DAY:
            answer_late(client, run, f"{run}.{when}")
