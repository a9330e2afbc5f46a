"""The page: what a log holds, as HTML.

Role: each function takes data, as `Client` returns it, and makes the text of a page.  None of them
reads or writes anything, so tests compare what they return.

The page works without scripts.  `static/page.js` only keeps it up to date.

Left to `ui`: asking the client, and speaking HTTP.  Left to `timeline`: the picture of a run.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote, urlencode

from ..failure import RunFailed
from ..query import STATUSES, ConsumerInfo, ParkedInfo, RunDescription, RunInfo, Waiting
from ..storage.event import Event
from . import timeline
from .markup import Content, Markup, tag
from .messages import plain, readable
from .timeline import Fold, Picture, Row

#: The longest message that is shown, and the longest in one line of a table, in characters.
LONGEST, ONE_LINE = 100_000, 160
#: The choices of "started", by the word in the address: in words, and how long ago.
SINCE = {
    "": ("at any time", None),
    "1h": ("in the last hour", timedelta(hours=1)),
    "1d": ("in the last day", timedelta(days=1)),
    "7d": ("in 7 days", timedelta(days=7)),
}
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

    def address(self, **changes: Any) -> str:
        """Return the address of this list with some changes."""
        it = replace(self, **changes)
        return _address("/", q=it.place, status=it.status, since=it.since, after=it.after or "")


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
    given = {key: value for key, value in query.items() if value not in ("", None)}
    return f"{path}?{urlencode(given)}" if given else path


def run_address(namespace: str, workflow: str, run: str, **query: object) -> str:
    """Return the address of a run's page."""
    names = (quote(each, safe="") for each in (namespace, workflow, run))
    return _address("/run/" + "/".join(names), **query)


def _to(of: RunInfo | RunDescription | ParkedInfo, **query: object) -> str:
    return run_address(of.namespace, of.workflow, of.run, **query)


# Words.


def _kind(event: Event) -> str:
    return event.type.name.lower().replace("_", " ")


def _mark(text: str, length: int = 12) -> str:
    """Return what stands for a text where only a few characters are allowed."""
    return hashlib.sha256(text.encode()).hexdigest()[:length]


def message(raw: bytes | None) -> Markup:
    """Return a stored message as JSON."""
    return tag("pre", clipped(readable(raw), LONGEST))


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
    access = tag("span", "read only" if frame.token is None else "can write", class_="access")
    header = tag(
        "header",
        tag("a", "replay", href="/", class_="brand"),
        tag("nav", links, aria_label="Main"),
        tag("span", tag("span", frame.log, class_="where"), " ", access, class_="log"),
    )
    note = tag("p", DONE[frame.done], class_="note", role="status") if frame.done in DONE else None
    offline = tag("p", "", id="offline", role="alert", hidden=True)
    skip = tag("a", "Skip to the content", href="#main", class_="skip")
    main = tag("main", note, content, id="main", tabindex="-1")
    body = tag("body", skip, header, offline, main)
    return "<!doctype html>\n" + tag("html", head, body, lang="en") + "\n"


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


def _search(action: str, find: Markup, *more: Content) -> Markup:
    return tag(
        "form",
        _field("Find", find),
        more,
        tag("button", "Show"),
        method="get",
        action=action,
        role="search",
        class_="search",
    )


def _table(name: str, heads: Sequence[str], rows: Sequence[Markup], empty: str) -> Markup:
    """Return rows under their heads, or a sentence if there are none."""
    if not rows:
        return tag("p", empty, class_="empty")
    return tag(
        "table",
        tag("thead", tag("tr", [tag("th", head, scope="col") for head in heads])),
        tag("tbody", rows, id=name),
        class_=name,
    )


