"""The page: what a log holds, as HTML.

Role: each function takes data, as `Client` returns it, and makes the text of a page.  None of them
reads or writes anything, so tests compare what they return.

The page works without scripts.  `static/page.js` only keeps it up to date.

Left to `ui`: asking the client, and speaking HTTP.  Left to `timeline`: the picture of a run.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, urlencode

from google.protobuf import json_format
from google.protobuf.message import Message

from ..query import (
    STATUSES,
    ConsumerInfo,
    ParkedInfo,
    RunDescription,
    RunInfo,
    Waiting,
)
from ..storage.database import Error
from ..storage.event import Event, UnknownMessageType
from . import timeline
from .markup import Content, Markup, tag
from .messages import described
from .timeline import Fold, Picture, Row

#: The longest message that is shown, and the longest in one line of a table, in characters.
LONGEST, ONE_LINE = 100_000, 160
#: The choices of "started": the word in the address, and in words.
SINCE = {"": "at any time", "1h": "in the last hour", "1d": "in the last day", "7d": "in 7 days"}
_GLYPHS = {
    "running": "▶",
    "waiting": "◷",
    "parked": "⚠",
    "completed": "✓",
    "failed": "✕",
    "cancelled": "⊘",
}
_MENU = (("runs", "/", "Runs"), ("consumers", "/consumers", "Consumers"), ("log", "/log", "Log"))
#: The sentence of a page after an action, by the word in the address.
DONE = {
    "cancelled": "The cancel is recorded. The run sees it at its next wait.",
    "not-cancelled": "There was nothing to cancel: the run has ended or was cancelled before.",
    "signalled": "The signal is sent.",
    "sent-before": "A signal of this type and id was sent before. Nothing was added.",
    "retried": "The next attempt is due now.",
    "not-retried": "There was nothing to retry.",
    "started": "The run is started.",
    "started-before": "A run of this name was started before. Nothing was added.",
}


@dataclass(frozen=True, slots=True)
class Frame:
    """The frame of every page."""

    #: The log in words, without a password.
    log: str
    #: The secret that makes a form accepted; None if the page is for reading only.
    token: str | None = None
    #: A key of `DONE`.
    done: str = ""


@dataclass(frozen=True, slots=True)
class Filter:
    """The choice of runs that are listed."""

    namespace: str = ""
    workflow: str = ""
    status: str = ""
    #: A key of `SINCE`.
    since: str = ""
    #: The id of the last run of the page before.
    after: int = 0

    @property
    def place(self) -> str:
        """The namespace and the workflow, as they are typed."""
        return "/".join(each for each in (self.namespace, self.workflow) if each)

    def address(self, **changes: object) -> str:
        """Return the address of this list with some changes."""
        values = {
            "q": self.place,
            "status": self.status,
            "since": self.since,
            "after": self.after,
        } | changes
        return _address("/", **values)


@dataclass(frozen=True, slots=True)
class RunView:
    """A run, as its page shows it."""

    run: RunDescription
    events: Sequence[Event]
    #: The iteration that is shown; None for all.
    iteration: int | None
    #: The lowest cursor of the workflow's consumers; None if there are none.
    handled: int | None
    #: The id of an event; the messages of its row are shown.  0 for none.
    chosen: int = 0
    #: The fold that is open.
    opened: int | None = None
    #: Whether there are more events than those.
    cut: bool = False


def _address(path: str, **query: object) -> str:
    given = {key: value for key, value in query.items() if value not in ("", 0, None)}
    return f"{path}?{urlencode(given)}" if given else path


def run_address(namespace: str, workflow: str, run: str, **query: object) -> str:
    """Return the address of a run's page."""
    return _address(
        "/run/" + "/".join(quote(each, safe="") for each in (namespace, workflow, run)), **query
    )


# Values.


def readable(value: Any) -> Any:
    """Return a value as what JSON can hold."""
    if not isinstance(value, Message):
        return value
    try:
        return {
            "@type": value.DESCRIPTOR.full_name,
            **json_format.MessageToDict(value, preserving_proto_field_name=True),
        }
    except (TypeError, ValueError, json_format.Error):  # an Any of a type that is not imported
        return str(value)


