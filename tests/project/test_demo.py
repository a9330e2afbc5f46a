"""The demo: a whole one, an interrupted and resumed one, one with bad input, and its parts."""

import io
import itertools
import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest

from demo import __main__, generate
from demo.fleet import Fleet, WorkerEnded
from demo.market import OrderBooks, Tick, load
from demo.messages import OrderRequest, Price, Side
from demo.progress import Progress
from demo.proof import KINDS, Check, prove
from demo.trace import trace
from demo.workflow import NAMESPACE, current_top, make_order, twap
from replay import Event, EventType, register_activity, register_workflow
from replay.testing import START, World

ROOT = Path(__file__).parent.parent.parent
DATA = ROOT / "demo"
LIMIT = 90  # Seconds, on a busy machine.


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "demo", *arguments]


def demo(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments), cwd=ROOT, capture_output=True, text=True, timeout=LIMIT, check=False
    )


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Give a data directory whose orders take three seconds."""
    header, *rows = (DATA / "orders.csv").read_text().splitlines()[:7]
    short = [",".join([*row.split(",")[:-1], "3"]) for row in rows]
    directory = tmp_path / "data"
    directory.mkdir()
    (directory / "orders.csv").write_text("\n".join([header, *short]) + "\n")
    (directory / "ticks.csv").write_bytes((DATA / "ticks.csv").read_bytes())
    return directory


def assert_proved(done: subprocess.CompletedProcess[str], orders: int) -> None:
    """The demo ended well, and each line of its checklist holds."""
    assert (done.returncode, done.stderr) == (0, "")
    checks = re.findall(r"^  (\S+) +([\d,]+) of +([\d,]+)  (.*)", done.stdout, re.MULTILINE)
    assert len(checks) == len(KINDS) + 5
    assert all(mark == "ok" and found == expected for mark, found, expected, _ in checks)
    assert checks[0][2:] == (str(orders), "orders created")


@pytest.mark.slow_on_servers
def test_demo_survives_its_kills_on_every_database(url: str) -> None:
    """The demo ends with all that it proves, though its workers were killed, on each database."""
    done = demo("--url", url, "--orders", "6")
    assert_proved(done, 6)
    assert "kill -9 of worker" in done.stdout
    assert re.search(r"orders done +6/6 .* kills survived ([12])/\1 ", done.stdout)
    assert done.stdout.splitlines()[-1].startswith("The database: ")


def test_trace_shows_a_run_that_lived_through_a_kill(data: Path, tmp_path: Path) -> None:
    """The run that is shown beside its code has a kill in the middle, and its columns line up."""
    done = demo("--url", f"sqlite:///{tmp_path / 'd.db'}", "--data", str(data), "--timeline")
    assert_proved(done, 6)
    shown = done.stdout.partition("One of the orders")[2].partition("Read back")[0]
    assert "== kill -9 of worker" in shown
    assert len({line.index(" | ") for line in shown.splitlines() if " | " in line}) == 1
    lanes = shown.partition("== kill")[0].partition(" | ")[0].splitlines()
    assert {line[:7] for line in lanes} >= {"▶ start", "■ sleep", "▌ ended"}
    assert max(map(len, lanes)) <= 100


def test_interrupted_demo_is_taken_up_again_and_another_begins_anew(
    data: Path, tmp_path: Path
) -> None:
    """No worker outlives an interrupt; the same command goes on, and one more begins anew."""
    options = ("--url", f"sqlite:///{tmp_path / 'd.db'}", "--data", str(data), "--workers", "1")
    with subprocess.Popen(command(*options), cwd=ROOT, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout
        seen = ""
        while "kill -9 of worker" not in seen:
            seen += first.stdout.readline()
        first.send_signal(signal.SIGINT)
        rest = first.communicate(timeout=LIMIT)[0]
    assert first.returncode == 130
    assert rest.splitlines()[-1].endswith("To continue, run the same command again.")
    assert not alive(re.findall(r"worker (\d+)", seen + rest))
    second = demo(*options)
    assert_proved(second, 6)
    assert "Orders started: 0 (runs demo-1-*). Resumed: 6. " in second.stdout
    third = demo(*options, "--orders", "1")
    assert_proved(third, 1)
    assert "Orders started: 1 (runs demo-2-*). Workers: 1. " in third.stdout


def test_the_page_shows_the_running_demo(data: Path) -> None:
    """Q3: with --ui the page is there from the start, and stays until Ctrl-C."""
    options = ("--data", str(data), "--orders", "1", "--ui")
    desktop = {name: os.environ[name] for name in os.environ if "DISPLAY" not in name}
    with subprocess.Popen(
        command(*options), cwd=ROOT, stdout=subprocess.PIPE, text=True, env=desktop
    ) as process:
        assert process.stdout
        first = process.stdout.readline()
        assert first.startswith("The page of this log: http://127.0.0.1:")
        url = first.split()[-1]
        seen = ""
        while "until you press Ctrl-C" not in seen:
            seen += process.stdout.readline()
        with urllib.request.urlopen(f"{url}?status=completed", timeout=LIMIT) as page:
            assert b"demo-1-" in page.read()
        process.send_signal(signal.SIGINT)
        assert process.wait(LIMIT) == 0
    assert "\n  ok " in seen


def alive(pids: list[str]) -> list[str]:
    def lives(pid: str) -> bool:
        try:
            os.kill(int(pid), 0)
        except ProcessLookupError:
            return False
        return True

    return [pid for pid in pids if lives(pid)]


def test_worker_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    """A worker ends by itself when its parent is not, or not any more, the process it was told."""
    options = ["--url", f"sqlite:///{tmp_path / 'd.db'}", "--parent", str(os.getpid() + 1)]
    worker = [sys.executable, "-m", "demo.worker", *options]
    assert subprocess.run(worker, cwd=ROOT, timeout=LIMIT, check=False).returncode == 0


def test_worker_that_ends_by_itself_is_told_with_its_last_words(tmp_path: Path) -> None:
    """A worker that cannot go on is an error that says how it ended and what it said."""
    fleet = Fleet("sqlite:////nowhere/at/all.db", DATA, 1, tmp_path / "workers.log")
    fleet.start(0).process.wait(LIMIT)
    with pytest.raises(WorkerEnded, match=r"exit code 2\): demo\.worker: .*/nowhere/at/all\.db"):
        fleet.check()
    fleet.stop()


def test_generator_makes_the_files_of_the_repository_again(tmp_path: Path) -> None:
    """The generator makes the committed ticks and orders again, byte by byte."""
    generate.generate(tmp_path)
    for name in ("ticks.csv", "orders.csv"):
        assert (tmp_path / name).read_bytes() == (DATA / name).read_bytes()


def test_data_is_plausible() -> None:
    """Orders are few and name markets that have ticks, in which no price jumps."""
    orders, ticks = load(DATA)
    assert 24 <= len(orders) <= 40
    assert all(3 <= order.splits <= 8 for order in orders)
    assert {order.market for order in orders} == set(ticks)
    for book in ticks.values():
        steps_up = [abs(b.bid_cents / a.bid_cents - 1) for a, b in itertools.pairwise(book)]
        assert max(steps_up) < 0.005


@pytest.fixture
def main(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Callable[..., str]]:
    """Give a call that must end with one sentence and code 2, leaving nothing behind."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    before = signal.getsignal(signal.SIGTERM)

    def call(*arguments: str) -> str:
        assert __main__.main([*arguments]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert err.startswith("demo: ")
        assert err.count("\n") == 1
        assert list(scratch.iterdir()) == []
        return err

    yield call
    signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--orders", "0"], "--orders must be a number from 1 to 32, not 0"),
        (["--orders", "33"], "--orders must be a number from 1 to 32, not 33"),
        (["--workers", "0"], "--workers must be a number from 1 to 16, not 0"),
        (["--url", "sqlite://"], "name a file"),
        (["--url", "sqlite:////nowhere/at/all.db"], "/nowhere/at/all.db"),
        (["--url", "oracle://somewhere/db"], "oracle"),
        (["--url", "nonsense"], "expected sqlite:///"),
        (["--url", "mysql://nobody@127.0.0.1:1/db"], "127.0.0.1"),
        (["--data", "/nowhere"], "/nowhere/orders.csv cannot be read: No such file"),
    ],
)
def test_bad_options_end_with_a_sentence(
    main: Callable[..., str], arguments: list[str], reason: str
) -> None:
    """A wrong option ends the demo with code 2 and one sentence that says what is wrong with it."""
    assert reason in main(*arguments)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("orders.csv", b"", "the first line must be id,market,side,quantity,splits,seconds"),
        ("orders.csv", b"id,market\n", "the first line must be"),
        ("orders.csv", b"{header}\n", "there is no row after the header"),
        ("orders.csv", b"{header}\na,WHEAT,buy,10\n", "line 2: 6 fields expected"),
        ("orders.csv", b"{header}\na,WHEAT,hold,10,3,5\n", "line 2: the side must be buy or sell"),
        ("orders.csv", b"{header}\na,WHEAT,buy,ten,3,5\n", "line 2: 'ten' is not a whole number"),
        ("orders.csv", b"{header}\na,WHEAT,buy,2,3,5\n", "a quantity of 2 cannot be split 3 times"),
        ("orders.csv", b"{header}\na,WHEAT,buy,10,3,nan\n", "'nan' is not a number"),
        ("orders.csv", b"{header}\na,WHEAT,buy,10,3,-1\n", "-1 seconds are not between"),
        ("orders.csv", b"{header}\na,SALT,buy,10,3,5\n", "the market 'SALT', which has no ticks"),
        ("orders.csv", b"{header}\n" + b"a,WHEAT,buy,10,3,5\n" * 2, "an order's id occurs twice"),
        ("orders.csv", b"{header}\na/b,WHEAT,buy,10,3,5\n", "the id 'a/b' has other characters"),
        ("orders.csv", b"\xff\xfe", "is not a CSV file"),
        ("orders.csv", b'{header}\n"a"b,WHEAT,buy,10,3,5\n', "is not a CSV file"),
        ("ticks.csv", b"{header}\nyesterday,WHEAT,1,2\n", "line 2: Invalid isoformat"),
        ("ticks.csv", b"{header}\n2024-03-04T09:30:00,WHEAT,1,2\n", "has no time zone"),
        ("ticks.csv", b"{header}\n2024-03-04T09:30:00Z,WHEAT,2,1\n", "is not below the ask"),
        ("ticks.csv", b"{header}\n2024-03-04T09:30:00Z,WHEAT,1.001,2\n", "'1.001' is not a price"),
        ("ticks.csv", b"{header}\n2024-03-04T09:30:00Z,WHEAT,low,2\n", "'low' is not a number"),
        (
            "ticks.csv",
            b"{header}\n2024-03-04T09:30:01Z,WHEAT,1,2\n2024-03-04T09:30:00Z,WHEAT,1,2\n",
            "line 3: the tick is older than the one before it",
        ),
    ],
)
def test_bad_data_ends_with_a_sentence(
    main: Callable[..., str], data: Path, name: str, content: bytes, reason: str
) -> None:
    """A wrong file ends the demo with code 2 and one sentence that says what is wrong in it."""
    header = (DATA / name).read_bytes().splitlines()[0]
    (data / name).write_bytes(content.replace(b"{header}", header))
    url = f"sqlite:///{data / 'd.db'}"
    assert reason in main("--data", str(data), "--url", url)


