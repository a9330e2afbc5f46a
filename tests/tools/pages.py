"""The pages that are compared with stored ones.  ``python -m tests.tools.pages`` stores them."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from google.protobuf.duration_pb2 import Duration

from replay import Event, EventType, Key
from replay.query import ConsumerInfo, ParkedInfo, RunDescription, RunInfo, Waiting
from replay.server.proto.replaypb_pb2 import SleepDone, SleepRequest
from replay.server.proto.values_pb2 import Failure
from replay.storage.event import pack
from replay.storage.values import ANY
from replay.tools import page, timeline
from replay.tools.page import Filter, Frame, RunView
from replay.tools.timeline import Picture

FOLDER = Path(__file__).parent / "page"
START = datetime(2030, 1, 1, 12, tzinfo=UTC)
RUN = ("shop", "order", "order-1")
EVIL = '<script>alert(1)</script>"><img src=x onerror=alert(2)>'
CREATED, ENDED, OUTPUT, ASKED, GIVEN = (EventType(n) for n in (1, 2, 3, 4, 5))


def at(seconds: float) -> datetime:
    """A time, in seconds from the start."""
    return START + timedelta(seconds=seconds)


def event(
    id: int, type: EventType, place: str, seconds: float, value: Any = None, iteration: int = 0
) -> Event:
    """An event of the run; `place` is its target and sequence."""
    target, _, sequence = place.rpartition("/")
    key = Key(*RUN, iteration, target, sequence)
    raw = pack(ANY.message(value, key), 1 << 20, key)
    return Event(id, type, key, at(seconds), raw)


def sleeping(seconds: float) -> SleepRequest:
    """The request of a sleep."""
    whole = int(seconds)
    return SleepRequest(duration=Duration(seconds=whole, nanos=round((seconds - whole) * 1e9)))


def history() -> list[Event]:
    """A run with everything: failures, a silence, two iterations, and three open requests."""
    return [
        event(1, CREATED, "", 0, {"item": EVIL}),
        event(2, ASKED, "charge/0", 0.01, {"cents": 1200}),
        event(3, GIVEN, "charge/0", 0.8, {"receipt": "r-1"}),
        event(4, OUTPUT, "receipt/0", 0.81, "r-1"),
        event(5, ASKED, "replay_sleep/0", 0.82, sleeping(1)),
        event(6, GIVEN, "replay_sleep/0", 1.83, SleepDone()),
        event(7, ASKED, "ship/0", 4.5, None),
        event(8, GIVEN, "ship/0", 4.9, Failure(kind="GiveUp", text="no such address", attempts=2)),
        event(9, ASKED, "replay_signal/1:0", 4.95, sleeping(1)),
        event(10, GIVEN, "replay_signal/1:0", 5.95, SleepDone()),
        event(11, ASKED, "audit/0", 5.96, None),
        event(12, ENDED, "", 6, None),
        event(13, CREATED, "", 6, {"item": "again"}, 1),
        event(14, OUTPUT, "replay_patch/by-air", 6.01, None, 1),
        event(15, ASKED, "charge/0", 6.02, {"cents": 900}, 1),
        event(16, ASKED, "replay_signal/-2:0", 6.03, sleeping(3600), 1),
        event(17, ASKED, "replay_sleep/0", 6.04, sleeping(2.5), 1),
    ]


def described(**changes: Any) -> RunDescription:
    """The run of `history`."""
    key = "/".join((*RUN, "1"))
    till = at(3606.03)
    waiting = [
        Waiting("activity", "charge", at(6.02), None, 2, EVIL, at(18), f"{key}/charge/0"),
        Waiting("signal", "-2", at(6.03), till, 0, "", None, f"{key}/replay_signal/-2:0"),
        Waiting("sleep", "", at(6.04), at(8.54), 0, "", None, f"{key}/replay_sleep/0"),
    ]
    run = RunDescription(*RUN, 1, "running", START, None, None, None, "", 0, None, waiting, 17)
    return replace(run, **changes)


def run_info(id: int, status: str, error: str = "", **changes: Any) -> RunInfo:
    """A run in a list."""
    ended = None if status in ("running", "waiting", "parked") else at(id + 2)
    run = RunInfo(*RUN[:2], f"order-{id}", 0, status, at(id), ended, error, 10 * id, id)
    return replace(run, **changes)


def picture() -> str:
    """The timeline of `history`, at 10.4 s."""
    rows, now = timeline.rows(history()), at(10.4)
    waiting = {each.key: each for each in described().waiting_for}
    what = Picture(now, waiting, lambda row: f"?row={row.id}", lambda fold: "", chosen=3)
    return timeline.draw(timeline.fold(rows, 17), timeline.silences(history(), 17, now), what)


def folded() -> str:
    """The timeline of a run with 1,004 events, of which one group is open."""
    events = [event(1, CREATED, "", 0)]
    for n in range(501):
        events.append(event(2 * n + 2, ASKED, f"step/{n}", n))
        events.append(event(2 * n + 3, GIVEN, f"step/{n}", n + 0.5, Failure() if n == 250 else n))
    del events[301]  # the response of one, which is open
    shown = timeline.fold(timeline.rows(events), len(events) + 1)
    what = Picture(at(600), {}, lambda row: f"?row={row.id}", lambda fold: f"?fold={fold.number}")
    return timeline.draw([*shown[:6], *shown[-2:]], [], what)


def run_page() -> str:
    """The page of the run, with forms, and the messages of a row."""
    view = RunView(described(), history(), None, 17, chosen=1)
    return page.run_page(Frame("sqlite:///shop.db", "secret", "signalled"), view, at(10.4))


def failed_page() -> str:
    """The page of a run that has failed, for reading only."""
    run = described(
        status="failed", ended_at=at(3), iteration=0, waiting_for=[], error=EVIL, last_event_id=3
    )
    events = [
        event(1, CREATED, "", 0),
        event(2, OUTPUT, "replay_failure/0", 3, Failure(kind="failed", text=EVIL)),
        event(3, ENDED, "", 3),
    ]
    return page.run_page(Frame("sqlite:///shop.db"), RunView(run, events, None, 3), at(99))


def runs_page() -> str:
    """A list of runs."""
    runs = [
        run_info(6, "running", run="<b>bold</b>"),
        run_info(5, "waiting", iteration=12),
        run_info(4, "parked", EVIL),
        run_info(3, "completed"),
        run_info(2, "failed", "out of stock"),
        run_info(1, "cancelled", "customer"),
    ]
    counts = {"running": 1234, "waiting": 1, "parked": 1, "completed": 1, "failed": 1}
    words = {3: '"done"', 5: "waits for signal 1"}
    chosen = Filter("shop", "order", "", "1d", 99)
    frame = Frame("sqlite:///shop.db", "secret")
    return page.runs_page(frame, chosen, runs, counts, words, True)


def consumers_page() -> str:
    """The consumers, and what they have parked."""
    consumers = [
        ConsumerInfo("activity/shop/charge", "host:17", at(10), 16, 1, 1),
        ConsumerInfo("workflow/shop/order", "", at(2), 17, 0, 0),
    ]
    name, key = "activity/shop/charge", "/".join((*RUN, "1/charge/0"))
    parked = [ParkedInfo(name, 15, *RUN, key, 2, EVIL, at(18), 1)]
    return page.consumers_page(Frame("sqlite:///shop.db", "secret"), consumers, parked, at(5))


def log_page() -> str:
    """The log, newest first."""
    return page.log_page(Frame("sqlite:///shop.db"), reversed(history()), Filter("shop"))


PAGES: dict[str, Callable[[], str]] = {
    "timeline.svg": picture,
    "folded.svg": folded,
    "run.html": run_page,
    "failed.html": failed_page,
    "runs.html": runs_page,
    "consumers.html": consumers_page,
    "log.html": log_page,
}


def lines(markup: str) -> str:
    """Markup with a line for each element, so that a difference can be read."""
    return re.sub(r"(?<=>)(?=<[a-z])", "\n", markup).rstrip("\n") + "\n"


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, make in PAGES.items():
        (FOLDER / name).write_text(lines(make()), encoding="utf-8")