def as_json(value: Any, indent: int | None = 2) -> str:
    """Return a value as JSON."""
    return json.dumps(readable(value), indent=indent, ensure_ascii=False, default=str)


def value_of(event: Event) -> Any:
    """Return an event's message as what JSON can hold.

    Of a type that this process does not know these are its fields by number.  A message that cannot
    be read is a text that says why.
    """
    try:
        return readable(event.message)
    except UnknownMessageType:
        found = described(event.content())
        return {"@type": found["message_type"], **(found["message"] or {})}
    except Error as error:
        return f"{error} ({len(event.raw or b''):,} bytes)"


def message(event: Event) -> str:
    """Return an event's message as JSON."""
    return clipped(as_json(value_of(event)), LONGEST)


def clipped(words: str, most: int = ONE_LINE) -> str:
    """Return the beginning of a text, and how much is missing."""
    if len(words) <= most:
        return words
    return f"{words[:most]}… {len(words) - most:,} more characters"


def moment(at: datetime, *, exact: bool = False) -> Markup:
    """Return a time in UTC, to the second or the millisecond."""
    at = at.astimezone(UTC)
    words = at.strftime("%Y-%m-%d %H:%M:%S") + (f".{at.microsecond // 1000:03}" if exact else "")
    return tag("time", words, datetime=at.isoformat(), title="UTC")


# Parts.


def document(frame: Frame, here: str, title: str, *content: Content) -> str:
    """Return a page with its head and its menu."""
    links = [
        tag("a", words, href=address, aria_current="page" if name == here else None)
        for name, address, words in _MENU
    ]
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", f"{title} · replay"),
        tag("link", rel="icon", href="/icon.svg", type="image/svg+xml"),
        tag("link", rel="stylesheet", href="/page.css"),
        tag("script", src="/page.js", defer=True),
    )
    header = tag(
        "header",
        tag("a", "replay", href="/", class_="brand"),
        tag("nav", links, aria_label="Main"),
        tag("span", tag("span", frame.log, class_="where"), " ", _access(frame), class_="log"),
    )
    note = tag("p", DONE[frame.done], class_="note", role="status") if frame.done in DONE else None
    offline = tag("p", "", id="offline", role="alert", hidden=True)
    skip = tag("a", "Skip to the content", href="#main", class_="skip")
    main = tag("main", note, content, id="main", tabindex="-1")
    body = tag("body", skip, header, offline, main)
    return "<!doctype html>\n" + tag("html", head, body, lang="en") + "\n"


def _access(frame: Frame) -> Markup:
    return tag("span", "read only" if frame.token is None else "can write", class_="access")


def chip(status: str) -> Markup:
    """Return a status: a word with its own shape and colour."""
    glyph = tag("span", _GLYPHS.get(status, "•"), aria_hidden="true")
    return tag("span", glyph, " ", status, class_=f"chip {status}")


def error_page(frame: Frame, title: str, problem: str) -> str:
    """Return a page that says what went wrong."""
    back = tag("p", tag("a", "Go to the list of runs", href="/"))
    return document(frame, "", title, tag("h1", title), tag("p", problem, class_="problem"), back)


def _form(frame: Frame, address: str, *content: Content, **attributes: object) -> Markup:
    """Return a form that writes."""
    secret = tag("input", type="hidden", name="token", value=frame.token)
    return tag("form", secret, content, method="post", action=address, **attributes)


def _table(name: str, heads: Sequence[str], rows: Sequence[Markup]) -> Markup:
    return tag(
        "table",
        tag("thead", tag("tr", [tag("th", head, scope="col") for head in heads])),
        tag("tbody", rows, id=name),
        class_=name,
    )


def _field(words: str, field: Markup) -> Markup:
    return tag("label", tag("span", words), field)


def _input(name: str, value: str = "", **attributes: object) -> Markup:
    return tag("input", name=name, value=value, autocomplete="off", **attributes)


# The list of runs.


