"""The definition of lesson 5: a clock with a schedule, and the work of each tick."""

import time

from replay import ActivityContext, typed
from tutorial.lesson_05_cron import cron_pb2 as pb


def chore(ctx: ActivityContext, backends: None, tick: pb.Tick) -> None:
    """An activity: the work of a tick. Every fifth time it takes longer than two periods."""
    time.sleep(2.1 if tick.number % 5 == 2 else 0.3)


NAMESPACE = typed.Namespace(
    "cron",
    workflows=[
        typed.Workflow(
            "clock",
            input=pb.Schedule,
            description="Has work done at each tick of a schedule, for ever.",
            outputs=[
                typed.Output("tick", message=pb.Tick, description="A tick is run."),
                typed.Output("skipped", message=pb.Skipped, description="Ticks are skipped."),
            ],
        )
    ],
    activities=[
        typed.Activity(
            "chore",
            function="tutorial.lesson_05_cron.namespace:chore",
            description="Does the work of a tick.",
        )
    ],
)
