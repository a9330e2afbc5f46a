"""Sieges for as long as one likes: ./dev simulate --crash, or python -m tests.crash."""

from __future__ import annotations

import argparse
import logging
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from tests.crash.siege import Siege
from tests.servers import ProcessServer, Program, Server, private_servers, programs, started

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


def hold(make: Callable[[], Server] | None, seed: int) -> Counter[str]:
    """One siege; the kills by kind."""
    with tempfile.TemporaryDirectory(prefix="replay-") as directory:
        notes = Path(directory) / "executed"
        if make is None:
            siege = Siege(f"sqlite:///{directory}/replay.db", notes, seed)
            siege.hold(KILLS)
        else:
            with started(make) as server:
                siege = Siege(server.url, notes, seed, server)
                siege.hold(KILLS)
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
    seed, chosen = options.seed, makers(network)
    while True:
        for name, make in chosen.items():
            again = f"./dev simulate --crash --seed {seed}{' --network' * bool(network)}"
            try:
                found = hold(make, seed)
            except BaseException:
                print(f"failed on {name} with seed {seed}, try: {again}", file=sys.stderr)
                raise
            kills += found
            print(f"seed {seed} {name}: {dict(found)}; in all {dict(kills)}", flush=True)
        seed += 1
        if time.monotonic() >= end:
            return


def parse(arguments: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="./dev simulate --crash", description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.0, help="how long (1)")
    parser.add_argument("--seed", type=int, default=1, help="of the first siege (1)")
    parser.add_argument("--network", action="store_true", help="servers only, by a bad network")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main(sys.argv[1:])