def _message_field() -> Markup:
    return _field("Message (JSON)", tag("textarea", "null", name="message", rows=2))


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
    more: bool,
) -> str:
    """Return the list of runs.

    `words` has what `last_words` says of each, by `RunInfo.id`; `more` says whether there are older
    runs than these.
    """
    rows = [_run_row(run, words.get(run.id, "")) for run in runs]
    heads = ("Run", "Status", "Started (UTC)", "Took", "Result or error")
    older = chosen.address(after=runs[-1].id) if runs and more else None
    pages = tag(
        "nav",
        tag("a", "← Newest", href=chosen.address(after=0)) if chosen.after else None,
        tag("a", "Older →", href=older, rel="next") if older else None,
        aria_label="Pages",
        class_="pages",
    )
    since = [
        tag("option", words, value=key, selected=key == chosen.since)
        for key, (words, _) in SINCE.items()
    ]
    status = tag("input", type="hidden", name="status", value=chosen.status)
    hint = "namespace/workflow/run"
    search = _search(
        "/",
        _input("q", chosen.place, type="search", placeholder=hint, id="find"),
        _field("Started", tag("select", since, name="since")),
        status if chosen.status else None,
    )
    return document(
        frame,
        "runs",
        "Runs",
        tag("h1", "Runs"),
        search,
        _tabs(chosen, counts),
        _table("runs", heads, rows, "There are no runs like this."),
        pages,
        _start_form(frame, chosen) if frame.token is not None else None,
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
        return "" if run.result is None else clipped(readable(run.result, 0))
    some = [f"{each.kind} {each.name}".strip() for each in run.waiting_for[:3]]
    more = len(run.waiting_for) - len(some)
    if not some:
        return ""
    return clipped("waits for " + ", ".join(some) + (f" and {more} more" if more else ""))


def _run_row(run: RunInfo, words: str) -> Markup:
    where = tag("span", f"{run.namespace} / {run.workflow}", class_="where")
    link = tag("a", run.run, href=_to(run))
    again = tag("span", f"iteration {run.iteration}", class_="where") if run.iteration else None
    took = timeline.duration(run.ended_at - run.started_at) if run.ended_at else ""
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
    form = _form(
        frame,
        "/start",
        _field("Namespace", _input("namespace", chosen.namespace, required=True)),
        _field("Workflow", _input("workflow", chosen.workflow, required=True)),
        _field("Run", _input("run", required=True)),
        _message_field(),
        tag("button", "Start the run"),
    )
    return tag("details", tag("summary", "Start a run"), form, id="start", class_="action")


# A run.


def run_page(frame: Frame, view: RunView, now: datetime) -> str:
    """Return the page of a run."""
    run = view.run
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
    return document(
        frame,
        "run",
        f"{run.namespace}/{run.workflow}/{run.run}",
        crumbs,
        tag("h1", tag("bdi", run.run)),
        facts,
        _ending(run, now),
        _waits(frame, run, now),
        _actions(frame, run),
        _history(view, now),
    )


def _ending(run: RunDescription, now: datetime) -> Content:
    """Return the result, the failure or the error that keeps a run from going on."""
    if run.error:
        words = {"parked": "Parked", "cancelled": "Cancelled"}.get(run.status, "Failed")
        again = ""
        if run.status == "parked":
            again = timeline.attempt(run.attempts, run.next_at, now)
        title = tag("h2", words, " ", tag("small", again))
        failure = run.failure.failure if isinstance(run.failure, RunFailed) else None
        detail = failure.detail.SerializeToString() if failure is not None else b""
        more = message(detail) if detail else None
        return tag("section", title, tag("pre", run.error), more, class_="problem", id="ending")
    if run.status == "completed" and run.result is not None:
        return tag(
            "section", tag("h2", "Result"), message(run.result), class_="ending", id="ending"
        )
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
    title = tag("p", tag("b", name), " ", facts)
    return tag("li", title, error, form, class_=wait.kind, id=f"w-{_mark(wait.key)}")


def _once(key: str) -> str:
    """Return an external id for a wait: the same for all who answer it, so one answer counts."""
    return f"page:{_mark(key, 16)}"


def _signal_form(
    frame: Frame, run: RunDescription, type: str = "", external_id: str = ""
) -> Markup:
    """Return a form that sends a signal: of any type, or the answer to a wait."""
    fields: list[Content]
    if external_id:
        hidden = {"type": type, "external_id": external_id}
        fields = [tag("input", type="hidden", name=name, value=hidden[name]) for name in hidden]
        fields += [_message_field(), tag("button", f"Send signal {type}")]
    else:
        number = _input("type", "1", type="number", min=-128, max=127, required=True)
        once = _input("external_id", f"page:{run.last_event_id}", maxlength=255)
        fields = [
            _field("Type", number),
            _message_field(),
            _field("Id: the same one counts once", once),
            tag("button", "Send the signal"),
        ]
    return _form(frame, _to(run) + "/signal", fields, class_="signal")


def _actions(frame: Frame, run: RunDescription) -> Content:
    if frame.token is None or run.ended_at is not None:
        return None
    end = tag("input", type="checkbox", name="terminate", value="yes")
    cancel = _form(
        frame,
        _to(run) + "/cancel",
        _field("Reason", _input("reason", maxlength=1000)),
        tag("label", end, " without running its code any more", class_="check"),
        tag("button", "Cancel this run", class_="danger"),
    )
    retry = None
    if run.status == "parked" or any(each.attempts for each in run.waiting_for):
        retry = _form(frame, _to(run) + "/retry", tag("button", "Retry now"), id="retry")
    signal = _signal_form(frame, run)
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
    iteration = "all" if view.iteration is None else view.iteration
    rows = timeline.rows(view.events)
    shown = timeline.fold(rows, len(view.events), view.opened)
    silences = timeline.silences(view.events, view.handled, now)

    def to_row(row: Row) -> str:
        return _to(run, iteration=iteration, fold=view.opened, row=row.id) + "#messages"

    def to_fold(fold: Fold) -> str:
        return _to(run, iteration=iteration, fold=fold.number, row=view.chosen or None)

    waiting = {each.key: each for each in run.waiting_for}
    picture = Picture(now, waiting, to_row, to_fold, view.chosen)
    chosen = next((row for row in rows if row.has(view.chosen)), None)
    limit = f"These are the first {len(view.events):,} events; there are more."
    return tag(
        "section",
        tag("h2", "Timeline ", tag("small", f"{len(view.events):,} events")),
        _iterations(run, iteration) if run.iteration else None,
        tag("p", limit, class_="where") if view.cut else None,
        tag("div", timeline.draw(shown, silences, picture), class_="figure"),
        _messages(chosen, waiting, now),
        tag("details", tag("summary", "Legend"), timeline.legend(), id="legend"),
        id="history",
    )


def _iterations(run: RunDescription, shown: int | str) -> Markup:
    """Return links to the iterations near the one that is shown, and to all together."""
    last = run.iteration
    first = max(0, (shown if isinstance(shown, int) else last) - 4)
    numbers = sorted({0, *range(first, min(first + 9, last + 1)), last})
    links = [
        tag(
            "a",
            str(each),
            href=_to(run, iteration=each),
            aria_current="true" if each == shown else None,
        )
        for each in (*numbers, "all")
    ]
    return tag("nav", tag("span", "Iteration"), links, aria_label="Iteration", class_="tabs")


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
    facts = tag(
        "p",
        tag("b", _kind(event)),
        f" · event {event.id} · ",
        moment(event.timestamp, exact=True),
        " UTC",
        class_="event",
    )
    key = tag("p", tag("bdi", event.text), class_="where")
    return tag("section", facts, key, message(plain(event)), id=f"event-{event.id}")


# Consumers and the log.


def consumers_page(
    frame: Frame, consumers: Sequence[ConsumerInfo], parked: Sequence[ParkedInfo], now: datetime
) -> str:
    """Return the consumers, and what they have parked."""
    heads = ("Consumer", "Owner", "Cursor", "Lag", "Parked")
    rows = [_consumer(each, now) for each in consumers]
    table = _table("consumers", heads, rows, "No consumer has run on this log.")
    section: Content = None
    if parked:
        items = [_parked(frame, each, now) for each in parked]
        section = tag("section", tag("h2", "Parked"), tag("ul", items, class_="waits"), id="parked")
    title = tag("h1", "Consumers")
    return document(frame, "consumers", "Consumers", title, table, section)


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
        id=f"c-{_mark(consumer.name)}",
    )


