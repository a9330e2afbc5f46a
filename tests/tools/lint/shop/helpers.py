"""What the workflows call, and what they do not."""

import random
import time

from replay import ActivityContext

CACHE: dict[str, str] = {}


def log(text: str) -> None:
    with open("log.txt", "a") as file:
        file.write(text)


def number() -> int:
    return random.randrange(10)


def unused() -> float:
    return time.time()


def send(ctx: ActivityContext, backends: None, text: str) -> None:
    CACHE[text] = str(time.time())


def deep(n: int) -> float:
    return deep(n - 1) if n else time.time()


class Basket:
    def __init__(self, text: str) -> None:
        self.at = time.time()
