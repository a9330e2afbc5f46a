"""A disk that is full under SQLite."""

import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from replay import Client, Unavailable
from tests import journey
from tests.crash.point import ask
from tests.example_pb2 import String
from tests.support import Clock, drain, listing, stepped

KILOBYTES = 1024
Room = Callable[[Client, int], None]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[tuple[Path, Room]]:
    """Give a directory, and what says how many bytes it has room for.

    Where nothing may be mounted it is SQLite itself that says that the disk is full.
    """
    directory = tmp_path / "disk"
    directory.mkdir()
    with ExitStack() as stack:
        mounted = _mount("-t", "tmpfs", "-o", "size=1024k", "tmpfs", str(directory))
        if mounted:
            stack.callback(subprocess.run, ["umount", str(directory)], check=True)

        def make_room(client: Client, size: int) -> None:
            if mounted:
                assert _mount("-o", f"remount,size={size // KILOBYTES}k", str(directory))
            else:
                client.log.database.query(f"PRAGMA max_page_count = {size // 4096}")

        yield directory, make_room


def _mount(*arguments: str) -> bool:
    try:
        done = subprocess.run(["mount", *arguments], capture_output=True, check=False)
    except FileNotFoundError:
        return False
    return done.returncode == 0


def fill(client: Client) -> list[str]:
    """Start runs of a workflow that nobody serves until the disk is full; what was stored."""
    stored: list[str] = []

    def store_for_ever(size: int) -> None:
        while True:
            run = f"{len(stored)}"
            assert client.run_workflow("full", "nobody", run, String(value="x" * size))
            stored.append(f"full/nobody/{run}/0")

    for size in (20_000, 200):
        with pytest.raises(Unavailable, match="disk"):
            store_for_ever(size)
    return stored


def test_l1_l6_p16_a_full_disk_loses_nothing(disk: tuple[Path, Room]) -> None:
    """L1, L2, L6, P16, R2: the call that finds the disk full says so and has stored nothing.

    Runs stand still, and go on when there is room again; nothing is lost or doubled.
    """
    directory, make_room = disk
    clock, calls = Clock(), list[str]()
    with stepped(f"sqlite:///{directory / 'replay.db'}", clock) as client:
        consumers = journey.staff(client, calls, start=False)
        make_room(client, 1024 * KILOBYTES)
        ask(client, "r", 1)
        stored = fill(client)
        assert len(stored) > 10
        with pytest.raises(Unavailable, match="disk"):
            drain(*consumers)
        found = [event.text for event in client.stream("full", to_head=True)]
        assert found == stored
        make_room(client, 4096 * KILOBYTES)
        for _ in range(4):
            drain(*consumers)
            clock.forward(milliseconds=20)
        assert listing(client, journey.NAMESPACE) == journey.events("r", 1)
        assert [event.text for event in client.stream("full", to_head=True)] == stored
        assert set(calls) == set(journey.calls_of("r"))
        assert client.run_workflow("full", "nobody", str(len(stored)), None)
