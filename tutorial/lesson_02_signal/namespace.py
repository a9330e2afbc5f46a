"""The definition of lesson 2: a coffee shop, and the signals that its guests send."""

from replay import ActivityContext, typed
from tutorial.lesson_02_signal import coffee_pb2 as pb


def make(ctx: ActivityContext, backends: None, coffee: pb.Coffee) -> None:
    """An activity: stands in for a coffee machine. The log has what it was asked for."""


def remind(ctx: ActivityContext, backends: None, guest: pb.Guest) -> None:
    """An activity: stands in for a message to the guest's phone."""


NAMESPACE = typed.Namespace(
    "signal",
    workflows=[
        typed.Workflow(
            "serve",
            input=pb.Guest,
            description="Serves one guest.",
            signals=[
                typed.Signal("order", enum=1, message=pb.Order, description="Orders a coffee."),
                typed.Signal("pay", enum=2, message=pb.Payment, description="Pays for all."),
            ],
        )
    ],
    activities=[
        typed.Activity(
            "make",
            function="tutorial.lesson_02_signal.namespace:make",
            description="Makes a coffee.",
        ),
        typed.Activity(
            "remind",
            function="tutorial.lesson_02_signal.namespace:remind",
            description="Asks the guest what is wanted.",
        ),
    ],
)
