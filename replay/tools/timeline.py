"""Timelines: the events of a run as rows, and the rows as SVG.

Role: `rows` pairs each request with its response.  `silences` finds the times in which the run was
due and nobody worked on it.  `fold` hides the middle of a long history.  `draw` makes the picture.
All are pure functions: events in, text out.

A colour never carries a meaning alone: each kind also has its own shape and its own line, and is
named in words (Q3).

Left to `page`: everything around the picture.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import groupby

from ..failure import CANCEL, FAILURE, PATCH, RESULT, read_failure
from ..query import Waiting
from ..signal import TARGET as SIGNAL
from ..sleep import TARGET as SLEEP
from ..sleep import requested_duration
from ..storage.event import Event, EventType, MessageError
from .console import shortened
from .markup import Markup, tag

#: A silence is a silence from here on: a live worker acts within milliseconds.
LEAST_SILENCE = timedelta(milliseconds=500)
#: A history with more events than this is folded.
FOLD_ABOVE = 1000
#: Rows of one fold, and how many folds there are at most.
FOLD, FOLDS = 100, 100
#: How many open rows are never folded, and how many silences are shown: the newest, the longest.
MOST_OPEN, MOST_SILENCES = 100, 50

_ROW, _AXIS, _MIDDLE = 30, 26, 15  # heights in pixels
_LONGEST_LABEL = 26  # cells
_STEPS = (
    *(n / 1000 for n in (1, 2, 5, 10, 20, 50, 100, 200, 500)),
    *(1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 4 * 3600, 12 * 3600),
)
_DAY = 86400.0
#: The response holds this, near its beginning, when the timeout of an await is over.
_NO_SIGNAL = b"/replaypb.SleepDone"
_OUTPUTS = {RESULT: "result", FAILURE: "failure", PATCH: "patch"}
_CALLS = {SLEEP: "sleep", SIGNAL: "signal"}
_SHAPES = {
    "circle": "M-5 0a5 5 0 1 0 10 0a5 5 0 1 0-10 0",
    "diamond": "M0-6 6 0 0 6-6 0z",
    "square": "M-4.5-4.5h9v9h-9z",
    "triangle": "M-4-6 6 0-4 6z",
    "bar": "M-1.5-7h3v14h-3z",
    "cross": "M-5-5 5 5M5-5-5 5",
}
#: The shape of each kind; failures have a cross.
_MARKS = {
    "started": "triangle",
    "activity": "circle",
    "sleep": "circle",
    "signal": "diamond",
    "output": "square",
    "patch": "square",
    "result": "square",
    "failure": "cross",
    "cancel": "cross",
    "ended": "bar",
    "silence": "bar",
}


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the timeline: a request with its response, or one event, or a silence."""

    #: A key of `_MARKS`.
    kind: str
    name: str
    iteration: int
    start: datetime
    #: None as long as there is no response.
    end: datetime | None
    #: The request and the response, or the one event; nothing for a silence.
    events: tuple[Event, ...] = ()
    failed: bool = False
    #: Whether its iteration has ended without a response.
    abandoned: bool = False

    @property
    def place(self) -> str:
        """An id by which it is known again when there are more of them."""
        return f"row-{self.id}" if self.id else f"silence-{self.start.timestamp():.3f}"

    @property
    def id(self) -> int:
        """The id of its first event; 0 for a silence."""
        return self.events[0].id if self.events else 0

    def has(self, event: int) -> bool:
        """Whether the event with this id is one of its events."""
        return any(each.id == event for each in self.events)

    @property
    def open(self) -> bool:
        """Whether it waits for a response."""
        return self.end is None


@dataclass(frozen=True, slots=True)
class Fold:
    """Rows that are hidden behind one line."""

    number: int
    rows: Sequence[Row]

    @property
    def place(self) -> str:
        """As in `Row`."""
        return f"fold-{self.number}"

    @property
    def start(self) -> datetime:
        """The start of its first row."""
        return self.rows[0].start


@dataclass(frozen=True, slots=True)
class Picture:
    """All that `draw` needs beside the rows."""

    now: datetime
    #: All that the run waits for, by the key of the request.
    waiting: Mapping[str, Waiting]
    #: The address of a row, and of an opened fold.
    to_row: Callable[[Row], str]
    to_fold: Callable[[Fold], str]
    #: The id of an event of the row whose messages are shown.
    chosen: int = 0


# From events to rows.


