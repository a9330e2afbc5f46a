"""The definition of the example."""

from replay import typed
from tests import example_pb2 as pb

NAMESPACE = typed.Namespace(
    "restaurant",
    description="A restaurant, from the first guest to the last plate.",
    workflows=[
        typed.Workflow(
            "dinner",
            input=pb.String,
            description="Serves one guest.",
            signals=[
                typed.Signal("order", enum=1, message=pb.String, description="Orders a dish."),
                typed.Signal("pay", enum=-2, message=pb.Empty),
            ],
            outputs=[
                typed.Output("served", message=pb.String, description="A dish is on the table."),
                typed.Output("bill", message=pb.Int),
            ],
        ),
        typed.Workflow("late_refund", input=pb.Int),
    ],
    activities=[
        typed.Activity(
            "price",
            function="tests.typed_example.activities:price",
            description="The price of a dish.",
        ),
        typed.Activity("find_table", function="tests.typed_example.activities:find_table"),
        typed.Activity(
            "wash_up",
            function="tests.typed_example.activities:wash",
            description="Washes the plates.",
        ),
    ],
)
