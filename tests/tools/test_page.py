"""The page as text: what its pure functions make of data, compared with stored files."""

from __future__ import annotations

from datetime import datetime, timedelta
from html.parser import HTMLParser

import pytest
from google.protobuf import any_pb2
from google.protobuf.wrappers_pb2 import StringValue

from replay import Event
from replay.query import Waiting
from replay.tools import page, timeline
from replay.tools.markup import Markup, tag, text
from replay.tools.messages import readable
from replay.tools.page import Filter, Frame, RunView
from tests.example_pb2 import Int
from tests.tools.pages import (
    ASKED,
    CREATED,
    ENDED,
    EVIL,
    FOLDER,
    GIVEN,
    OUTPUT,
    PAGES,
    RUN,
    at,
    described,
    event,
    history,
    lines,
    sleeping,
)


@pytest.mark.parametrize("name", PAGES)
def test_q3_a_page_is_as_stored(name: str) -> None:
    """Q3: the same data makes the same text; ``python -m tests.tools.pages`` stores another."""
    assert lines(PAGES[name]()) == (FOLDER / name).read_text(encoding="utf-8")


class Elements(HTMLParser):
    """The elements of a page, and their attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.attributes: set[str] = set()
        self.words = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.words += data


def hostile(words: str) -> dict[str, str]:
    """Every page, with a text of somebody's choice wherever data can stand."""
    frame = Frame(words, words, words)
    data = event(1, CREATED, "", 0, {words: [words]})
    changes = {"namespace": words, "workflow": words, "run": words}
    run = described(**changes, error=words)
    done = described(**changes, status="completed", ended_at=at(3), result=data.raw)
    calls = [data, event(2, ASKED, f"{words}/{words}", 1, words), event(3, OUTPUT, "o/0", 1, words)]
    consumer = PAGES["consumers.html"]
    return {
        "run": page.run_page(frame, RunView(run, calls, 0, 0, 2, 0), at(9)),
        "done": page.run_page(frame, RunView(done, calls, 0, 0, 2, 0), at(9)),
        "log": page.log_page(frame, calls, Filter(words, words, words, words)),
        "error": page.error_page(frame, words, words),
        "consumers": consumer(),
    }


@pytest.mark.parametrize(
    "words",
    [EVIL, "' onclick='x", "</title><base href=//evil>", "&lt;b>", "\0\x1b[2J\x7f", "\u202e"],
)
def test_q3_hostile_names_and_payloads_stay_text(words: str) -> None:
    """Q3: whatever a name, a message or an error holds, a page has no further element."""
    plain = hostile("plain")
    for name, made in hostile(words).items():
        found, usual = Elements(), Elements()
        found.feed(made)
        usual.feed(plain[name])
        assert found.names <= usual.names | {"time"}
        assert found.attributes <= usual.attributes
        assert not set(found.names) & {"img", "base", "b1"}
        assert "\0" not in made
        assert "\x1b" not in made
        assert "\u202e" not in made


def test_q3_no_page_has_a_script_or_a_style_of_its_own() -> None:
    """Q3: so the Content-Security-Policy can forbid them."""
    for name, make in PAGES.items():
        found = Elements()
        found.feed(make())
        assert not {each for each in found.attributes if each.startswith("on")}, name
        assert "style" not in found.attributes | found.names, name
        assert make().count("<script") == make().count('<script src="/page.js" defer>'), name


def test_q3_text_is_escaped_once() -> None:
    """Q3: markup stays, and text in it or in an attribute cannot end it."""
    inner = tag("b", '<i>&"')
    assert tag("a", inner, title='"<', data_x=True, gone=None) == (
        '<a title="&quot;&lt;" data-x><b>&lt;i&gt;&amp;&quot;</b></a>'
    )
    assert text(Markup("<b>")) == "<b>"


# Gaps: what the log shows of a killed worker, and what it does not.


def found(events: list[Event], handled: int | None, now: float) -> list[tuple[float, float]]:
    """The silences, in seconds from the start."""
    silences = timeline.silences(events, handled, at(now))
    return [
        (
            (silence.start - at(0)).total_seconds(),
            ((silence.end or at(now)) - at(0)).total_seconds(),
        )
        for silence in silences
    ]


