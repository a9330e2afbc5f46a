"""Q2: a parked event is made due at once, whoever owns its consumer, and wherever."""

import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from replay import (
    ActivityContext,
    Client,
    Consumer,
    Retry,
    RunContext,
    register_activity,
    register_workflow,
)
from replay.client import BadFilter
from replay.consumer import LOOK
from replay.storage.database import Statement, to_text
from tests.support import Clock, crash, database, drain, rows, stepped

pytestmark = pytest.mark.contract

ROOT = Path(__file__).parent.parent
LIMIT = 60  # seconds until something that has to happen has not happened
HOUR = Retry(first=timedelta(hours=1), longest=timedelta(hours=1))
PAY = "activity/shop/pay"


def order(ctx: RunContext, name: str) -> str:
    """Pay, and return how."""
    return str(ctx.exec_activity("pay", name))


class Shop:
    """An activity that fails as long as it is told to."""

    def __init__(self) -> None:
        self.broken = True
        self.tried: list[str] = []

    def pay(self, ctx: ActivityContext, backends: None, name: str) -> str:
        """Fail while broken."""
        self.tried.append(name)
        if self.broken:
            raise ValueError("card reader offline")
        return f"{name} paid"

    def serve(self, client: Client, **options: Any) -> list[Consumer]:
        """Register workflow and activity."""
        return [
            register_workflow(client, "shop", order, start=False),
            register_activity(client, "shop", self.pay, retry=HOUR, start=False, **options),
        ]


def parked(client: Client) -> list[tuple[Any, ...]]:
    """Consumer, event and attempts of all that is parked."""
    return rows(client, "SELECT consumer, event_id, attempts FROM replay_parked ORDER BY event_id")


def test_q2_a_live_owner_retries_within_two_seconds(url: str) -> None:
    """Q2: another client makes an event due; its owner looks every two seconds, and not before."""
    shop = Shop()
    with stepped(url, clock := Clock()) as client, stepped(url, clock) as other:
        consumers = shop.serve(client)
        for name in ("a", "b"):
            client.run_workflow("shop", "order", name, name)
        drain(*consumers)
        assert parked(client) == [(PAY, 3, 1), (PAY, 4, 1)]
        shop.broken = False
        assert other.retry(consumer=PAY, event_id=4) == 1
        clock.forward(seconds=LOOK.total_seconds() - 0.001)
        drain(*consumers)
        assert shop.tried == ["a", "b"]
        clock.forward(milliseconds=1)
        drain(*consumers)
        assert shop.tried == ["a", "b", "b"]
        assert client.result("shop", order, "b", 0) == "b paid"
        assert parked(client) == [(PAY, 3, 1)]


def test_q2_a_retry_counts_as_an_attempt(url: str) -> None:
    """Q2, A2: what fails again waits for its backoff again, and its attempts go on counting."""
    shop = Shop()
    with stepped(url, clock := Clock()) as client:
        consumers = shop.serve(client)
        client.run_workflow("shop", "order", "a", "a")
        drain(*consumers)
        assert client.retry(consumer=PAY) == 1
        clock.forward(seconds=2)
        drain(*consumers)
        assert parked(client) == [(PAY, 2, 2)]
        clock.forward(minutes=44)  # of the hour, with jitter
        drain(*consumers)
        assert shop.tried == ["a", "a"]


@pytest.mark.parametrize("end", ["stopped", "killed"])
def test_q2_a_retry_waits_for_the_next_owner(url: str, end: str) -> None:
    """Q2: made due while nobody owns it, an event is tried at the start (A2 would not do that)."""
    shop = Shop()
    with stepped(url, clock := Clock()) as other:
        with stepped(url, clock) as client:
            consumers = shop.serve(client)
            client.run_workflow("shop", "order", "a", "a")
            client.run_workflow("shop", "order", "b", "b")
            drain(*consumers)
            if end == "killed":
                crash(client, *consumers)
        shop.broken = False
        assert other.retry(consumer=PAY, event_id=3) == 1
        with stepped(url, clock) as client:
            consumers = shop.serve(client)
            for each in consumers:
                each._step(10)
            drain(*consumers)
            assert shop.tried == ["a", "b", "a"]


def test_q2_what_a_run_has_parked(url: str) -> None:
    """Q2: a run's own row and its requests; of a workflow or a namespace, those of all runs."""
    shop = Shop()

    def broken(ctx: RunContext, name: str) -> None:
        raise ValueError("a bug")

    with stepped(url, clock := Clock()) as client:
        consumers = shop.serve(client)
        consumers.append(register_workflow(client, "shop", broken, name="bad", start=False))
        for name in ("a", "b"):
            client.run_workflow("shop", "order", name, name)
        client.run_workflow("shop", "bad", "a", "a")
        drain(*consumers)
        assert client.retry("shop", order, "a") == 1
        clock.forward(seconds=2)
        drain(*consumers)
        assert shop.tried == ["a", "b", "a"]
        assert client.retry("shop", "bad", "a") == 1
        assert client.retry("shop", order) == 2
        assert client.retry("shop") == 3
        assert client.retry("shop", order, "nobody") == 0
        assert client.retry("other") == 0