def runs_page(
    frame: Frame,
    chosen: Filter,
    runs: Sequence[RunInfo],
    counts: Mapping[str, int],
    words: Mapping[int, str],
    now: datetime,
    more: bool,
) -> str:
    """Return the list of runs.

    `words` has what `last_words` says of each, by `RunInfo.id`; `more` says whether there are older
    runs than these.
    """
    rows = [_run_row(run, words.get(run.id, ""), now) for run in runs]
    heads = ("Run", "Status", "Started (UTC)", "Took", "Result or error")
    table = _table("runs", heads, rows)
    empty = tag("p", "There are no runs like this.", class_="empty")
    older = chosen.address(after=runs[-1].id) if runs and more else None
    pages = tag(
        "nav",
        tag("a", "← Newest", href=chosen.address(after=0)) if chosen.after else None,
        tag("a", "Older →", href=older, rel="next") if older else None,
        aria_label="Pages",
        class_="pages",
    )
    start = _start_form(frame, chosen) if frame.token is not None else None
    content = (_search(chosen), _tabs(chosen, counts), table if runs else empty, pages, start)
    return document(frame, "runs", "Runs", tag("h1", "Runs"), content)


def _search(chosen: Filter) -> Markup:
    since = [
        tag("option", words, value=key, selected=key == chosen.since)
        for key, words in SINCE.items()
    ]
    status = tag("input", type="hidden", name="status", value=chosen.status)
    hint = "namespace/workflow/run"
    return tag(
        "form",
        _field("Find", _input("q", chosen.place, type="search", placeholder=hint, id="find")),
        _field("Started", tag("select", since, name="since")),
        status if chosen.status else None,
        tag("button", "Show"),
        method="get",
        action="/",
        role="search",
        class_="search",
    )


def _tabs(chosen: Filter, counts: Mapping[str, int]) -> Markup:
    def tab(status: str, words: Content, count: int) -> Markup:
        here = "true" if status == chosen.status else None
        href = chosen.address(status=status, after=0)
        number = tag("b", f"{count:,}")
        return tag("a", words, " ", number, id=f"tab-{status}", href=href, aria_current=here)

    every = tab("", "all", sum(counts.get(status, 0) for status in STATUSES))
    each = [tab(status, chip(status), counts.get(status, 0)) for status in STATUSES]
    return tag("nav", every, each, aria_label="Status", class_="tabs")


def last_words(run: RunDescription) -> str:
    """Say what a run has returned, or what it waits for.  It changes only with the run's events."""
    if run.ended_at is not None:
        return "" if run.result is None else clipped(as_json(run.result, indent=None))
    some = [f"{each.kind} {each.name}".strip() for each in run.waiting_for[:3]]
    more = len(run.waiting_for) - len(some)
    if not some:
        return ""
    return clipped("waits for " + ", ".join(some) + (f" and {more} more" if more else ""))


def _run_row(run: RunInfo, words: str, now: datetime) -> Markup:
    names = (run.namespace, run.workflow, run.run)
    where = tag("span", f"{run.namespace} / {run.workflow}", class_="where")
    link = tag("a", run.run, href=run_address(*names))
    again = tag("span", f"iteration {run.iteration}", class_="where") if run.iteration else None
    took = timeline.duration((run.ended_at or now) - run.started_at) if run.ended_at else ""
    ending = run.error or words
    kind = "error" if run.error else "result" if run.ended_at else "wait"
    return tag(
        "tr",
        tag("td", tag("bdi", link), " ", where, " ", again, class_="name"),
        tag("td", chip(run.status)),
        tag("td", moment(run.started_at), class_="number"),
        tag("td", took, class_="number"),
        tag("td", tag("code", clipped(ending)) if ending else None, class_=kind),
        id=f"run-{run.id}",
    )


def _start_form(frame: Frame, chosen: Filter) -> Markup:
    fields = (
        _field("Namespace", _input("namespace", chosen.namespace, required=True)),
        _field("Workflow", _input("workflow", chosen.workflow, required=True)),
        _field("Run", _input("run", required=True)),
        _field("Message (JSON)", tag("textarea", "null", name="message", rows=2)),
        tag("button", "Start the run"),
    )
    form = _form(frame, "/start", fields)
    return tag("details", tag("summary", "Start a run"), form, id="start", class_="action")


