"""The definition of lesson 4: a till that never closes."""

import time

from replay import ActivityContext, typed
from tutorial.lesson_04_restart import till_pb2 as pb


def book(ctx: ActivityContext, backends: None, payment: pb.Payment) -> None:
    """An activity: stands in for an entry in the books."""
    time.sleep(0.2)


NAMESPACE = typed.Namespace(
    "restart",
    workflows=[
        typed.Workflow(
            "till",
            input=pb.Till,
            description="Takes payments, for ever.",
            signals=[typed.Signal("paid", enum=1, message=pb.Payment)],
        )
    ],
    activities=[
        typed.Activity(
            "book",
            function="tutorial.lesson_04_restart.namespace:book",
            description="Enters it into the books.",
        )
    ],
)