def rows(events: Iterable[Event]) -> list[Row]:
    """Return a run's rows, in the order of their first events."""
    found: dict[object, Row] = {}
    for event in events:
        key = event.key
        at = event.timestamp
        if event.type is EventType.ACTIVITY_REQUEST:
            call = _CALLS.get(key.target, "activity")
            found[key] = Row(call, _name(event), key.iteration, at, None, (event,))
        elif event.type is EventType.ACTIVITY_RESPONSE and (row := found.get(key)) is not None:
            failed = read_failure(event) is not None
            found[key] = replace(row, end=at, events=(*row.events, event), failed=failed)
        elif (kind := _kind(event)) is not None:
            failed = kind in ("failure", "cancel")
            row = Row(kind, _name(event), key.iteration, at, at, (event,), failed)
            found[event.type, key] = row
    ends = {row.iteration: row.start for row in found.values() if row.kind == "ended"}
    return [
        replace(row, end=ends[row.iteration], abandoned=True)
        if row.open and row.iteration in ends
        else row
        for row in found.values()
    ]


def _kind(event: Event) -> str | None:
    """Return the kind of an event that is a row of its own; None for any other."""
    if event.type is EventType.RUN_CREATED:
        return "started"
    if event.type is EventType.RUN_COMPLETED:
        return "ended"
    if event.type is EventType.RUN_OUTPUT:
        return _OUTPUTS.get(event.key.target, "output")
    if event.type is EventType.ACTIVITY_RESPONSE:
        return "cancel" if event.key.target == CANCEL else "activity"
    return None


def _name(event: Event) -> str:
    """Name a row: what the run has called, or what has happened."""
    key = event.key
    if event.type is EventType.RUN_CREATED:
        return f"iteration {key.iteration}" if key.iteration else "start"
    if event.type is EventType.RUN_COMPLETED:
        return "end" if not key.iteration else f"end of iteration {key.iteration}"
    if key.target == SIGNAL:
        return f"signal {key.sequence.partition(':')[0]}"
    if key.target == PATCH:
        return f"patch {key.sequence}"
    if key.target in (*_OUTPUTS, SLEEP, CANCEL):
        return key.target.removeprefix("replay_")
    return key.target


def silences(events: Iterable[Event], handled: int | None, now: datetime) -> list[Row]:
    """Return the times in which the run was due and nobody worked on it.

    The log does not record who works.  It shows two kinds of silence: from the last event that
    wakes the run (a start, a response) to what the run does next, and from the time when a sleep is
    over to its response.  Such a silence ends now if the workflow's cursor, `handled`, has not
    passed the event that wakes the run.  None: nobody knows the cursor.
    """
    found: list[tuple[datetime, datetime]] = []
    due: dict[object, datetime] = {}  # of sleeps, by key
    woken: Event | None = None
    for event in events:
        if event.key.target == SLEEP and (over := _over(event)) is not None:
            due[event.key] = over
        if event.type in (EventType.RUN_CREATED, EventType.ACTIVITY_RESPONSE):
            if (over := due.pop(event.key, None)) is not None:
                found.append((over, event.timestamp))
            woken = event
        elif woken is not None:
            found.append((woken.timestamp, event.timestamp))
            woken = None
        if event.type is EventType.RUN_COMPLETED:
            due.clear()
    if woken is not None and handled is not None and handled < woken.id:
        found.append((woken.timestamp, now))
    found += ((over, now) for over in due.values())
    longest = sorted(_merged(found), key=lambda each: each[0] - each[1])[:MOST_SILENCES]
    return [Row("silence", "no worker", 0, *each) for each in sorted(longest)]


def _over(event: Event) -> datetime | None:
    """Return when the sleep of a request is over; None for any other event."""
    if event.type is not EventType.ACTIVITY_REQUEST:
        return None
    try:
        return event.timestamp + requested_duration(event)
    except (MessageError, OverflowError):
        return None


