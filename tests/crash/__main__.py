"""Sieges for as long as one likes: ./dev simulate --crash, or python -m tests.crash."""

from __future__ import annotations

import argparse
import logging
import math
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from tests.crash.front import FrontServer
from tests.crash.siege import Siege
from tests.servers import ProcessServer, Program, Server, private_servers, programs, started
from tests.support import with_options

KILLS = 60  # in one siege
WORSE = ["delay", "2ms", "2ms", "loss", "1%"]
INSIDE = "REPLAY_CRASH_NETWORK"  # set in the network namespace: what is done to its packets


class FarServer(ProcessServer):
    """A server that is reached by a bad network: frozen, it is the network that is cut."""

    def __init__(self, program: Program) -> None:
        super().__init__(program)
        self._chance = random.Random(self.port)

    @property
    def url(self) -> str:
        """The server's URL, by TCP only."""
        return urlsplit(super().url)._replace(query="").geturl()

    def suspend(self) -> None:
        """Drop all packets, for a moment."""
        _link("down")
        time.sleep(self._chance.uniform(0, 0.5))

    def resume(self) -> None:
        """Let packets through again."""
        _link("up")


def _link(state: str) -> None:
    subprocess.run(["ip", "link", "set", "lo", state], check=True)


def enter_network(arguments: list[str]) -> None:
    """Start again in a network namespace of our own, if this machine allows that."""
    name = f"replay-{os.getpid()}"
    if not shutil.which("ip") or subprocess.run(["ip", "netns", "add", name]).returncode:
        sys.exit("crash: this machine allows no network namespace (it takes root, and ip)")
    inside = ["ip", "netns", "exec", name]
    try:
        subprocess.run([*inside, "ip", "link", "set", "lo", "up"], check=True)
        netem = [*["tc", "qdisc", "add", "dev", "lo", "root", "netem"], *WORSE]
        worse = (
            shutil.which("tc")
            and not subprocess.run([*inside, *netem], capture_output=True).returncode
        )
        how = "2 ms late, 1 % lost, cut at times" if worse else "cut at times"
        environment = {**os.environ, INSIDE: how}
        command = [*inside, sys.executable, "-m", "tests.crash", *arguments]
        sys.exit(subprocess.run(command, env=environment).returncode)
    finally:
        subprocess.run(["ip", "netns", "delete", name], check=True)


def makers(network: str) -> dict[str, Callable[[], Server] | None]:
    """What sieges are held on, by name; None is SQLite."""
    if network:
        return {program.flavour: partial(FarServer, program) for program in programs()}
    return {"sqlite": None, **private_servers()}


def hold(make: Callable[[], Server] | None, seed: int, kills: int, front: bool) -> Counter[str]:
    """One siege, with `front` through a server of our own; the kills by kind."""
    with ExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="replay-"))
        notes = Path(directory) / "executed"
        server = None if make is None else stack.enter_context(started(make))
        url = f"sqlite:///{directory}/replay.db" if server is None else server.url
        if front:
            # With a lease of an hour nobody waits for it: connections tell who is dead.
            own = stack.enter_context(started(lambda: FrontServer(with_options(url, lease=3600))))
            siege = Siege(own.url, notes, seed, own, database=url)
        else:
            siege = Siege(url, notes, seed, server)
        siege.hold(kills)
        return siege.kills


def main(arguments: list[str]) -> None:
    options = parse(arguments)
    logging.getLogger("replay").setLevel(logging.ERROR)
    network = os.environ.get(INSIDE, "")
    if options.network and not network:
        enter_network(arguments)
    if network:
        print(f"network: {network}")
    end = time.monotonic() + 60 * options.minutes
    kills: Counter[str] = Counter()
    for seed, name, make, front in sieges(options.seed, network):
        if kills.total() >= options.kills or (kills and time.monotonic() >= end):
            break
        again = f"./dev simulate --crash --seed {seed}{' --network' * bool(network)}"
        where = f"{name} through a server" if front else name
        try:
            found = hold(make, seed, KILLS, front)
        except BaseException:
            print(f"failed on {where} with seed {seed}, try: {again}", file=sys.stderr)
            raise
        for what, count in found.items():
            kills["replay server" if front and what == "server" else f"{what}, {where}"] += count
        print(f"seed {seed} {where}: {dict(found)}; {kills.total()} kills in all", flush=True)
    for what, count in sorted(kills.items()):
        print(f"{count:9} {what}")


def sieges(seed: int, network: str) -> Iterator[tuple[int, str, Callable[[], Server] | None, bool]]:
    """Sieges without end: the seed, what each is held on, and whether through our own server."""
    chosen = makers(network)
    while True:
        for name, make in chosen.items():
            for front in (False,) if network else (False, True):
                yield seed, name, make, front
        seed += 1


def parse(arguments: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="./dev simulate --crash", description=__doc__)
    parser.add_argument("--minutes", type=float, help="how long (1, with --kills no limit)")
    parser.add_argument("--kills", type=float, default=math.inf, help="how many at least")
    parser.add_argument("--seed", type=int, default=1, help="of the first siege (1)")
    parser.add_argument("--network", action="store_true", help="servers only, by a bad network")
    options = parser.parse_args(arguments)
    if options.minutes is None:
        options.minutes = 1.0 if options.kills == math.inf else math.inf
    return options


if __name__ == "__main__":
    main(sys.argv[1:])
