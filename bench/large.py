"""Large: what a log of ten million events, which SQL makes, does to each operation."""

import threading
import time
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta

from google.protobuf.wrappers_pb2 import Int64Value

import replay
from bench import raw, work
from bench.backends import Backend
from bench.grown import fill, tabulate, timed
from bench.rows import Row, Sizes, at_least, at_most, plain

#: The part of the log that is old enough to be pruned.
OLD = 50


def large(backend: Backend, sizes: Sizes) -> list[Row]:
    """Each operation on a large log; steps/s also on a new one."""
    with backend.fresh() as url:
        with replay.connect(url):
            pass  # makes the tables
        with closing(raw.Raw(url)) as database:
            fill(database, sizes.large // 2 - sizes.open, sizes.open)
            [(size,)] = database.rows(_SIZE[database.sqlite])
        rows = [
            plain(f"a log of {sizes.large:,} events", float(size) / 2**20, "MiB", ",.0f"),
            at_most("  connect", timed(lambda: connected(url)), 200, "ms"),
            *read_from_1(url, sizes),
        ]
        with closing(raw.Raw(url)) as database:
            pass_all(database)
        rows.append(at_most("  a worker's start, to the end of its first run", first(url), 1, "s"))
        rows += asked(url, sizes)
        rates = [rate(url, sizes, f"turn-{turn}") for turn in range(sizes.repeats)]
        rows.append(pruned(url, sizes))
    news = []
    for _ in range(sizes.repeats):
        with backend.fresh() as url:
            news.append(rate(url, sizes, "turn"))
    shares = [large / new for large, new in zip(rates, news, strict=True)]
    rows.append(plain("  steps of new runs", rates, "steps/s", ",.0f"))
    return [*rows, at_least("    share of those on a new log", shares, 0.9, "")]


_SIZE = {
    True: "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size",
    False: "SELECT SUM(data_length + index_length) FROM information_schema.tables"
    " WHERE table_schema = DATABASE()",
}


def connected(url: str) -> None:
    with replay.connect(url):
        pass


def read_from_1(url: str, sizes: Sizes) -> list[Row]:
    """How fast a new consumer, and the table of runs, go through the log from event 1."""
    ended = threading.Event()
    count = 0

    def handle(event: replay.Event) -> None:
        nonlocal count
        count += 1
        if count == sizes.large:
            ended.set()

    with replay.connect(url, loops=False) as client, closing(raw.Raw(url)) as probe:
        begin = time.perf_counter()
        replay.consume(client, "new", handle)
        if not ended.wait(3600):
            raise TimeoutError(f"a new consumer has not read {sizes.large:,} events in an hour")
        read = sizes.large / (time.perf_counter() - begin)
        tabled = sizes.large / tabulate(client, probe)
    return [
        plain("  a new consumer, from event 1", read, "events/s", ",.0f"),
        plain("  the table of runs, from event 1", tabled, "events/s", ",.0f"),
    ]


def pass_all(database: raw.Raw) -> None:
    """Have the consumers of a worker passed the log."""
    names = ["replay_sleep", "replay_signal", "replay_inbox"]
    names += [f"workflow/{work.NAMESPACE}/steps", f"activity/{work.NAMESPACE}/echo"]
    [(newest,)] = database.rows("SELECT MAX(id) FROM replay_events")
    moment = "2030-01-01 00:00:00.000"
    with database.transaction():
        database.rows("UPDATE replay_cursors SET last_event_id = ?", newest)
        rows = [(name, newest, moment, "", None) for name in names]
        database.insert("replay_cursors", raw.CURSOR, rows)


def first(url: str) -> float:
    """The seconds from `connect` to the end of a first run."""
    begin = time.perf_counter()
    with replay.connect(url) as client:
        serve(client, threading.Semaphore(0))
        client.run_workflow(work.NAMESPACE, "steps", "first", Int64Value(value=1))
        client.await_completion(work.NAMESPACE, "steps", "first", timeout=300)
        return time.perf_counter() - begin


def serve(client: replay.Client, ended: threading.Semaphore) -> None:
    replay.register_workflow(client, work.NAMESPACE, work.counted_steps(ended), name="steps")
    replay.register_activity(client, work.NAMESPACE, work.echo)


def asked(url: str, sizes: Sizes) -> list[Row]:
    run = str(sizes.large // 4)
    with replay.connect(url, loops=False) as client:
        asks: list[tuple[str, Callable[[], object]]] = [
            ("the newest 50 runs", client.runs),
            ("one run, described", lambda: client.describe(work.NAMESPACE, "grown", run)),
            ("one run's history", lambda: list(client.history(work.NAMESPACE, "grown", run))),
        ]
        return [at_most(f"  {name}", timed(ask), 50, "ms") for name, ask in asks]


def rate(url: str, sizes: Sizes, turn: str) -> float:
    """Steps a second of new runs, from the start of the runs on."""
    ended = threading.Semaphore(0)
    with replay.connect(url) as client:
        serve(client, ended)
        begin = time.perf_counter()
        message = Int64Value(value=sizes.steps_per_run)
        client.run_workflows(
            (work.NAMESPACE, "steps", f"{turn}-{number}", message) for number in range(sizes.runs)
        )
        for _ in range(sizes.runs):
            if not ended.acquire(timeout=300):
                raise TimeoutError(f"not all of {sizes.runs} runs ended in 300 s")
        return sizes.runs * sizes.steps_per_run / (time.perf_counter() - begin)


def pruned(url: str, sizes: Sizes) -> Row:
    """How fast old runs are removed, while most of the log stays."""
    with closing(raw.Raw(url)) as database, database.transaction():
        sql = "UPDATE replay_events SET timestamp = '2020-01-01 00:00:00.000' WHERE id <= ?"
        database.rows(sql, sizes.large // OLD)
    with replay.connect(url, loops=False) as client:
        begin = time.perf_counter()
        removed = client.prune(timedelta(days=365), forget=True)
        seconds = time.perf_counter() - begin
    what = f"  a prune of {removed.events:,} old events"
    return plain(what, removed.events / seconds, "events/s", ",.0f")
