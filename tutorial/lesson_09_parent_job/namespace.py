"""The definition of lesson 9: one workflow, its signals and its outputs."""

from replay import typed
from tutorial.lesson_09_parent_job import job_pb2 as pb

NAMESPACE = typed.Namespace(
    "parent_job",
    workflows=[
        typed.Workflow(
            "job",
            input=pb.Job,
            description="Finds one provider for a job.",
            signals=[
                typed.Signal("claim", enum=1, message=pb.Claim, description="I want it."),
                typed.Signal("confirm", enum=2, message=pb.Claim, description="I am on my way."),
            ],
            outputs=[
                typed.Output("offered", message=pb.Offer, description="OPEN: who wants it?"),
                typed.Output("claimed", message=pb.Claim, description="CLAIMED: it is yours."),
                typed.Output("refused", message=pb.Claim, description="A claim is refused."),
                typed.Output("done", message=pb.Claim, description="DONE: a provider has it."),
                typed.Output(
                    "cancelled", message=pb.Offer, description="CANCELLED: nobody got it."
                ),
            ],
        )
    ],
)
