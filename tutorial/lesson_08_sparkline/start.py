"""Lesson 8: a line of the latest prices, which each iteration passes to the next."""

import sys
from collections.abc import Sequence
from datetime import timedelta
from itertools import islice
from typing import Any

import replay
from tutorial.lesson_08_sparkline.gold import NAMESPACE, WIDTH, WINDOW, sample
from tutorial.show import line

PAUSE = timedelta(milliseconds=200)
BARS = "▁▂▃▄▅▆▇█"


def sampler(ctx: replay.RunContext, window: list[int]) -> None:
    """A workflow: each iteration samples one price, and adds it to those before."""
    # TODO(you): execute `sample` for "gold". Append the price to the window, and keep the last
    # WIDTH of them in `prices`.
    prices = window
    ctx.emit_output(WINDOW, prices)
    ctx.sleep(PAUSE)
    # TODO(you): begin the next iteration with these prices.


def sparkline(prices: Sequence[int]) -> str:
    """A bar for each price: the lowest price has the lowest bar, the highest the highest."""
    low, high = min(prices, default=0), max(prices, default=0)
    step = (high - low) / (len(BARS) - 1) or 1
    return "".join(BARS[round((price - low) / step)] for price in prices)


def draw(event: replay.Event) -> None:
    """Draw an output; on a terminal it replaces the one before."""

    def window(namespace: str, workflow: str, run: str, name: str, prices: Any) -> None:
        start, end = ("\r", "") if sys.stdout.isatty() else ("", "\n")
        latest = prices[-1] / 100 if prices else 0.0
        print(f"{start}{sparkline(prices):{WIDTH}} {latest:8.2f}", end=end, flush=True)

    replay.handle(event, run_output=window)


def main(url: str, run: str) -> None:
    """Starts the sampler unless it has been started, and draws its outputs until Ctrl-C."""
    with replay.connect(url) as client:
        replay.register_workflow(client, NAMESPACE, sampler)
        replay.register_activity(client, NAMESPACE, sample)
        # It has a cursor, so it goes on where it was when the program ended: see lesson 3.
        drawing = replay.consume(
            client, f"draw {run}", draw, namespace=NAMESPACE, workflow="sampler", run=run
        )
        client.run_workflow(NAMESPACE, sampler, run, [])
        try:
            client.await_completion(NAMESPACE, sampler, run)
        finally:
            drawing.stop()  # before other things are printed
            print("\nHow it began:")
            for event in islice(client.stream(NAMESPACE, "sampler", run, to_head=True), 15):
                print(line(event))
