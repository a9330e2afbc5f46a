"""The definition of lesson 10: this is all that the four processes know of each other."""

import time

from replay import ActivityContext, typed
from tutorial.lesson_10_distributed import printing_pb2 as pb


def render(ctx: ActivityContext, process: int, page: pb.Page) -> pb.Sheet:
    """An activity that takes its time, and returns the number of its process."""
    time.sleep(0.4)
    print(f"{ctx.run}: page {page.number}", flush=True)
    return pb.Sheet(number=page.number, process=process)


NAMESPACE = typed.Namespace(
    "distributed",
    workflows=[
        typed.Workflow(
            "document",
            input=pb.Document,
            description="Has a document printed and handed over.",
            signals=[typed.Signal("received", enum=1, message=pb.Receipt)],
            outputs=[
                typed.Output("printed", message=pb.Sheet, description="A page is printed."),
                typed.Output("complete", message=pb.Document, description="All pages are printed."),
            ],
        )
    ],
    activities=[
        typed.Activity(
            "render",
            function="tutorial.lesson_10_distributed.namespace:render",
            description="Prints a page.",
        )
    ],
)
