"""Lesson 10: four processes that share nothing but the log."""

import secrets
import threading
from datetime import timedelta
from functools import cache
from typing import Any

import replay
from tutorial.lesson_10_distributed.printing import (
    COMPLETE,
    NAMESPACE,
    PRINTED,
    RECEIVED,
    Document,
    Page,
    render,
)
from tutorial.show import print_log


@cache
def own_number() -> int:
    """The number of this process. A system number would be unique on one machine only."""
    return 100_000 + secrets.randbelow(900_000)


def stay(client: replay.Client) -> None:
    """Wait for Ctrl-C. Meanwhile the client's registrations work in threads of their own."""
    with client:
        threading.Event().wait()


# The first process decides.


def document(ctx: replay.RunContext, document: Document) -> None:
    """A workflow: prints page after page, lets each dry, and waits for the receipt."""
    for number in range(1, document.pages + 1):
        ctx.emit_output(PRINTED, ctx.exec_activity(render, Page(document.title, number)))
        ctx.sleep(timedelta(seconds=0.2))
    ctx.emit_output(COMPLETE, document)
    ctx.await_signal(RECEIVED, timedelta(days=1))


def workflow(url: str, _: str) -> None:
    """The process that decides, for all runs."""
    client = replay.connect(url)
    # TODO(you): register the workflow `document`, and nothing else.
    stay(client)


# The second process works.


def activities(url: str, _: str) -> None:
    """The process that does the work, for all runs."""
    client = replay.connect(url)
    # TODO(you): register the activity `render`, with own_number() as its backends.
    stay(client)


# The third process tells the world about the pages, and then tells the run that it has.


def outputs(url: str, _: str) -> None:
    """The process that hands over printed pages, for all runs."""
    client = replay.connect(url)

    def told(namespace: str, workflow: str, run: str, name: str, message: Any) -> None:
        if name == PRINTED.name:
            print(f"{run}: page {message['number']} is handed over", flush=True)
        elif name == COMPLETE.name:
            print(f"{run}: {message['title']} is complete", flush=True)
            client.signal_run(NAMESPACE, document, run, RECEIVED, own_number(), "received")

    def hand_over(event: replay.Event) -> None:
        replay.handle(event, run_output=told)

    # TODO(you): call `hand_over` with each event of the namespace, with replay.consume. The cursor
    # needs a name.
    stay(client)


# The fourth process asks.


def ask(url: str, run: str) -> None:
    """The process that wants a document. It registers nothing, and ends."""
    with replay.connect(url) as client:
        client.run_workflow(NAMESPACE, document, run, Document("Walden", pages=4))
        client.await_completion(NAMESPACE, document, run)
        print_log(client, NAMESPACE, "document", run)


ROLES = {"workflow": workflow, "activities": activities, "outputs": outputs, "ask": ask}
