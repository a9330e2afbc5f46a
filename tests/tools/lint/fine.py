"""What looks like a mistake, and is none."""

import asyncio
import os
import random
import subprocess
import time
import uuid
from datetime import UTC, datetime, timedelta

import replay

WORDS = ["Hello", "Hola"]
PRICES = {"tea": 3}
BIG = set(WORDS)


def charge(ctx: replay.ActivityContext, backends: None, order: str) -> float:
    with open("charged.txt", "a") as file:
        file.write(order)
    return time.time() + random.random()


def fine(ctx: replay.RunContext, order: str, random: random.Random = random.Random(5)) -> None:
    ctx.exec_activity(charge, order)
    ctx.exec_activity(charge, ctx.random.choice(WORDS))
    number = random.random() + PRICES.get(order, 0)
    moment = datetime.fromtimestamp(number, UTC) + timedelta(hours=1)
    ids = [ctx.uuid4(), uuid.uuid5(uuid.NAMESPACE_DNS, order), uuid.UUID(int=5)]
    path = os.path.join("a", order)
    wanted = set(WORDS)
    if path in wanted or "tea" not in BIG:
        wanted.add(path)
    for word in sorted(wanted):
        ctx.emit_output("word", word)
    total = sum(len(word) for word in wanted) + len(wanted) + max(wanted, key=len).count("l")
    mine = [total]
    mine.append(total)
    time = ctx.now()
    id = f"{time} {moment} {ids} {mine}"
    ctx.exec_activity(charge, id)


def careful(ctx: replay.RunContext, order: str) -> None:
    open = order.split()
    try:
        ctx.exec_activity(charge, open[0])
    except subprocess.CalledProcessError:
        pass
    except replay.Cancelled:
        ctx.exec_activity(charge, "back")
    except Exception:
        ctx.emit_output("failed", 1)
    except BaseException:
        ctx.emit_output("ended", 1)
        raise
    try:
        print(order)
    except:
        pass


def nested(ctx: replay.RunContext, order: str) -> None:
    def pause(ctx: replay.ActivityContext, backends: None, seconds: float) -> None:
        time.sleep(seconds)

    ctx.exec_activity(pause, 5)


def not_a_workflow(context: object, loop: asyncio.AbstractEventLoop) -> float:
    return time.time()
