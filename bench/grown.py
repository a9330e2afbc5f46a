"""Grown: queries on a log of a million runs, and what the table of runs costs in steps/s."""

import statistics
import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime

import replay
from bench import raw, work
from bench.backends import Backend
from bench.rows import Row, Sizes, at_least, at_most, median_ms, plain, wait_for
from bench.steps import many_runs
from replay.query import UNFINISHED

TABLE = "replay_runs"
_TURNS = 15  # of each query


def grown(backend: Backend, sizes: Sizes) -> list[Row]:
    """Queries on a large log, which SQL fills, and the library's own table of its runs."""
    with backend.fresh() as url:
        with replay.connect(url):
            pass  # makes the tables
        with closing(raw.Raw(url)) as database:
            fill(database, sizes.finished, sizes.open)
        with replay.connect(url, loops=False) as client, closing(raw.Raw(url)) as probe:
            seconds = tabulate(client, probe)
            found = asked(client, sizes)
    runs = sizes.finished + sizes.open
    rate = runs / seconds
    made = plain("the table of runs, made from event 1", rate, "runs/s", ",.0f")
    return [*found, made, *cost(backend, sizes)]


def fill(database: raw.Raw, finished: int, open: int) -> None:
    """Add runs of two events, of which a few, spread over the log, wait in place of their end."""
    total = finished + open
    every = total // open
    database.rows("CREATE TABLE bench_numbers (n INTEGER PRIMARY KEY)")
    digits = "(SELECT 0 AS d" + "".join(f" UNION SELECT {n}" for n in range(1, 10)) + ")"
    names = "abcdefg"[: len(str(total - 1))]
    number = " + ".join(f"{each}.d * {10**place}" for place, each in enumerate(names))
    tables = ", ".join(f"{digits} {each}" for each in names)
    with database.transaction():
        database.rows(
            f"INSERT INTO bench_numbers SELECT {number} FROM {tables} WHERE {number} < {total}"
        )
    run = text(database, f"'{work.NAMESPACE}/grown/'", "n", "'/0'")
    name = text(database, "n", "''")
    asleep, waits = text(database, run, "'/replay_sleep/0'"), text(database, run, "'/act/0'")
    row = f"'{work.NAMESPACE}', 'grown', {name}, 0"
    second = (
        f"CASE n % {2 * every} WHEN 0 THEN {waits} WHEN {every} THEN {asleep} ELSE {run} END,"
        f" {row}, CASE n % {every} WHEN 0 THEN 4 ELSE 2 END, '2030-01-01 00:00:01.000', NULL"
    )
    for first in range(0, total, 50_000):
        some = f"FROM bench_numbers WHERE n >= {first} AND n < {first + 50_000}"
        insert = f"INSERT INTO replay_events (id, {raw.EVENT}) SELECT"
        with database.transaction():
            database.rows(
                f"{insert} 2 * n + 1, {run}, {row}, 1, '2030-01-01 00:00:00.000', NULL {some}"
            )
            database.rows(f"{insert} 2 * n + 2, {second} {some}")
    database.rows("DROP TABLE bench_numbers")


def text(database: raw.Raw, *parts: str) -> str:
    """The expression that joins texts."""
    return f"({' || '.join(parts)})" if database.sqlite else f"CONCAT({', '.join(parts)})"


def tabulate(client: replay.Client, probe: raw.Raw) -> float:
    """Have the table made from event 1.  Returns the seconds that it takes."""
    (projection,) = (loop for loop in client.loops() if loop.name == TABLE)
    [(newest,)] = probe.rows("SELECT MAX(id) FROM replay_events")
    query = "SELECT COUNT(*) FROM replay_cursors WHERE id = ? AND last_event_id >= ?"
    begin = time.perf_counter()
    projection.start()
    wait_for("the table of runs", lambda: probe.rows(query, TABLE, newest - 1000)[0][0] == 1, 3600)
    seconds = time.perf_counter() - begin
    projection.stop()
    return seconds


def asked(client: replay.Client, sizes: Sizes) -> list[Row]:
    """How long queries take."""
    space = work.NAMESPACE
    last = str(sizes.finished)
    limit = min(1000, sizes.open)
    since = datetime(2029, 1, 1, tzinfo=UTC)

    def stream() -> None:
        assert len(list(client.stream(space, "grown", last, to_head=True))) == 2

    def every_open() -> None:
        assert len(client.runs(space, status=UNFINISHED, limit=limit)) == limit

    asks: list[tuple[str, float, Callable[[], object]]] = [
        ("the newest 50 runs", 50, lambda: client.runs()),
        ("the newest 50 of a workflow", 50, lambda: client.runs(space, "grown")),
        ("the newest 50 since a time", 50, lambda: client.runs(space, started_after=since)),
        ("the newest 50 that are open", 50, lambda: client.runs(space, status=UNFINISHED)),
        (f"all {limit:,} that are open", 200, every_open),
        ("one run, described", 50, lambda: client.describe(space, "grown", last)),
        ("one run's stream", 50, stream),
    ]
    what = f"among {sizes.finished:,} finished runs and {sizes.open:,} open ones: "
    rows = [
        at_most(what * (not at) + "  " * bool(at) + name, timed(ask), most, "ms")
        for at, (name, most, ask) in enumerate(asks)
    ]
    return [*rows, plain("  all, counted by status", timed(lambda: client.count(space)), "ms")]


def timed(ask: Callable[[], object]) -> float:
    """The median time of a query, in milliseconds."""
    found = []
    ask()  # opens a connection, and has the pages in memory
    for _ in range(_TURNS):
        begin = time.perf_counter()
        ask()
        found.append(time.perf_counter() - begin)
    return median_ms(found)


def cost(backend: Backend, sizes: Sizes) -> list[Row]:
    """Steps/s with and without the consumer that keeps the table.  Turns of both alternate."""
    found: dict[bool, list[float]] = {True: [], False: []}
    for turn in range(4 * sizes.repeats):
        for table in (True, False) if turn % 2 else (False, True):
            with backend.fresh() as url:
                names = {"replay_sleep", "replay_signal", *([TABLE] if table else [])}
                found[table].append(many_runs(url, sizes.runs, sizes.steps_per_run, loops=names))
    steps = sizes.runs * sizes.steps_per_run
    with_table, without = (steps / statistics.median(found[table]) for table in (True, False))
    what = f"{sizes.runs:,} runs of {sizes.steps_per_run} activities"
    return [
        plain(f"{what}, without a table of runs", without, "steps/s", ",.0f"),
        plain("  with it", with_table, "steps/s", ",.0f"),
        at_least("  share", with_table / without, 0.95, ""),
    ]
