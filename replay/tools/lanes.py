"""Timelines in a terminal: a lane for each activity, sleep, await and output of a run.

Role: `chart` draws the events of one run as lines of text that fit a width.  `show` prints the
charts of a log, and `follow` keeps them on the screen while the log grows.

Each kind has its own signs and its own colour: no colour carries a meaning alone.  Marks before the
newest gap are hollow and dim: the process that goes on after it has replayed them.

Left to `timeline`: from events to rows, and the gaps in which nobody worked.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import TYPE_CHECKING, TextIO

from ..client import Client
from ..storage.event import Event
from .console import visible
from .timeline import Row, duration, rows, silences

if TYPE_CHECKING:
    from rich.text import Text

#: A piece of a line, and its style.
Piece = tuple[str, str]
Line = list[Piece]

#: Seconds between two looks at the log.
PAUSE = 0.25
_LEAST, _LABEL, _PLAIN = 40, 24, 100  # columns
_GAP = "░"
#: The mark of each kind, the mark of a replayed one, the bar, and the colour.
_SIGNS = {
    "started": ("▶", "▷", " ", "green"),
    "activity": ("●", "○", "━", "cyan"),
    "sleep": ("■", "□", "┄", "blue"),
    "signal": ("◆", "◇", "┈", "magenta"),
    "output": ("▲", "△", " ", "yellow"),
    "result": ("▲", "△", " ", "yellow"),
    "patch": ("▲", "△", " ", "yellow"),
    "failure": ("✗", "✗", " ", "red"),
    "cancel": ("✗", "✗", " ", "red"),
    "ended": ("▌", "▏", " ", "green"),
}


@dataclass(frozen=True, slots=True)
class _Scale:
    """From moments to columns."""

    start: datetime
    length: timedelta
    columns: int

    def column(self, moment: datetime) -> int:
        place = int((moment - self.start) / self.length * self.columns)
        return min(max(place, 0), self.columns - 1)


def chart(events: Sequence[Event], width: int, now: datetime) -> list[Line]:
    """Draw the events of one run, in lines of at most `width` columns (40 or more).

    A run that has not ended is drawn up to `now`.
    """
    width = max(width, _LEAST)
    found, gaps = rows(events), silences(events, None, now)
    key = events[0].key
    title = visible(f"{key.namespace}/{key.workflow}/{key.run}")
    lanes: dict[tuple[str, str], list[Row]] = {}
    for row in found:
        name = row.kind if row.kind in ("started", "ended") else row.name
        lanes.setdefault((row.kind, name), []).append(row)
    label = min(max(len(name) for _, name in lanes), _LABEL, width // 3)
    ends = [row.end or now for row in (*found, *gaps)]
    length = max(max(ends) - found[0].start, timedelta(milliseconds=1))
    scale = _Scale(found[0].start, length, width - label - 3)
    replayed = max((gap.end or now for gap in gaps), default=found[0].start)
    return [
        [(_cut(title, width - 9), "bold"), (f" {duration(length):>8}", "")],
        *(_lane(*kind, lanes[kind], gaps, label, scale, now, replayed) for kind in lanes),
        *([_legend(gaps, width)] if gaps else []),
    ]


def _lane(
    kind: str,
    name: str,
    found: Iterable[Row],
    gaps: Iterable[Row],
    label: int,
    scale: _Scale,
    now: datetime,
    replayed: datetime,
) -> Line:
    mark, hollow, bar, colour = _SIGNS[kind]
    cells: list[Piece] = [(" ", "")] * scale.columns
    for row in found:
        old = row.start < replayed
        style = f"dim {colour}" if old else colour
        first, last = scale.column(row.start), scale.column(row.end or now)
        if len(row.events) > 1 or row.open or row.abandoned:
            cells[first : last + 1] = [(bar, style)] * (last + 1 - first)
        cells[first] = (hollow if old else mark, style)
        if row.failed:
            cells[last] = ("✗", "red")
    for gap in gaps:
        for n in range(scale.column(gap.start) + 1, scale.column(gap.end or now)):
            cells[n] = (_GAP, "red")
    text = f"{mark} {_cut(visible(name), label):{label}} "
    return [(text, colour), *_joined(cells)]


def _legend(gaps: Sequence[Row], width: int) -> Line:
    lengths = ", ".join(duration(gap.end - gap.start) for gap in gaps if gap.end)
    return [(_cut(f"{_GAP} nobody worked for {lengths}; hollow marks are replayed", width), "red")]


def _joined(cells: Iterable[Piece]) -> Iterator[Piece]:
    for style, group in groupby(cells, lambda cell: cell[1]):
        yield "".join(text for text, _ in group), style


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"


def charts(events: Iterable[Event], width: int, now: datetime) -> list[Line]:
    """Draw the events of all runs, one after the other."""
    runs: dict[tuple[str, str, str], list[Event]] = {}
    for event in events:
        runs.setdefault(event.key[:3], []).append(event)
    return [line for run in runs.values() for line in chart(run, width, now)]


def show(events: Iterable[Event], out: TextIO) -> None:
    """Print the charts: in the width and colours of a terminal, or as plain text 100 columns wide.

    Colours need `rich`, from the extra `show`.
    """
    if not out.isatty():
        for line in charts(events, _PLAIN, datetime.now(UTC)):
            print("".join(text for text, _ in line).rstrip(), file=out, flush=True)
        return
    from rich.console import Console

    console = Console(file=out)
    console.print(_painted(charts(events, console.width, datetime.now(UTC))), end="")


def follow(client: Client, namespace: str, out: TextIO) -> None:
    """Keep the charts of a namespace on a terminal until Ctrl-C: the newest lines, if too many.

    This needs `rich`, from the extra `show`.  Without a terminal it prints them once.
    """
    if not out.isatty():
        show(client.stream(namespace, to_head=True), out)
        return
    from rich.console import Console
    from rich.live import Live

    console = Console(file=out)
    events: list[Event] = []
    shown: list[Line] = []
    with Live(console=console, auto_refresh=False) as live:
        while True:
            after = events[-1].id if events else 0
            events += client.stream(namespace, after=after, to_head=True)
            lines = charts(events, console.width, datetime.now(UTC))[1 - console.height :]
            if lines != shown:  # each repaint may flicker
                live.update(_painted(lines), refresh=True)
            shown = lines
            time.sleep(PAUSE)


def _painted(lines: Iterable[Line]) -> Text:
    from rich.text import Text

    texts = (Text.assemble(*line) for line in lines)
    return Text("\n", no_wrap=True).join(texts)
