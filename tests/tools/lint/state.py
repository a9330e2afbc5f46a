"""Mistakes: variables that outlive a run, and the order of sets."""

from replay import RunContext

SEEN = {}
COUNT = 0
TOTALS: list[int] = []


def remembers(ctx: RunContext, message: str) -> None:
    global COUNT
    COUNT += 1
    if message in SEEN:
        return
    SEEN[message] = ctx.run
    TOTALS.append(COUNT)


def forget() -> None:
    SEEN.clear()


def sets(ctx: RunContext, items: set[str]) -> None:
    for item in items:
        ctx.exec_activity("ship", item)
    colours = {"red", "green"}
    ctx.gather(*[ctx.call("paint", each) for each in colours | {"blue"}])
    for each in list(colours - {"red"}):
        ctx.exec_activity("dry", each)
    ctx.exec_activity("joined", ", ".join({item.upper() for item in items}))
    ctx.exec_activity("first", colours.pop())