# A run.


def run_page(frame: Frame, view: RunView, now: datetime) -> str:
    """Return the page of a run."""
    run = view.run
    names = (run.namespace, run.workflow, run.run)
    now = max([now, *(event.timestamp for event in view.events[-1:])])
    crumbs = tag(
        "p",
        tag("a", run.namespace, href=_address("/", q=run.namespace)),
        " / ",
        tag("a", run.workflow, href=_address("/", q=f"{run.namespace}/{run.workflow}")),
        class_="crumbs",
    )
    took = timeline.duration((run.ended_at or now) - run.started_at)
    facts = tag(
        "p",
        chip(run.status),
        tag("span", "started ", moment(run.started_at), " UTC"),
        tag("span", f"{'took' if run.ended_at else 'for'} {took}"),
        class_="facts",
    )
    content = (
        crumbs,
        tag("h1", tag("bdi", run.run)),
        facts,
        _ending(run, now),
        _waits(frame, run, now),
        _actions(frame, run),
        _history(view, now),
    )
    return document(frame, "run", "/".join(names), content)


def _ending(run: RunDescription, now: datetime) -> Content:
    """Return the result, the failure or the error that keeps a run from going on."""
    if run.error:
        words = {"parked": "Parked", "cancelled": "Cancelled"}.get(run.status, "Failed")
        again = ""
        if run.status == "parked":
            again = timeline.attempt(run.attempts, run.next_at, now)
        title = tag("h2", words, " ", tag("small", again))
        detail = getattr(run.failure, "detail", None)
        more = None if detail is None else tag("pre", clipped(as_json(detail), LONGEST))
        return tag("section", title, tag("pre", run.error), more, class_="problem", id="ending")
    if run.status == "completed" and run.result is not None:
        result = tag("pre", clipped(as_json(run.result), LONGEST))
        return tag("section", tag("h2", "Result"), result, class_="ending", id="ending")
    return None


def _waits(frame: Frame, run: RunDescription, now: datetime) -> Content:
    if not run.waiting_for:
        return None
    shown = run.waiting_for[:20]
    items = [_wait(frame, run, each, now) for each in shown]
    hidden = len(run.waiting_for) - len(shown)
    more = tag("p", f"and {hidden:,} more", class_="where") if hidden else None
    return tag(
        "section", tag("h2", "Waits for"), tag("ul", items, class_="waits"), more, id="waits"
    )


def _wait(frame: Frame, run: RunDescription, wait: Waiting, now: datetime) -> Markup:
    name = wait.name if wait.kind == "activity" else f"{wait.kind} {wait.name}".strip()
    until = (" · until ", moment(wait.until), " UTC") if wait.until else None
    facts = (tag("span", timeline.wait(wait, now), class_="state"), until)
    error = tag("pre", clipped(wait.error, 1000)) if wait.error else None
    form = None
    if frame.token is not None and wait.kind == "signal":
        form = _signal_form(frame, run, wait.name, _once(wait.key))
    mark = hashlib.sha256(wait.key.encode()).hexdigest()[:12]
    return tag(
        "li", tag("p", tag("b", name), " ", facts), error, form, class_=wait.kind, id=f"w-{mark}"
    )


def _once(key: str) -> str:
    """Return an external id for a wait: the same for all who answer it, so one answer counts."""
    return "page:" + hashlib.sha256(key.encode()).hexdigest()[:16]


def _signal_form(
    frame: Frame, run: RunDescription, type: str = "", external_id: str = ""
) -> Markup:
    """Return a form that sends a signal: of any type, or the answer to a wait."""
    address = run_address(run.namespace, run.workflow, run.run) + "/signal"
    message = _field("Message (JSON)", tag("textarea", "null", name="message", rows=2))
    if external_id:
        hidden = {"type": type, "external_id": external_id}
        fields = [tag("input", type="hidden", name=name, value=hidden[name]) for name in hidden]
        button = tag("button", f"Send signal {type}")
        return _form(frame, address, fields, message, button, class_="signal")
    number = _input("type", "1", type="number", min=-128, max=127, required=True)
    once = _input("external_id", f"page:{run.last_event_id}", maxlength=255)
    return _form(
        frame,
        address,
        _field("Type", number),
        message,
        _field("Id: the same one counts once", once),
        tag("button", "Send the signal"),
        class_="signal",
    )


