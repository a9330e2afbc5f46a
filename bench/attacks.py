"""Attacks: how long a well-behaved client of a server waits while another does all that it may."""

import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import replay
from bench import work
from bench.attacker import ATTACKS, OWN
from bench.backends import Backend
from bench.remote import server
from bench.rows import Row, Sizes, at_most, percentile
from bench.worker import ROOT

APART = 0.02  # seconds between the neighbour's calls
BEGINS = 1.0  # seconds until an attack is under way


def attacks(backend: Backend, sizes: Sizes) -> list[Row]:
    """The time of a call, and the server's memory, under one attack after the other."""
    rows: list[Row] = []
    for attack, (what, _) in ATTACKS.items():
        delays, peak = under(attack, backend, sizes.attack_seconds)
        p99 = percentile(delays, 99) * 1e3
        rows.append(at_most(f"a neighbour's call, {what}: p99", p99, 100, "ms", ",.1f"))
        rows.append(at_most("  the server's memory", peak / 2**20, 300, "MB", ",.0f"))
    return rows


def under(attack: str, backend: Backend, seconds: float) -> tuple[list[float], int]:
    """How long the calls of the neighbour took, in seconds; the most memory, in bytes."""
    with tempfile.TemporaryDirectory() as place, backend.fresh() as url:
        tokens = Path(place) / "tokens.toml"
        attacker, neighbour = token(tokens, "attacker", OWN), token(tokens, "us", work.NAMESPACE)
        with server(url, "--tokens", str(tokens)) as (address, process):
            peak = Peak(process)
            with replay.connect(f"{address}?token={neighbour}", loops=False) as client:
                starts(client, "warm-up", 0.5)
                with attacking(address.removeprefix("grpc://"), attacker, attack), peak:
                    delays = starts(client, "measured", seconds)
    return delays, peak.bytes


def token(file: Path, name: str, namespace: str) -> str:
    """A new token, which it adds to the file."""
    command = [sys.executable, "-m", "replay", "token", name, "--namespaces", namespace]
    done = subprocess.run(
        [*command, "--access", "write"], check=True, stdout=subprocess.PIPE, text=True
    )
    shown, entry = done.stdout.split("Its entry in the file:\n")
    with file.open("a") as tokens:
        tokens.write(f"{entry}\n")
    return shown.split("\n")[1]


def starts(client: replay.Client, name: str, seconds: float) -> list[float]:
    """Start runs one after the other, for so long. Return how long each call took."""
    delays: list[float] = []
    end = time.perf_counter() + seconds
    while (begin := time.perf_counter()) < end:
        client.run_workflow(work.NAMESPACE, "steps", f"{name}-{len(delays)}", None)
        delays.append(time.perf_counter() - begin)
        time.sleep(APART)
    return delays


@contextmanager
def attacking(address: str, token: str, attack: str) -> Iterator[None]:
    """The attack is under way until the block ends."""
    command = [sys.executable, "-m", "bench.attacker", address, token, attack]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL) as process:
        time.sleep(BEGINS)
        try:
            yield
            if process.poll() is not None:
                raise RuntimeError(f"the attacker ended by itself: {attack}")
        finally:
            process.kill()


class Peak:
    """The most memory that a process has while the block is carried out."""

    def __init__(self, process: int) -> None:
        self.bytes = 0
        self._file = Path(f"/proc/{process}/statm")
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def _look(self) -> None:
        while not self._over.wait(0.02):
            pages = int(self._file.read_text().split()[1])
            self.bytes = max(self.bytes, pages * os.sysconf("SC_PAGE_SIZE"))

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()