def test_q2_what_is_not_there_is_not_retried(url: str) -> None:
    """Q2: unknown names are no error; a request for nothing in particular is."""
    with stepped(url) as client:
        assert client.retry(consumer=PAY) == 0
        assert client.retry(consumer=PAY, event_id=1) == 0
        for wrong in ({}, {"event_id": 1}, {"namespace": "shop", "consumer": PAY}):
            with pytest.raises(BadFilter):
                client.retry(**wrong)


@pytest.mark.damages
def test_q2_a_request_that_is_executed_is_left_alone(url: str) -> None:
    """Q2, A3: its row says `running`; a retry neither counts it nor executes it twice."""
    with stepped(url, clock := Clock()) as client:
        drain(*Shop().serve(client))
        row = (PAY, 7, "shop/order/a/0/pay/0", 0, to_text(clock.now + timedelta(hours=1)))
        insert = (
            "INSERT INTO replay_parked (consumer, event_id, `key`, attempts, next_at, error)"
            " VALUES (?, ?, ?, ?, ?, 'running')"
        )
        database(client).write([Statement(insert, row)])
        before = rows(client, "SELECT * FROM replay_parked")
        assert client.retry(consumer=PAY) == 0
        assert rows(client, "SELECT * FROM replay_parked") == before


def test_q2_a_retry_amid_an_attempt_changes_nothing_else(url: str) -> None:
    """Q2, L6: the owner's commit of that attempt is stored as if nobody had asked."""
    shop, meanwhile = Shop(), list[Callable[[], int]]()

    def pay(ctx: ActivityContext, backends: None, name: str) -> str:
        for each in meanwhile:
            assert each() == 1
        return shop.pay(ctx, backends, name)

    with stepped(url, clock := Clock()) as client, stepped(url, clock) as other:
        consumers = [
            register_workflow(client, "shop", order, start=False),
            register_activity(client, "shop", pay, retry=HOUR, start=False),
        ]
        client.run_workflow("shop", "order", "a", "a")
        drain(*consumers)
        meanwhile.append(lambda: other.retry(consumer=PAY))
        clock.forward(hours=1)
        drain(*consumers)
        ((attempts, next_at),) = rows(client, "SELECT attempts, next_at FROM replay_parked")
        assert attempts == 2
        assert next_at > to_text(clock.now + timedelta(minutes=44))


def test_q2_an_owner_looks_again_after_its_clock_went_back(url: str) -> None:
    """Q2: a clock that is set back by an hour stops no retry for an hour."""
    shop = Shop()
    with stepped(url, clock := Clock()) as client:
        consumers = shop.serve(client)
        client.run_workflow("shop", "order", "a", "a")
        drain(*consumers)
        clock.forward(seconds=-3600)
        assert client.retry(consumer=PAY) == 1
        drain(*consumers)
        assert shop.tried == ["a", "a"]


@pytest.mark.damages
def test_q2_more_than_a_page_is_retried(url: str) -> None:
    """Q2: a consumer may have parked more events than one query or call takes."""
    with stepped(url, clock := Clock()) as client:
        later = to_text(clock.now + timedelta(hours=1))
        columns = "consumer, event_id, `key`, attempts, next_at, error"
        some = [(PAY, n, f"shop/order/{n}/0/pay/0", 1, later, "") for n in range(1, 2502)]
        database(client).write(database(client).insert_missing("replay_parked", columns, some))
        assert client.retry(consumer=PAY) == 2501
        assert rows(client, "SELECT COUNT(*) FROM replay_parked WHERE next_at = ?", later) == [(0,)]


WORKER = """
import sys
from datetime import timedelta
from replay import *

def order(ctx: RunContext, name: str) -> str:
    return ctx.exec_activity("pay", name)

def pay(ctx: ActivityContext, backends: None, name: str) -> str:
    if ctx.attempt == 1:
        raise ValueError("card reader offline")
    return "paid"

def told(name, what, figure):
    if what == "failed" and figure:
        print("parked", flush=True)

with connect(sys.argv[1]) as client:
    register_workflow(client, "shop", order)
    policy = Retry(first=timedelta(hours=1), longest=timedelta(hours=1))
    register_activity(client, "shop", pay, retry=policy, metrics=told)
    sys.stdin.read()
"""


def test_q2_an_owner_in_another_process_retries(url: str) -> None:
    """Q2: a real worker that waits for an hour notices within seconds."""
    command = [sys.executable, "-c", WORKER, url]
    with (
        stepped(url) as client,
        subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as worker,
    ):
        assert worker.stdout is not None
        client.run_workflow("shop", "order", "a", "a")
        assert worker.stdout.readline() == "parked\n"
        assert client.retry(consumer=PAY) == 1
        # Every thread looks at the clock once a minute: that must not be what notices.
        assert client.result("shop", "order", "a", LIMIT / 2) == "paid"
        worker.communicate(timeout=LIMIT)