def _actions(frame: Frame, run: RunDescription) -> Content:
    if frame.token is None or run.ended_at is not None:
        return None
    address = run_address(run.namespace, run.workflow, run.run)
    end = tag("input", type="checkbox", name="terminate", value="yes")
    cancel = _form(
        frame,
        address + "/cancel",
        _field("Reason", _input("reason", maxlength=1000)),
        tag("label", end, " without running its code any more", class_="check"),
        tag("button", "Cancel this run", class_="danger"),
    )
    signal = _signal_form(frame, run)
    retry = None
    if run.status == "parked" or any(each.attempts for each in run.waiting_for):
        retry = _form(frame, address + "/retry", tag("button", "Retry now"), id="retry")
    return tag(
        "section",
        retry,
        tag("details", tag("summary", "Send a signal"), signal, id="signal", class_="action"),
        tag("details", tag("summary", "Cancel"), cancel, id="cancel", class_="action"),
        class_="actions",
        id="actions",
    )


def _history(view: RunView, now: datetime) -> Markup:
    run = view.run
    names = (run.namespace, run.workflow, run.run)
    iteration = "all" if view.iteration is None else str(view.iteration)
    rows = timeline.rows(view.events)
    shown = timeline.fold(rows, len(view.events), view.opened)
    silences = timeline.silences(view.events, view.handled, now)

    def to_row(row: Row) -> str:
        fold = _number(view.opened)
        return run_address(*names, iteration=iteration, fold=fold, row=row.id) + "#messages"

    def to_fold(fold: Fold) -> str:
        return run_address(*names, iteration=iteration, fold=_number(fold.number), row=view.chosen)

    waiting = {each.key: each for each in run.waiting_for}
    picture = Picture(now, waiting, to_row, to_fold, view.chosen)
    chosen = next((row for row in rows if row.has(view.chosen)), None)
    limit = f"These are the first {len(view.events):,} events; there are more."
    return tag(
        "section",
        tag("h2", "Timeline ", tag("small", f"{len(view.events):,} events")),
        _iterations(view),
        tag("p", limit, class_="where") if view.cut else None,
        tag("div", timeline.draw(shown, silences, picture), class_="figure"),
        _messages(chosen, waiting, now),
        tag("details", tag("summary", "Legend"), timeline.legend(), id="legend"),
        id="history",
    )


def _number(number: int | None) -> str | None:
    """Return a number as text: as a number, 0 would be left out of an address."""
    return None if number is None else str(number)


def _iterations(view: RunView) -> Content:
    last = view.run.iteration
    if not last:
        return None
    names = (view.run.namespace, view.run.workflow, view.run.run)
    first = max(0, (last if view.iteration is None else view.iteration) - 4)
    numbers = sorted({0, *range(first, min(first + 9, last + 1)), last})
    links = [
        tag(
            "a",
            str(number),
            href=run_address(*names, iteration=str(number)),
            aria_current="true" if number == view.iteration else None,
        )
        for number in numbers
    ]
    every = tag(
        "a",
        "all",
        href=run_address(*names, iteration="all"),
        aria_current="true" if view.iteration is None else None,
    )
    return tag("nav", tag("span", "Iteration"), links, every, aria_label="Iteration", class_="tabs")


def _messages(row: Row | None, waiting: Mapping[str, Waiting], now: datetime) -> Markup:
    """Return the messages of a row as JSON, with the ids of its events."""
    if row is None:
        hint = tag("p", "Choose a row to see its messages.", class_="where")
        return tag("div", hint, id="messages")
    parts = [_event(event) for event in row.events]
    wait = waiting.get(row.events[0].text) if row.events else None
    error = tag("pre", clipped(wait.error, LONGEST)) if wait is not None and wait.error else None
    title = tag("h3", tag("bdi", row.name), " ", tag("small", timeline.state(row, wait, now)))
    return tag("div", title, error, parts, id="messages", tabindex="-1")


