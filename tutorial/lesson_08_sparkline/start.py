"""Lesson 8: a line of the latest prices, which each iteration passes to the next."""

import sys
from collections.abc import Sequence
from datetime import timedelta
from itertools import islice

import replay
from tutorial.exchange import Market
from tutorial.lesson_08_sparkline import sparkline_pb2 as pb
from tutorial.lesson_08_sparkline.namespace import WIDTH
from tutorial.lesson_08_sparkline.replay_gen import (
    SamplerFlow,
    handle_window,
    run_sampler,
    start_replay_loops,
    stream_sampler,
)
from tutorial.show import line

PAUSE = timedelta(milliseconds=200)
BARS = "▁▂▃▄▅▆▇█"


def sampler(flow: SamplerFlow, window: pb.Window) -> None:
    """A workflow: each iteration samples one price, and adds it to those before."""
    # TODO(you): sample a price with flow.sample. Append its cents to the prices of the window, and
    # keep the last WIDTH of them.
    prices = list(window.prices)
    flow.emit_window(pb.Window(prices=prices))
    flow.sleep(PAUSE)
    # TODO(you): begin the next iteration with these prices, with flow.restart.


def sparkline(prices: Sequence[int]) -> str:
    """A bar for each price: the lowest price has the lowest bar, the highest the highest."""
    low, high = min(prices, default=0), max(prices, default=0)
    step = (high - low) / (len(BARS) - 1) or 1
    return "".join(BARS[round((price - low) / step)] for price in prices)


def draw(event: replay.Event) -> None:
    """Draw an output; on a terminal it replaces the one before."""

    def window(run: str, window: pb.Window) -> None:
        start, end = ("\r", "") if sys.stdout.isatty() else ("", "\n")
        latest = window.prices[-1] / 100 if window.prices else 0.0
        text = f"{sparkline(window.prices):{WIDTH}} {latest:8.2f}"
        print(start + text, end=end, flush=True)

    handle_window(event, window)


def main(url: str, run: str) -> None:
    """Starts the sampler unless it has been started, and draws its outputs until Ctrl-C."""
    with replay.connect(url) as client:
        start_replay_loops(client, Market("gold"), sampler=sampler)
        # It has a cursor, so it goes on where it was when the program ended: see lesson 3.
        drawing = replay.consume(
            client, f"draw {run}", draw, namespace="sparkline", workflow="sampler", run=run
        )
        run_sampler(client, run, pb.Window())
        try:
            client.await_completion("sparkline", "sampler", run)
        finally:
            drawing.stop()  # before other things are printed
            print("\nHow it began:")
            for event in islice(stream_sampler(client, run, to_head=True), 15):
                print(line(event))