def test_order_book_goes_through_the_ticks_and_starts_again() -> None:
    """The book shows the tick of the moment, and begins again a second after the last one."""
    now = [0.0]
    books = OrderBooks({"M": [Tick(0.0, 1, 2), Tick(5.0, 3, 4)]}, "me", clock=lambda: now[0])
    seen = []
    for now[0] in (0.0, 4.9, 5.0, 5.9, 6.0, 11.5):
        seen.append(books.top("M").bid_cents)
    assert seen == [1, 1, 3, 3, 1, 3]
    assert books.top("M") == Price(bid_cents=3, ask_cents=4, source="me")


@pytest.mark.parametrize("quantity", [8, 9, 15, 1000])
def test_parts_add_up_to_the_order(quantity: int) -> None:
    """Parts differ by at most one lot, and together they are what was ordered."""
    order = replace(ORDER, quantity=quantity, splits=8, side=Side.SELL)
    parts = [make_order(order, n, Price(5, 6, "me")) for n in range(8)]
    assert sum(part.quantity for part in parts) == quantity
    assert max(part.quantity for part in parts) - min(part.quantity for part in parts) <= 1
    assert {part.limit_cents for part in parts} == {5}


ORDER = OrderRequest(
    order_id="o", market="WHEAT", side=Side.BUY, quantity=10, splits=3, duration_ms=3000
)
RUN = "demo-1-o"