def _parked(frame: Frame, parked: ParkedInfo, now: datetime) -> Markup:
    state = tag("span", timeline.attempt(parked.attempts, parked.next_at, now), class_="state")
    retry = None
    if frame.token is not None:
        retry = _form(frame, _to(parked) + "/retry", tag("button", "Retry now"))
    return tag(
        "li",
        tag("p", tag("a", tag("bdi", parked.key), href=_to(parked)), " ", state),
        tag("pre", clipped(parked.error, 1000)) if parked.error else None,
        retry,
        id=f"parked-{parked.id}",
    )


def log_page(frame: Frame, events: Iterable[Event], chosen: Filter) -> str:
    """Return the newest events, newest first."""
    heads = ("Id", "Time (UTC)", "Type", "Key")
    rows = [_logged(event) for event in events]
    table = _table("events", heads, rows, "The log has no such events.")
    hint = "namespace/workflow"
    search = _search("/log", _input("q", chosen.place, type="search", placeholder=hint))
    return document(frame, "log", "Log", tag("h1", "Log"), search, table)


def _logged(event: Event) -> Markup:
    where = run_address(*event.key[:3], iteration=event.key.iteration, row=event.id)
    return tag(
        "tr",
        tag("td", str(event.id), class_="number"),
        tag("td", moment(event.timestamp, exact=True), class_="number"),
        tag("td", _kind(event), class_=f"type {event.type.name.lower()}"),
        tag("td", tag("a", tag("bdi", event.text), href=f"{where}#messages"), class_="name"),
        id=f"e-{event.id}",
    )
