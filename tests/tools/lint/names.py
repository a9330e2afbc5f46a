"""Mistakes: what each replay finds different."""

import asyncio
import datetime as dt
import os
import random
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import date, datetime
from pathlib import Path
from secrets import token_hex
from time import sleep as nap

import requests

import replay
from replay import RunContext


def clocks(ctx: RunContext, message: str) -> None:
    begun = time.time()
    while time.monotonic() - begun < 5:
        nap(0.1)
    today = date.today()
    ctx.emit_output("now", f"{datetime.now()} {dt.datetime.now(dt.UTC)} {today}")


def chance(ctx: replay.RunContext, message: str) -> None:
    if random.random() < 0.5:
        ctx.exec_activity("lucky", token_hex(4))
    ctx.exec_activity("named", str(uuid.uuid4()))
    random.Random().shuffle([1, 2])
    ctx.exec_activity("hashed", hash(message) + id(message))


def surroundings(ctx: "RunContext", message: str) -> None:
    if os.environ["REGION"] == "eu" or os.getenv("DEBUG"):
        ctx.exec_activity("region", sys.argv[1])
    ctx.exec_activity("host", socket.gethostname())


def outside(ctx: RunContext, message: str) -> None:
    with open("orders.csv") as file:
        text = file.read()
    Path("done.txt").write_text(text)
    requests.post("https://example.com", json=text)
    sqlite3.connect("shop.db").execute("DELETE FROM orders")
    subprocess.run(["make"])
    with replay.connect("sqlite:///shop.db") as client:
        client.run_workflow("shop", "order", "1", message)


def elsewhere(ctx: RunContext, message: str) -> None:
    threading.Thread(target=ctx.exec_activity, args=("ship", message)).start()
    with ThreadPoolExecutor() as pool:
        pool.submit(ctx.exec_activity, "bill", message)
    asyncio.run(asyncio.sleep(1))


async def later(ctx: RunContext, message: str) -> None:
    ctx.exec_activity("ship", message)


def indirectly(ctx: RunContext, message: list[str]) -> None:
    message.sort(key=os.path.getsize)


class Flow:
    def run(self, ctx: RunContext, message: str) -> None:
        self._step(ctx)

    def _step(self, ctx) -> None:
        ctx.exec_activity("ship", str(uuid.uuid1()))