def log_of(order: OrderRequest, run: str = RUN) -> list[Event]:
    """The events of the order's run, each at its time."""
    books = SimpleNamespace(top=lambda _: Price(bid_cents=100, ask_cents=102, source="worker 7"))
    with World() as world:
        register_workflow(world.client, NAMESPACE, twap)
        register_activity(world.client, NAMESPACE, current_top, books)
        world.client.run_workflow(NAMESPACE, twap, run, order)
        world.advance(timedelta(milliseconds=order.duration_ms))
        assert world.client.result(NAMESPACE, twap, run) is None
        return world.events()


def test_parts_are_published_at_equal_intervals() -> None:
    """V1: each part has its time, also of an order that takes a day."""
    day = timedelta(days=1)
    events = log_of(replace(ORDER, splits=4, duration_ms=day // timedelta(milliseconds=1)))
    parts = [event for event in events if event.type is EventType.RUN_OUTPUT]
    assert [event.timestamp - START for event in parts] == [n * day / 4 for n in range(4)]
    assert [event.message["quantity"] for event in parts] == [2, 3, 2, 3]


def faults(events: list[Event]) -> list[str]:
    return [check.claim for check in prove(events, {RUN: ORDER}) if not check.holds]


def test_proof_holds_for_a_complete_log() -> None:
    """Every check holds for a log that has each event of an order once."""
    checks = prove(log_of(ORDER), {RUN: ORDER})
    assert all(check.holds for check in checks)
    assert Check("events in total: none lost, none extra", 17, 17) in checks


@pytest.mark.parametrize("place", range(17))
def test_proof_sees_any_event_lost_or_twice(place: int) -> None:
    """Whichever event is missing or there twice, several checks fail."""
    events = log_of(ORDER)
    lost, twice = events[:place] + events[place + 1 :], [*events, events[place]]
    assert len(faults(lost)) >= 3
    assert len(faults(twice)) >= 3


def test_proof_sees_events_that_changed_places_or_runs() -> None:
    """Two events in the wrong order fail a check, and so does a run that nobody ordered."""
    events = log_of(ORDER)
    swapped = [events[0], events[2], events[1], *events[3:]]
    assert faults(swapped) == ["runs with exactly the workflow's steps, in order"]
    assert "orders created" in faults(events + log_of(ORDER, "demo-1-stranger"))


def test_proof_compares_what_events_carry() -> None:
    """An order that was recorded otherwise than given fails by its content and by its quantity."""
    events = log_of(ORDER)
    other = replace(ORDER, quantity=11)
    failed = [check for check in prove(events, {RUN: other}) if not check.holds]
    assert [str(check) for check in failed] == [
        "  FAIL      0 of      1  orders recorded as given: demo-1-o differs",
        "  FAIL     10 of     11  lots published: each order's parts add up to the order:"
        " demo-1-o published 10 of 11",
    ]


def test_trace_is_the_workflow_beside_its_events() -> None:
    """Each event stands beside its line of the workflow, and a kill where it came."""
    order = replace(ORDER, side=Side.SELL, splits=1, duration_ms=1500)
    assert list(trace(log_of(order), {"worker 7": 3})) == TRACE.splitlines()


TRACE = """\
the workflow                      |   id  seconds | -> consumed, <- produced
def twap(request):                |    1    0.000 | -> run_create{twap, sell 10 WHEAT in 1.5 s}
  for i in range(request.splits): |               | # local logic: part 1 of 1
    price = current_top(market)   |    2    0.000 | <- activ_req{current_top, WHEAT}
                                  |    3    0.000 | -> activ_res{current_top, 1.00/1.02 by 7}
                                  |               | == kill -9 of worker 7 ==
    order = make_order(i, price)  |               | # local pure function
    publish_order(order)          |    4    0.000 | <- run_output{publish_order, sell 10 at 1.00}
    sleep(calc_period())          |    5    0.000 | <- sleep_req{1.500 s}
                                  |    6    1.500 | -> sleep_res{}
                                  |    7    1.500 | <- run_complete{}
"""


def test_progress_refreshes_on_a_terminal_and_is_sparse_elsewhere() -> None:
    """On a terminal the state is one line written over; a file gets what happened."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal, file = Terminal(), io.StringIO()
    for out in (terminal, file):
        progress = Progress(out)
        progress.show("one")
        progress.show("two")
        progress.say("something happened")
    assert terminal.getvalue() == "\r\x1b[2Kone\r\x1b[2Ktwo\r\x1b[2Ksomething happened\n"
    assert file.getvalue() == "something happened\n"


def test_password_is_not_shown() -> None:
    """What the demo says of its database has neither the user nor the password."""
    shown = __main__.where("mysql://me:secret@host:3306/db")
    assert shown == "mysql server host:3306, database db"
