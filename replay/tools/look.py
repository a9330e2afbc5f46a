"""The commands that look at a log: `runs`, `show`, `parked`, `consumers` and `tail`.

Invariant: long lists are read and printed page by page, so the first rows come at once.

Left to `act`: the commands that change something.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from ..client import Client, Closed
from ..failure import RunFailed
from ..projection import CANCELLED, COMPLETED, FAILED
from ..query import (
    STATUSES,
    UNFINISHED,
    ConsumerInfo,
    ParkedInfo,
    RunDescription,
    RunInfo,
    Waiting,
)
from ..storage.database import earlier
from ..storage.event import Event, EventType
from .console import (
    BadArgument,
    Commands,
    Pages,
    age,
    cells,
    fields,
    moment,
    note,
    on_log,
    opened,
    place,
    print_json,
    run,
    shortened,
    table,
    visible,
    width,
    word,
)
from .messages import described, of_failure, plain, shown

_NAMES = {
    EventType.RUN_CREATED: "created",
    EventType.RUN_COMPLETED: "completed",
    EventType.RUN_OUTPUT: "output",
    EventType.ACTIVITY_REQUEST: "request",
    EventType.ACTIVITY_RESPONSE: "response",
}


def add_parsers(commands: Commands) -> None:
    """Add the commands of this module."""
    _add_runs(commands)
    _add_show(commands)
    parser = commands.add_parser(
        "parked",
        parents=[on_log()],
        help="list what consumers have parked",
        description="List the events that consumers could not handle, and will try again.  A run"
        " that is parked waits for its code to be mended; a request of an activity has failed, or"
        " is executed just now.  `replay retry` makes them due at once.  " + _json(ParkedInfo),
    )
    _add_place(parser, "of this namespace, workflow or run")
    _add_limit(parser)
    parser.set_defaults(call=_parked)
    parser = commands.add_parser(
        "consumers",
        parents=[on_log()],
        help="list the consumers, or remove one",
        description="List the consumers: workflows, activities, sleeps, signals and your own"
        " handlers, how far each has read, and who owns it.  " + _json(ConsumerInfo),
    )
    parser.add_argument(
        "--remove",
        metavar="NAME",
        help="forget a consumer that will never come back, after saying how far behind it is: if"
        " it comes back all the same, it reads the log from the beginning",
    )
    parser.set_defaults(call=_consumers)
    parser = commands.add_parser(
        "tail",
        parents=[on_log(messages=True)],
        help="print events as they come",
        description="Print the events of a log, from its end, and go on until you press Ctrl-C."
        "  In JSON each event is an object as `replay show` prints it.",
    )
    _add_place(parser, "of this namespace, workflow or run")
    parser.add_argument(
        "--after", type=int, metavar="ID", help="begin after this event; 0 is the log's beginning"
    )
    parser.add_argument("--to-head", action="store_true", help="stop at the newest event")
    parser.set_defaults(call=_tail)


def _add_runs(commands: Commands) -> None:
    parser = commands.add_parser(
        "runs",
        parents=[on_log()],
        help="list runs, newest first",
        description="List runs, newest first.  " + _json(RunInfo),
    )
    _add_place(parser, "of this namespace or workflow", most=2)
    parser.add_argument(
        "--status",
        action="append",
        choices=(*STATUSES, "unfinished"),
        help="only runs of this status; repeatable.  A waiting run waits for nothing but sleeps"
        " and signals; unfinished are those that are running, waiting or parked",
    )
    parser.add_argument(
        "--since",
        metavar="TIME",
        help="only runs that began in this time, such as 30m, 12h or 7d, or since a time such as"
        " 2029-01-31T12:00, in UTC unless it says otherwise",
    )
    _add_limit(parser)
    parser.add_argument(
        "--count", action="store_true", help="print how many runs there are of each status"
    )
    parser.set_defaults(call=_runs)


def _add_show(commands: Commands) -> None:
    parser = commands.add_parser(
        "show",
        parents=[on_log(messages=True)],
        help="show a run: its state, what it waits for, its events",
        description="Show a run: its state, what it waits for, and its events.  In JSON the first"
        f" line is the state ({', '.join(RunDescription.__dataclass_fields__)}), and each further"
        " line an event: `id`, `time`, `type`, the parts of its key, and its message as JSON in"
        " `message`.  A message whose type is not imported is shown by the numbers of its fields.",
    )
    parser.add_argument("run", metavar="NAMESPACE/WORKFLOW/RUN", help="the run")
    parser.add_argument(
        "--iteration", type=int, metavar="N", help="only the events of this iteration, from 0 on"
    )
    parser.add_argument(
        "--follow",
        action="store_true",
        help="go on with events as they come, until the run ends; the exit code is 1 if it fails",
    )
    parser.set_defaults(call=_show)


def _json(record: Any) -> str:
    return f"In JSON each line has the fields {', '.join(record.__dataclass_fields__)}."


def _add_place(parser: argparse.ArgumentParser, help: str, most: int = 3) -> None:
    form = "NAMESPACE[/WORKFLOW[/RUN]]" if most == 3 else "NAMESPACE[/WORKFLOW]"
    parser.add_argument("place", nargs="?", metavar=form, help=f"only those {help}")


def _add_limit(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--limit", type=int, default=50, metavar="N", help="0 for all (default: %(default)s)"
    )


def _place(args: argparse.Namespace, most: int = 3) -> list[str]:
    return place(args.place, most) if args.place is not None else []


def _limit(args: argparse.Namespace) -> int:
    if args.limit < 0:
        raise BadArgument(f"--limit {args.limit}: expected 0 or more")
    return int(args.limit)


# Runs.

_RUNS = ("RUN", "STATUS", "ITERATION", "STARTED (UTC)", "ENDED", "ERROR")


def _run_row(each: RunInfo) -> tuple[str, ...]:
    times = moment(each.started_at), moment(each.ended_at)
    return (_name(each), each.status, str(each.iteration), *times, visible(each.error))


def _runs(args: argparse.Namespace) -> int:
    names, limit = _place(args, 2), _limit(args)
    with opened(args) as client:
        if args.count:
            return _count(args, client, names)
        since = None if args.since is None else _since(args.since, client.log.now())

        def ask(size: int, after: Any) -> list[RunInfo]:
            return client.runs(
                *names, status=_statuses(args), started_after=since, limit=size, after=after
            )

        _print(args, _RUNS, Pages(ask, limit), _run_row)
    return 0


def _count(args: argparse.Namespace, client: Client, names: list[str]) -> int:
    found = client.count(*names)
    counts = {status: found.get(status, 0) for status in STATUSES}
    if args.json:
        print_json(counts)
    else:
        table(("STATUS", "RUNS"), ((status, str(count)) for status, count in counts.items()))
    return 0


def _statuses(args: argparse.Namespace) -> frozenset[str] | None:
    if args.status is None:
        return None
    asked = set(args.status)
    return frozenset(asked - {"unfinished"} | set(UNFINISHED if "unfinished" in asked else ()))


def _since(text: str, now: datetime) -> datetime:
    """Read how long ago, or when."""
    if (ago := age(text)) is not None:
        return earlier(now, ago)
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise BadArgument(f"--since {text}: expected 30m, 12h, 7d or 2029-01-31T12:00") from None
    return time if time.tzinfo is not None else time.replace(tzinfo=UTC)


def _name(of: Any) -> str:
    return word(f"{of.namespace}/{of.workflow}/{of.run}")


def _print(
    args: argparse.Namespace,
    titles: Sequence[str],
    records: Iterable[Any],
    row: Callable[[Any], Sequence[str]],
) -> None:
    """Print records: as JSON, or as rows under titles."""
    if args.json:
        for record in records:
            print_json(fields(record))
    elif not table(titles, map(row, records)):
        note("there are none")
    if isinstance(records, Pages) and records.more:
        sys.stdout.flush()
        note(f"there are more than these {records.limit}: --limit 0 shows all")


# One run.


def _show(args: argparse.Namespace) -> int:
    names = run(args.run)
    if args.iteration is not None and args.iteration < 0:
        raise BadArgument(f"--iteration {args.iteration}: expected 0 or more")
    with opened(args) as client:
        # From before the history on, so that nothing is missing between the two.
        live = client.stream(*names, from_head=True) if args.follow else iter(())
        _print_state(args, _state(client, names))
        last = _print_events(args, client.history(*names, args.iteration))
        if not args.follow:
            return 0
        if (state := _state(client, names)).ended_at is not None:
            # It may have ended while its history was printed.
            _print_events(args, client.history(*names, args.iteration), last)
        else:
            state = _follow(args, client, names, live, last)
        return 1 if state.status in (FAILED, CANCELLED) else 0


def _state(client: Client, names: tuple[str, str, str]) -> RunDescription:
    """Describe a run.  Its result stays as it is stored: its type may not be imported."""
    return client.queries(names[0]).describe(*names, plain)


def _follow(
    args: argparse.Namespace,
    client: Client,
    names: tuple[str, str, str],
    live: Iterator[Event],
    last: int,
) -> RunDescription:
    """Print events with ids above `last` until the run has ended; return its state then."""
    for event in live:
        if event.id > last and args.iteration in (None, event.key.iteration):
            _print_event(args, event, flush=True)
        if event.type is EventType.RUN_COMPLETED:  # of the last iteration, or of another
            state = _state(client, names)
            if state.ended_at is not None and state.iteration == event.key.iteration:
                return state
    raise Closed("the client was closed")


def _print_events(args: argparse.Namespace, events: Iterator[Event], last: int = 0) -> int:
    """Print events with ids above `last`; return the id of the last one."""
    for event in events:
        if event.id > last:
            _print_event(args, event)
            last = event.id
    sys.stdout.flush()
    return last


def _print_event(args: argparse.Namespace, event: Event, *, flush: bool = False) -> None:
    if args.json:
        print_json(_event(event), flush=flush)
    else:
        print(_line(event), flush=flush)


def _line(event: Event) -> str:
    """An event for people.  On a terminal its message is cut to the width."""
    what = f"{moment(event.timestamp)}  {_NAMES[event.type]:<9}  {word(event.text)}"
    start, limit = f"{event.id:>8}  {what}  ", width()
    message = shortened(shown(plain(event)), limit and max(12, limit - cells(start)))
    return (start + message).rstrip()


def _event(event: Event) -> dict[str, Any]:
    """An event for programs."""
    return {
        "id": event.id,
        "time": event.timestamp,
        "type": _NAMES[event.type],
        **event.key._asdict(),
        **described(plain(event)),
    }


def _print_state(args: argparse.Namespace, state: RunDescription) -> None:
    failure = state.failure.failure if isinstance(state.failure, RunFailed) else None
    if args.json:
        print_json(
            fields(
                state,
                result=None if state.status != COMPLETED else described(state.result),
                failure=failure and of_failure(failure),
                waiting_for=[fields(each) for each in state.waiting_for],
            ),
            flush=True,
        )
        return
    facts = {
        "run": _name(state),
        "status": state.status + (f", iteration {state.iteration}" if state.iteration else ""),
        "started": moment(state.started_at),
        "ended": moment(state.ended_at) if state.ended_at else "",
        "result": shown(state.result),
        "error": visible(state.error),
        "detail": shown(failure.detail.SerializeToString()) if failure is not None else "",
        "next try": f"{moment(state.next_at)}, after {state.attempts}" if state.next_at else "",
    }
    for name, fact in facts.items():
        if fact:
            print(f"{name:<8}  {fact}")
    if state.waiting_for:
        print("waits for")
        titles = ("KIND", "NAME", "SINCE (UTC)", "UNTIL", "ATTEMPTS", "NEXT TRY", "ERROR")
        table(titles, map(_waiting, state.waiting_for), indent="  ")
    print("events", flush=True)


def _waiting(each: Waiting) -> tuple[str, ...]:
    return (
        each.kind,
        word(each.name) if each.name else "-",
        moment(each.since),
        moment(each.until),
        str(each.attempts),
        moment(each.next_at),
        visible(each.error),
    )


# Consumers.

_PARKED = ("CONSUMER", "EVENT", "KEY", "ATTEMPTS", "NEXT TRY (UTC)", "ERROR")
_CONSUMERS = ("CONSUMER", "CURSOR", "LAG", "PARKED", "LEASE UNTIL (UTC)", "OWNER")


def _parked_row(each: ParkedInfo) -> tuple[str, ...]:
    numbers = str(each.attempts), moment(each.next_at)
    where = word(each.consumer), str(each.event_id), word(each.key)
    return (*where, *numbers, visible(each.error))


def _consumer_row(each: ConsumerInfo) -> tuple[str, ...]:
    numbers = str(each.cursor), str(each.lag), str(each.parked)
    owner = visible(each.owner) or "-"
    return (word(each.name), *numbers, moment(each.lease_until), owner)


def _parked(args: argparse.Namespace) -> int:
    names, limit = _place(args), _limit(args)
    with opened(args) as client:

        def ask(size: int, after: Any) -> list[ParkedInfo]:
            return client.parked(*names, limit=size, after=after)

        _print(args, _PARKED, Pages(ask, limit), _parked_row)
    return 0


def _consumers(args: argparse.Namespace) -> int:
    with opened(args) as client:
        if args.remove is not None:
            return _remove(args, client)
        _print(args, _CONSUMERS, client.consumers(), _consumer_row)
    return 0


def _remove(args: argparse.Namespace, client: Client) -> int:
    found = next((each for each in client.consumers() if each.name == args.remove), None)
    if found is None:
        note(f"there is no consumer {visible(args.remove)}")
        return 1
    if found.owner:
        note(f"{visible(found.owner)} owns {word(found.name)}: stop it first")
        return 1
    note(
        f"{word(found.name)} is {found.lag} events behind, at event {found.cursor}, and has parked"
        f" {found.parked}"
    )
    client.forget_consumer(found.name)
    if args.json:
        print_json(fields(found))
    else:
        print(f"removed {word(found.name)}")
    return 0


def _tail(args: argparse.Namespace) -> int:
    names = _place(args)
    if args.after is not None and args.after < 0:
        raise BadArgument(f"--after {args.after}: expected 0 or more")
    with opened(args) as client:
        events = client.stream(
            *names, after=args.after or 0, from_head=args.after is None, to_head=args.to_head
        )
        for event in events:
            _print_event(args, event, flush=True)
    return 0
