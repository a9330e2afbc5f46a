"""Lesson 10: four processes that share nothing but the log."""

import secrets
import threading
from datetime import timedelta
from functools import cache

import replay
from tutorial.lesson_10_distributed import printing_pb2 as pb
from tutorial.lesson_10_distributed.replay_gen import (
    DocumentFlow,
    handle_complete,
    handle_printed,
    register_document,
    register_render,
    run_document,
    signal_document_received,
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


def document(flow: DocumentFlow, document: pb.Document) -> None:
    """A workflow: prints page after page, lets each dry, and waits for the receipt."""
    for number in range(1, document.pages + 1):
        flow.emit_printed(flow.render(pb.Page(title=document.title, number=number)))
        flow.sleep(timedelta(seconds=0.2))
    flow.emit_complete(document)
    flow.await_received(timedelta(days=1))


def workflow(url: str, _: str) -> None:
    """The process that decides, for all runs."""
    client = replay.connect(url)
    # TODO(you): register the workflow with register_document, and nothing else.
    register_document(client, document)
    # done
    stay(client)


# The second process works.


def activities(url: str, _: str) -> None:
    """The process that does the work, for all runs."""
    client = replay.connect(url)
    # TODO(you): register the activity with register_render, and pass it own_number().
    register_render(client, own_number())
    # done
    stay(client)


# The third process tells the world about the pages, and then tells the run that it has.


def outputs(url: str, _: str) -> None:
    """The process that hands over printed pages, for all runs."""
    client = replay.connect(url)

    def printed(run: str, sheet: pb.Sheet) -> None:
        print(f"{run}: page {sheet.number} is handed over", flush=True)

    def complete(run: str, document: pb.Document) -> None:
        print(f"{run}: {document.title} is complete", flush=True)
        signal_document_received(client, run, pb.Receipt(process=own_number()), "received")

    def hand_over(event: replay.Event) -> None:
        handle_printed(event, printed)
        handle_complete(event, complete)

    # TODO(you): call `hand_over` with each event of the namespace, with replay.consume. The cursor
    # needs a name.
    replay.consume(client, "outputs", hand_over, namespace="distributed")
    # done
    stay(client)


# The fourth process asks.


def ask(url: str, run: str) -> None:
    """The process that wants a document. It registers nothing, and ends."""
    with replay.connect(url) as client:
        run_document(client, run, pb.Document(title="Walden", pages=4))
        client.await_completion("distributed", "document", run)
        print_log(client, "distributed", "document", run)


ROLES = {"workflow": workflow, "activities": activities, "outputs": outputs, "ask": ask}