def test_q3_a_silence_is_from_what_wakes_the_run_to_what_it_does() -> None:
    """Q3: an answer at 1, and nothing until 4: a worker would have gone on at once."""
    events = [
        event(1, CREATED, "", 0),
        event(2, ASKED, "a/0", 0.1),
        event(3, GIVEN, "a/0", 1),
        event(4, ENDED, "", 4),
    ]
    assert found(events, 4, 9) == [(1, 4)]


def test_q3_a_late_answer_to_a_sleep_is_a_silence() -> None:
    """Q3: a sleep that is over at 2, and answered at 5."""
    events = [
        event(1, CREATED, "", 0),
        event(2, ASKED, "replay_sleep/0", 0, sleeping(2)),
        event(3, GIVEN, "replay_sleep/0", 5),
        event(4, ENDED, "", 5.1),
    ]
    assert found(events, 4, 9) == [(2, 5)]
    assert found(events[:2], 2, 4) == [(2, 4)]
    assert found(events[:2], 2, 2.1) == []


def test_q3_a_long_activity_is_no_silence() -> None:
    """Q3: it looks the same whether its worker was killed or is slow, so nothing is claimed."""
    events = [event(1, CREATED, "", 0), event(2, ASKED, "a/0", 0.1), event(3, GIVEN, "a/0", 60)]
    assert found([*events, event(4, ENDED, "", 60.1)], 4, 99) == []
    assert found(events[:2], 2, 99) == []


def test_q3_an_answer_that_is_one_of_several_is_no_silence() -> None:
    """Q3: the run waits for the last of them, so only the last one wakes it."""
    events = [
        event(1, CREATED, "", 0),
        event(2, ASKED, "a/0", 0.1),
        event(3, ASKED, "b/0", 0.1),
        event(4, GIVEN, "a/0", 1),
        event(5, GIVEN, "b/0", 9),
        event(6, ENDED, "", 9.1),
    ]
    assert found(events, 6, 9.2) == []
    assert found(events[:4], 4, 8) == []  # the workflow has seen the first answer


def test_q3_a_silence_lasts_while_nobody_has_read_the_event() -> None:
    """Q3: the workflow's cursor tells a dead worker from a run that waits for more."""
    events = [event(1, CREATED, "", 0), event(2, ASKED, "a/0", 0.1), event(3, GIVEN, "a/0", 1)]
    assert found(events, 2, 8) == [(1, 8)]
    assert found(events, 3, 8) == []
    assert found(events, None, 8) == []


# Rows and folds.


def test_q3_a_request_and_its_response_are_a_row() -> None:
    """Q3: also those that nobody answers any more, since their iteration has ended."""
    rows = timeline.rows(history())
    names = [(row.kind, row.name, row.open, row.failed, row.abandoned) for row in rows]
    assert names == [
        ("started", "start", False, False, False),
        ("activity", "charge", False, False, False),
        ("output", "receipt", False, False, False),
        ("sleep", "sleep", False, False, False),
        ("activity", "ship", False, True, False),
        ("signal", "signal 1", False, False, False),
        ("activity", "audit", False, False, True),
        ("ended", "end", False, False, False),
        ("started", "iteration 1", False, False, False),
        ("patch", "patch by-air", False, False, False),
        ("activity", "charge", True, False, False),
        ("signal", "signal -2", True, False, False),
        ("sleep", "sleep", True, False, False),
    ]


@pytest.mark.parametrize("requests", [499, 500, 2500, 10_000])
def test_q3_a_long_history_is_folded(requests: int) -> None:
    """Q3: above 1,000 events the newest rows are shown, the open ones, and the fold you open."""
    events = [event(1, CREATED, "", 0)]
    for n in range(requests):
        events.append(event(2 * n + 2, ASKED, f"a/{n}", n))
        if n != 150 or requests < 500:
            events.append(event(2 * n + 3, GIVEN, f"a/{n}", n + 0.5))
    rows = timeline.rows(events)
    shown = timeline.fold(rows, len(events))
    folds = [each for each in shown if isinstance(each, timeline.Fold)]
    every = [r for e in shown for r in (e.rows if isinstance(e, timeline.Fold) else [e])]
    assert sorted(row.id for row in every) == [row.id for row in rows]
    if len(events) <= 1000:
        assert not folds
        return
    assert len(shown) < 320
    assert [row.id for row in shown if isinstance(row, timeline.Row) and row.open] == [302]
    assert shown[-1] is rows[-1]
    opened = timeline.fold(rows, len(events), folds[0].number)
    assert len(opened) == len(shown) - 1 + len(folds[0].rows)
    assert isinstance(opened[0], timeline.Row)


