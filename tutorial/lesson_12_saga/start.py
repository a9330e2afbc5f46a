"""Lesson 12: a trip is booked as a whole, or not at all."""

import replay
from tutorial.lesson_12_saga.agency import NAMESPACE, book, undo
from tutorial.show import print_log


def trip(ctx: replay.RunContext, parts: list[str]) -> str:
    """A workflow: books the parts of a trip, one after the other."""
    begun: list[str] = []
    try:
        for part in parts:
            # TODO(you): note in `begun` that this booking begins. Then book the part.
            pass
    except replay.ActivityFailed as error:
        # TODO(you): undo each booking that has begun, the newest first. Then let the run fail:
        # raise a replay.Failed that says why, with error.text.
        raise NotImplementedError from error
    return "booked"


def main(url: str, run: str) -> None:
    """Two trips. For the first one there is no car."""
    with replay.connect(url) as client:
        replay.register_workflow(client, NAMESPACE, trip)
        replay.register_activity(client, NAMESPACE, book)
        replay.register_activity(client, NAMESPACE, undo)
        trips = {run: ["flight", "hotel", "car"], f"{run}.short": ["flight", "hotel"]}
        for id, parts in trips.items():
            client.run_workflow(NAMESPACE, trip, id, parts)
            try:
                print(f"{id}: {client.result(NAMESPACE, trip, id)}", flush=True)
            except replay.RunFailed as error:
                print(f"{id}: {error.text}", flush=True)
        print_log(client, NAMESPACE, "trip", run)
