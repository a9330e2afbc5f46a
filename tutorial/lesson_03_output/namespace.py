"""The definition of lesson 3: a bakery, and a delivery that the bakery does not know."""

import time

from replay import ActivityContext, typed
from tutorial.lesson_03_output import bakery_pb2 as pb


def bake(ctx: ActivityContext, backends: None, dough: pb.Dough) -> pb.Loaf:
    """An activity: the workflow needs its result, so it waits for it."""
    time.sleep(0.5)
    return pb.Loaf(batch=ctx.run, number=dough.number)


def carry(ctx: ActivityContext, backends: None, loaf: pb.Loaf) -> None:
    """An activity: stands in for somebody on a bicycle."""


NAMESPACE = typed.Namespace(
    "output",
    workflows=[
        typed.Workflow(
            "bakery",
            input=pb.Order,
            description="Bakes some loaves.",
            outputs=[typed.Output("baked", message=pb.Loaf, description="A loaf is baked.")],
        ),
        typed.Workflow("parcel", input=pb.Loaf, description="Delivers one loaf."),
    ],
    activities=[
        typed.Activity(
            "bake", function="tutorial.lesson_03_output.namespace:bake", description="Bakes a loaf."
        ),
        typed.Activity(
            "carry",
            function="tutorial.lesson_03_output.namespace:carry",
            description="Carries a loaf to its eater.",
        ),
    ],
)