def _event(event: Event) -> Markup:
    kind = event.type.name.lower().replace("_", " ")
    facts = tag(
        "p",
        tag("b", kind),
        f" · event {event.id} · ",
        moment(event.timestamp, exact=True),
        " UTC",
        class_="event",
    )
    key = tag("p", tag("bdi", event.text), class_="where")
    return tag("section", facts, key, tag("pre", message(event)), id=f"event-{event.id}")


# Consumers and the log.


def consumers_page(
    frame: Frame, consumers: Sequence[ConsumerInfo], parked: Sequence[ParkedInfo], now: datetime
) -> str:
    """Return the consumers, and what they have parked."""
    heads = ("Consumer", "Owner", "Cursor", "Lag", "Parked")
    rows = [_consumer(each, now) for each in consumers]
    table = _table("consumers", heads, rows)
    empty = tag("p", "No consumer has run on this log.", class_="empty")
    section: Content = None
    if parked:
        items = [_parked(frame, each, now) for each in parked]
        section = tag("section", tag("h2", "Parked"), tag("ul", items, class_="waits"), id="parked")
    title = tag("h1", "Consumers")
    return document(frame, "consumers", "Consumers", title, table if rows else empty, section)


def _consumer(consumer: ConsumerInfo, now: datetime) -> Markup:
    gone = consumer.lease_until is not None and consumer.lease_until < now
    owner: Content = consumer.owner or tag("span", "nobody", class_="none")
    if consumer.owner and gone:
        owner = (consumer.owner, " ", tag("span", "lease is over", class_="none"))
    return tag(
        "tr",
        tag("td", tag("bdi", consumer.name), class_="name"),
        tag("td", owner),
        tag("td", f"{consumer.cursor:,}", class_="number"),
        tag("td", f"{consumer.lag:,}", class_="number"),
        tag("td", f"{consumer.parked:,}", class_="number error" if consumer.parked else "number"),
        id="c-" + hashlib.sha256(consumer.name.encode()).hexdigest()[:12],
    )


def _parked(frame: Frame, parked: ParkedInfo, now: datetime) -> Markup:
    names = (parked.namespace, parked.workflow, parked.run)
    state = timeline.attempt(parked.attempts, parked.next_at, now)
    retry = None
    if frame.token is not None:
        retry = _form(frame, run_address(*names) + "/retry", tag("button", "Retry now"))
    return tag(
        "li",
        tag(
            "p",
            tag("a", tag("bdi", parked.key), href=run_address(*names)),
            " ",
            tag("span", state, class_="state"),
        ),
        tag("pre", clipped(parked.error, 1000)) if parked.error else None,
        retry,
        id=f"parked-{parked.id}",
    )


def log_page(frame: Frame, events: Iterable[Event], chosen: Filter) -> str:
    """Return the newest events, newest first."""
    rows = [_logged(event) for event in events]
    heads = ("Id", "Time (UTC)", "Type", "Key")
    table = _table("events", heads, rows)
    hint = "namespace/workflow"
    search = tag(
        "form",
        _field("Find", _input("q", chosen.place, type="search", placeholder=hint)),
        tag("button", "Show"),
        method="get",
        action="/log",
        role="search",
        class_="search",
    )
    empty = tag("p", "The log has no such events.", class_="empty")
    return document(frame, "log", "Log", tag("h1", "Log"), search, table if rows else empty)


def _logged(event: Event) -> Markup:
    where = run_address(*event.key[:3], iteration=str(event.key.iteration), row=event.id)
    href = f"{where}#messages"
    kind = event.type.name.lower().replace("_", " ")
    return tag(
        "tr",
        tag("td", str(event.id), class_="number"),
        tag("td", moment(event.timestamp, exact=True), class_="number"),
        tag("td", kind, class_=f"type {event.type.name.lower()}"),
        tag("td", tag("a", tag("bdi", event.text), href=href), class_="name"),
        id=f"e-{event.id}",
    )