def _merged(spans: Iterable[tuple[datetime, datetime]]) -> list[tuple[datetime, datetime]]:
    merged: list[tuple[datetime, datetime]] = []
    for start, end in sorted(each for each in spans if each[1] - each[0] >= LEAST_SILENCE):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def fold(rows: Sequence[Row], events: int, opened: int | None = None) -> list[Row | Fold]:
    """Hide all but the newest rows, the newest open ones and those of the fold number `opened`.

    It hides nothing of a history of at most `FOLD_ABOVE` events.
    """
    if events <= FOLD_ABOVE:
        return list(rows)
    size = max(FOLD, -(-len(rows) // FOLDS))
    last = (len(rows) - 1) // size
    kept = {row.id for row in [row for row in rows if row.open][-MOST_OPEN:]}
    shown: list[Row | Fold] = []
    for number, places in groupby(range(len(rows)), lambda place: place // size):
        group = [rows[place] for place in places]
        if number in (last, opened):
            shown += group
            continue
        hidden = [row for row in group if row.id not in kept]
        if hidden:
            shown.append(Fold(number, hidden))
        shown += [row for row in group if row.id in kept]
    return shown


# Words.


def duration(span: timedelta) -> str:
    """Return a duration in words of at most two units."""
    seconds = max(0.0, span.total_seconds())
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    units = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))
    whole = round(seconds)
    place = next(n for n, (size, _) in enumerate(units) if whole >= size)
    (size, unit), (below, smaller) = units[place], units[place + 1]
    rest = whole % size // below
    return f"{whole // size} {unit}" + (f" {rest} {smaller}" if rest else "")


def left(until: datetime, now: datetime) -> str:
    """Return the time left in whole seconds, rounded up, or in larger units."""
    seconds = max(0, -(-(until - now) // timedelta(seconds=1)))
    return f"{seconds} s" if seconds < 60 else duration(timedelta(seconds=seconds))


def state(row: Row, waiting: Waiting | None, now: datetime) -> str:
    """Say in a few words how long a row took, or what it waits for."""
    if row.kind == "silence":
        return duration((row.end or now) - row.start)
    if row.abandoned:
        return "never answered"
    if row.end is not None:
        if len(row.events) == 1:
            return ""
        words = duration(row.end - row.start)
        if row.kind == "signal" and _NO_SIGNAL in (row.events[1].raw or b"")[:64]:
            return f"no signal, {words}"
        return f"failed, {words}" if row.failed else words
    return wait(waiting, now) if waiting is not None else f"open {duration(now - row.start)}"


def attempt(failed: int, next_at: datetime | None, now: datetime) -> str:
    """Say which attempt comes next, and in which time if it is not due."""
    words = f"attempt {failed + 1}"
    if next_at is None or next_at <= now:
        return words
    return f"{words}, again in {left(next_at, now)}"


def wait(waiting: Waiting, now: datetime) -> str:
    """Say in a few words what an open request waits for."""
    if waiting.attempts or waiting.next_at is not None:
        due = waiting.next_at is None or waiting.next_at <= now
        return attempt(waiting.attempts, waiting.next_at, now) + (", now" if due else "")
    if waiting.until is not None and waiting.until <= now:
        return "due"
    if waiting.until is not None:
        return f"{left(waiting.until, now)} left"
    return f"open {left(now, waiting.since)}"


# From rows to SVG.


@dataclass(frozen=True, slots=True)
class _Scale:
    start: datetime
    length: float  # in seconds

    def place(self, at: datetime) -> str:
        """Return where a time is, in percent of the width."""
        share = (at - self.start).total_seconds() / self.length
        return f"{min(max(share, 0.0), 1.0) * 100:.3f}%"

    def ticks(self) -> list[float]:
        """Return at most six round times, in seconds from the start."""
        step = next((step for step in _STEPS if self.length / step <= 6), 0.0)
        if not step:
            step = _DAY * max(1, round(self.length / _DAY / 5))
        return [n * step for n in range(int(self.length / step) + 1)]


def draw(shown: Sequence[Row | Fold], silences: Sequence[Row], picture: Picture) -> Markup:
    """Make the SVG of rows, in their order, with silences among them and as bands behind them.

    Times are in percent of the width.  The names stand left of it, the states right of it, and the
    style sheet gives them room, or on a small screen a line above.
    """
    lines: list[Row | Fold] = sorted([*shown, *silences], key=lambda each: each.start)
    every = [row for line in lines for row in (line.rows if isinstance(line, Fold) else [line])]
    start = min((row.start for row in every), default=picture.now)
    end = max((row.end or picture.now for row in every), default=picture.now)
    scale = _Scale(start, max((end - start).total_seconds(), 0.001))
    return tag(
        "svg",
        _hatch(),
        _axis(scale),
        _bands(silences, scale, picture.now, _ROW * len(lines)),
        [
            tag(
                "g",
                _line(line, scale, picture),
                id=line.place,
                role="listitem",
                transform=f"translate(0 {_AXIS + _ROW * n})",
            )
            for n, line in enumerate(lines)
        ],
        class_="timeline",
        id="timeline",
        height=_AXIS + _ROW * len(lines),
        role="list",
        aria_label="Timeline: a row for each request, from its request to its response",
    )


def _hatch() -> Markup:
    stripe = tag("path", d="M-2 2 2-2M0 8 8 0M6 10 10 6", class_="stripe")
    size = {"width": 8, "height": 8, "patternUnits": "userSpaceOnUse"}
    return tag("defs", tag("pattern", stripe, id="hatch", **size))


def _axis(scale: _Scale) -> Markup:
    found = []
    for seconds in scale.ticks():
        x = scale.place(scale.start + timedelta(seconds=seconds))
        words = duration(timedelta(seconds=seconds)).replace(".0", "") if seconds else "0"
        found.append(tag("line", class_="grid", x1=x, x2=x, y1=_AXIS - 6, y2="100%"))
        found.append(tag("text", words, class_="tick", x=x, y=12))
    return tag("g", found, aria_hidden="true")


def _bands(silences: Sequence[Row], scale: _Scale, now: datetime, height: int) -> Markup:
    bands = []
    for row in silences:
        share = ((row.end or now) - row.start).total_seconds() / scale.length * 100
        place = {"x": scale.place(row.start), "width": f"{share:.3f}%", "y": _AXIS}
        bands.append(tag("rect", class_="silence", **place, height=height))
    return tag("g", bands, aria_hidden="true")


def _line(line: Row | Fold, scale: _Scale, picture: Picture) -> Markup:
    if isinstance(line, Fold):
        return _folded(line, scale, picture)
    waiting = picture.waiting.get(line.events[0].text) if line.events else None
    words = state(line, waiting, picture.now)
    title = (
        line.name
        if line.kind in (*line.name.split(), "started", "ended", "silence")
        else (f"{line.kind} {line.name}")
    )
    content = _row(title, _mark(line.kind, False), line.name, words, _bar(line, scale, picture.now))
    chosen = line.has(picture.chosen)
    kinds = {"failed": line.failed, "open": line.open, "chosen": chosen}
    names = " ".join(["row", line.kind, *(name for name, holds in kinds.items() if holds)])
    if not line.events:
        return tag("g", content, class_=names)
    return tag("a", content, href=picture.to_row(line), class_=names, data_soft=True)


def _row(title: str, icon: Markup, name: str, words: str, plot: Sequence[Markup]) -> list[Markup]:
    """Return what a line consists of."""
    return [
        tag("title", f"{title}: {words}" if words else title),
        tag("rect", class_="hit", height=_ROW, rx=5),
        tag("g", icon, class_="icon"),
        tag("text", shortened(name, _LONGEST_LABEL), class_="name", y=_MIDDLE),
        tag("text", words, class_="state", x="100%", y=_MIDDLE),
        tag("g", plot, class_="plot"),
    ]


def _bar(row: Row, scale: _Scale, now: datetime) -> list[Markup]:
    """Draw a row from dot to dot."""
    first = scale.place(row.start)
    if row.kind == "silence":
        return []
    if row.end is not None and len(row.events) == 1 and not row.abandoned:
        return [_at(first, row.kind, False)]
    last = scale.place(row.end or now)
    bar = tag("line", class_="bar", x1=first, x2=last, y1=_MIDDLE, y2=_MIDDLE)
    if row.open or row.abandoned:
        return [bar, _at(first, row.kind, False)]
    return [bar, _at(first, row.kind, False), _at(last, row.kind, row.failed)]


def _at(x: str, kind: str, failed: bool) -> Markup:
    """Draw a mark at a place in percent: only an inner `svg` can stand there."""
    return tag("svg", _mark(kind, failed), x=x, class_="over")


def _mark(kind: str, failed: bool) -> Markup:
    shape = "cross" if failed else _MARKS[kind]
    down = f"translate(0 {_MIDDLE})"
    return tag("path", d=_SHAPES[shape], class_=f"mark {shape}", transform=down)


def _folded(line: Fold, scale: _Scale, picture: Picture) -> Markup:
    first, last = line.rows[0], line.rows[-1]
    end = max(row.end or picture.now for row in line.rows)
    failed = sum(row.failed for row in line.rows)
    words = f"{failed} failed" if failed else duration(end - first.start)
    x1, x2 = scale.place(first.start), scale.place(end)
    bar = tag("line", class_="bar", x1=x1, x2=x2, y1=_MIDDLE, y2=_MIDDLE)
    title = f"{len(line.rows)} rows, events {first.id} to {last.id}, are folded"
    icon = tag("text", "⋯", y=_MIDDLE)
    content = _row(title, icon, f"{len(line.rows)} more rows", words, [bar])
    return tag("a", content, href=picture.to_fold(line), class_="row fold", data_soft=True)


_LEGEND = (
    ("activity", "activity: from its request to its response"),
    ("sleep", "sleep: dashed"),
    ("signal", "signal: dotted"),
    ("output", "output or result"),
    ("failure", "failure or cancel"),
    ("started", "start of an iteration"),
    ("ended", "its end"),
)


def legend() -> Markup:
    """Explain the shapes, and what a silence is and is not."""
    entries = [
        tag("li", tag("svg", _at("50%", kind, False), class_=kind, width=16, height=_ROW), words)
        for kind, words in _LEGEND
    ]
    silence = tag("rect", class_="silence", width=16, height=14, y=8)
    entries.append(
        tag(
            "li",
            tag("svg", silence, width=16, height=_ROW),
            "no worker: the run was due, or its sleep was over, and for half a second or more"
            " nobody acted. The worker was killed or stopped, it was busy, or the run was parked."
            " The log does not say which. A worker that is killed during an activity leaves only a"
            " long bar.",
        )
    )
    return tag("ul", entries, class_="legend")