def test_q3_many_open_requests_are_folded_too() -> None:
    """Q3: a fan of 5,000 is not drawn in full."""
    events = [event(n + 1, ASKED, f"a/{n}", n) for n in range(5000)]
    assert len(timeline.fold(timeline.rows(events), 5000)) < 320


# Words.


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-1, "0 ms"),
        (0.012, "12 ms"),
        (0.9996, "1.0 s"),
        (59.96, "1 min"),
        (3599, "59 min 59 s"),
        (7260, "2 h 1 min"),
        (10**6, "11 d 13 h"),
    ],
)
def test_q3_a_duration_has_at_most_two_units(seconds: float, words: str) -> None:
    """Q3: it is short enough for a row."""
    assert timeline.duration(timedelta(seconds=seconds)) == words


@pytest.mark.parametrize(
    ("attempts", "next_at", "until", "words"),
    [
        (2, at(18), None, "attempt 3, again in 8 s"),
        (2, at(10.001), None, "attempt 3, again in 1 s"),
        (2, at(9), None, "attempt 3, now"),
        (2, None, None, "attempt 3, now"),
        (0, None, at(100), "1 min 30 s left"),
        (0, None, at(9), "due"),
        (0, None, None, "open 10 s"),
    ],
)
def test_q3_an_open_row_says_what_it_waits_for(
    attempts: int, next_at: datetime | None, until: datetime | None, words: str
) -> None:
    """Q3: as the brief has it: attempt 3, again in 8 s."""
    waits = Waiting("activity", "a", at(0), until, attempts, "", next_at, "k")
    assert timeline.wait(waits, at(10)) == words


def test_q3_all_who_answer_a_wait_send_one_signal() -> None:
    """Q3: two people who press the button at once approve once, and the next wait is another."""
    first = page._once("a/b/c/0/replay_signal/1:0")
    assert first == page._once("a/b/c/0/replay_signal/1:0") != page._once("a/b/c/0/x/1:1")


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"a": [1, "ü"]}, '{"a": [1, "ü"]}'),
        (10**18 + 1, "1000000000000000001"),
        (Int(value=3), '{"@type": "example.Int", "value": "3"}'),
        (StringValue(value="x"), '{"@type": "google.protobuf.StringValue", "value": "x"}'),
        (None, "null"),
    ],
)
def test_q3_a_message_is_shown_as_json(value: object, words: str) -> None:
    """Q3: plain values as they are, protobuf messages with the names of their fields."""
    assert readable(event(1, CREATED, "", 0, value).raw, 0) == words


def test_q3_a_message_that_cannot_be_read_says_why() -> None:
    """Q3: a damaged message, or one of a type that is not imported; the page is there anyway."""
    foreign = any_pb2.Any(type_url="x/app.Unknown", value=b"\x08\x07").SerializeToString()
    assert readable(foreign, 0) == '{"@type": "app.Unknown", "1": 7}'
    assert "damaged" in page.message(b"\xff<b>")
    assert "(4 bytes)" in page.message(b"\xff<b>")


def test_q3_what_is_long_is_cut_and_says_so() -> None:
    """Q3: a message of 4 MiB does not become a page of 4 MiB."""
    assert page.clipped("x" * 200) == "x" * 160 + "… 40 more characters"
    assert len(page.message(event(1, CREATED, "", 0, "y" * 500_000).raw)) < 100_100


def test_q3_an_address_leads_back_to_the_same_names() -> None:
    """Q3: names hold anything but slashes and control characters."""
    assert page.run_address("a b", "ü?#", "%2F&") == "/run/a%20b/%C3%BC%3F%23/%252F%26"
    chosen = Filter("shop", "order", "failed", "1d", 7)
    assert chosen.address(after=0) == "/?q=shop%2Forder&status=failed&since=1d"
    assert RUN[0] in page.run_address(*RUN)
