"""The definition of lesson 6: orders, and audits that ask the readers of the log."""

import time

from replay import ActivityContext, typed
from tutorial.lesson_06_append_only_log import orders_pb2 as pb


def pack(ctx: ActivityContext, backends: None, order: pb.Order) -> pb.Parcel:
    """An activity: a parcel holds four pieces, and the rest is owed."""
    time.sleep(0.3)
    return pb.Parcel(item=order.item, pieces=min(order.pieces, 4))


NAMESPACE = typed.Namespace(
    "append_only_log",
    workflows=[
        typed.Workflow(
            "order",
            input=pb.Order,
            description="Sends what there is room for.",
            outputs=[typed.Output("sent", message=pb.Parcel, description="A parcel is sent.")],
        ),
        typed.Workflow(
            "audit",
            input=pb.Question,
            description="Asks two readers how the table looked when the audit began.",
            signals=[typed.Signal("table", enum=1, message=pb.Table, description="The answer.")],
            outputs=[
                typed.Output("heard", message=pb.Table, description="A reader has answered."),
                typed.Output("verdict", message=pb.Verdict, description="Whether they agree."),
            ],
        ),
    ],
    activities=[
        typed.Activity(
            "pack",
            function="tutorial.lesson_06_append_only_log.namespace:pack",
            description="Packs what is ordered.",
        )
    ],
)
