"""Attacks: how long a well-behaved client of a server waits while another does all that it may."""

import subprocess
import sys
import tempfile
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
from replay.server.access import new_token

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
        attacker = add_token(tokens, "attacker", OWN)
        neighbour = add_token(tokens, "neighbour", work.NAMESPACE)
        with server(url, "--tokens", str(tokens)) as (address, process):
            with replay.connect(f"{address}?token={neighbour}", loops=False) as client:
                starts(client, "warm-up", 0.5)
                with attacking(address.removeprefix("grpc://"), attacker, attack):
                    delays = starts(client, "measured", seconds)
            return delays, most_memory(process)


def add_token(file: Path, name: str, namespace: str) -> str:
    """A new token, which it adds to the file."""
    token, entry = new_token(name, [namespace], "write")
    with file.open("a") as tokens:
        tokens.write(entry)
    return token


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


def most_memory(process: int) -> int:
    """The most memory that a process has had, in bytes, as the kernel counts it."""
    status = Path(f"/proc/{process}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024
