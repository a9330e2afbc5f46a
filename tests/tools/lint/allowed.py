"""What is allowed with a reason, and what is not."""

import time

from replay import RunContext


def measured(ctx: RunContext, message: str) -> None:
    begun = time.perf_counter()  # replay: allow only a metric, which no step depends on
    ctx.exec_activity("ship", message)
    # replay: allow only a metric
    print(time.perf_counter() - begun)
    print(time.time())  # replay: allow
    text = "# replay: allow"
    print(text, time.time())
