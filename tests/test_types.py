"""J5: what mypy and pyright infer of calls with functions, signals and outputs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

INFERRED = """
from __future__ import annotations

from datetime import timedelta
from typing import Any, assert_type

from replay import ActivityContext, Client, OutputType, Pending, RunContext, Signal, SignalType
from tests.example_pb2 import Int, String
from tests.models import Approval, Bill, Order
from tests.typed_example.replay_gen import DinnerFlow

APPROVE = SignalType(1, Approval)
COUNT = SignalType(2, Int)
NAMES = SignalType(3, list[str])
BILL = OutputType("bill", Bill)
MINUTE = timedelta(minutes=1)


def total(ctx: ActivityContext, backends: None, order: Order) -> Bill:
    return Bill(len(order.lines))


def find(ctx: ActivityContext, backends: None, name: str | None) -> Int | None:
    return None


def shop(ctx: RunContext, order: Order) -> Bill:
    assert_type(ctx.exec_activity(total, order), Bill)
    assert_type(ctx.exec_activity(find, "a"), Int | None)
    assert_type(ctx.exec_activity(find, None), Int | None)
    assert_type(ctx.exec_activity("total", order), Any)
    bill, found = ctx.call(total, order), ctx.call(find, "a")
    assert_type(ctx.gather(bill, found), tuple[Bill, Int | None])
    assert_type(ctx.gather(ctx.call(total, order), ctx.call(find, "a")), tuple[Bill, Int | None])
    assert_type(ctx.gather(bill, found, bill), tuple[Bill, Int | None, Bill])
    assert_type(
        ctx.gather(found, bill, found, bill), tuple[Int | None, Bill, Int | None, Bill]
    )
    assert_type(
        ctx.gather(bill, bill, bill, bill, found), tuple[Bill, Bill, Bill, Bill, Int | None]
    )
    assert_type(ctx.gather(*[bill]), list[Bill])
    assert_type(ctx.gather(*[ctx.call(total, each) for each in [order]]), list[Bill])
    assert_type(ctx.gather(*[bill] * 6), list[Bill])
    assert_type(ctx.gather(bill, bill, bill, bill, bill, bill), list[Bill])
    first, second = ctx.gather(ctx.call(total, order), ctx.call("total", order))
    assert_type(first, Bill)
    assert_type(second, Any)
    assert_type(ctx.await_signal(APPROVE, MINUTE), Approval | None)
    assert_type(ctx.await_signal(COUNT, MINUTE), Int | None)
    assert_type(ctx.await_signal(NAMES, MINUTE), list[str] | None)
    assert_type(ctx.await_signal(1, MINUTE), Signal | None)
    approval = ctx.begin(ctx.signal(APPROVE))
    billing = ctx.begin(ctx.call(total, order))
    time = ctx.begin(ctx.timer(MINUTE))
    assert_type(approval.result(), Approval | None)
    assert_type(ctx.begin(ctx.signal(1)).result(), Signal | None)
    assert_type(billing.result(), Bill)
    assert_type(time.result(), None)
    assert_type(ctx.first(billing, time), Pending[Bill | None])
    assert_type(ctx.first(approval, billing, time), Pending[Approval | None | Bill])
    assert_type(ctx.first(*[billing]).result(), Bill)
    ctx.emit_output(BILL, Bill(1))
    ctx.emit_output("any", 5)
    return Bill(1)


def dinner(flow: DinnerFlow, dish: String) -> None:
    price, table = flow.call_price(dish), flow.call_find_table(None)
    assert_type(flow.gather(price, table), tuple[Int, Int | None])
    assert_type(flow.gather(price, table, flow.call_wash_up(Int())), tuple[Int, Int | None, None])
    assert_type(flow.gather(*[price]), list[Int])


def begin(client: Client) -> None:
    assert_type(client.run_workflow("shop", shop, "1", Order("1")), bool)
    client.run_workflow("shop", "shop", "1", String(value="any"))
    client.signal_run("shop", shop, "1", APPROVE, Approval("me"), "a")
    client.signal_run("shop", "shop", "1", 1, 5, "a")
    client.await_completion("shop", shop, "1")
    assert_type(client.result("shop", shop, "1"), Bill)
    assert_type(client.result("shop", "shop", "1"), Any)
"""

#: Each line from the first call on is wrong.
MISUSE = """
from inferred import APPROVE, BILL, MINUTE, shop, total
from replay import Client, RunContext
from tests.models import Bill, Order

def wrong(ctx: RunContext, order: Order, client: Client) -> None:
    ctx.exec_activity(total, Bill(1))
    ctx.exec_activity(total, None)
    ctx.exec_activity(shop, order)
    ctx.exec_activity(total, order).lines
    ctx.gather(ctx.call(total, 5))
    ctx.gather(ctx.call(total, order), ctx.call(total, order))[1].by
    ctx.await_signal(APPROVE, 5)
    ctx.await_signal(APPROVE, MINUTE).by
    ctx.emit_output(BILL, order)
    ctx.emit_output(BILL, None)
    ctx.begin(ctx.call(total, order)).result().lines
    ctx.first(ctx.begin(ctx.call(total, order)), ctx.begin(ctx.timer(5))).result()
    ctx.first(ctx.call(total, order))
    client.result("shop", shop, "1").lines
    client.run_workflow("shop", shop, "1", Bill(1))
    client.run_workflow("shop", total, "1", order)
    client.signal_run("shop", shop, "1", APPROVE, order, "a")
    client.signal_run("shop", shop, "1", APPROVE, None, "a")
"""
WRONG = list(range(7, 25))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "inferred.py").write_text(INFERRED)
    (tmp_path / "misuse.py").write_text(MISUSE)
    return tmp_path


def check(folder: Path, *command: str | Path) -> tuple[list[str], list[int]]:
    """What a checker says of the first file, and the lines of the other that it complains of."""
    done = subprocess.run(
        [sys.executable, "-m", *map(str, command)],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT), "MYPYPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    said = [each for each in done.stdout.splitlines() if "error:" in each]
    wrong = [each.partition("misuse.py:")[2] for each in said if "misuse.py" in each]
    others = [each for each in said if "misuse.py" not in each]
    return others, sorted({int(each.partition(":")[0]) for each in wrong})


def test_j5_mypy_infers_and_refuses(folder: Path) -> None:
    """J5: by `mypy --strict`."""
    options = ("--strict", "--no-incremental", "--config-file=", "--cache-dir", folder / "cache")
    assert check(folder, "mypy", *options, "inferred.py", "misuse.py") == ([], WRONG)


def test_j5_pyright_infers_and_refuses(folder: Path) -> None:
    """J5: by the strict mode of pyright."""
    config = {"extraPaths": [str(ROOT)], "typeCheckingMode": "strict"}
    (folder / "pyrightconfig.json").write_text(json.dumps(config))
    assert check(folder, "basedpyright", "--pythonpath", sys.executable) == ([], WRONG)
