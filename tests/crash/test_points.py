"""Every point at which a process can die between two statements, once each."""

import multiprocessing
import signal
from multiprocessing.context import ForkServerContext
from pathlib import Path

import pytest

from replay.storage.database import TABLES
from tests.crash.audit import audit
from tests.crash.point import AFTER, BEFORE, victim, work
from tests.support import raw, stepped

LIMIT = 60
PARTS = 3  # of the points, for several processes to share; all but the first are slow
NOWHERE = -1


@pytest.fixture
def forks() -> ForkServerContext:
    """Give what makes processes that have imported everything already."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.crash.point"])
    return context


class Victims:
    """Processes that die, on one database."""

    def __init__(self, forks: ForkServerContext, url: str, notes: Path) -> None:
        self._forks = forks
        self._url = url
        self._notes = notes

    def points(self) -> int:
        """How many statements a run takes from its start to its end."""
        status, count = self._run(NOWHERE, BEFORE)
        assert status == 0
        assert count is not None
        return count

    def die(self, at: int, how: str) -> None:
        """Have one die at a point."""
        assert self._run(at, how) == (-signal.SIGKILL, None)

    def executed(self) -> list[str]:
        """The activities that were executed since the last call."""
        found = self._notes.read_text().splitlines() if self._notes.exists() else []
        self._notes.unlink(missing_ok=True)
        return found

    def _run(self, at: int, how: str) -> tuple[int | None, int | None]:
        clear(self._url)
        ours, theirs = self._forks.Pipe(duplex=False)
        with ours, theirs:
            arguments = (self._url, at, how, str(self._notes), theirs)
            process = self._forks.Process(target=victim, args=arguments)
            process.start()
            process.join(LIMIT)
            return process.exitcode, ours.recv() if ours.poll() else None


def clear(url: str) -> None:
    """Make a database like new: creating one takes a server longer than all the rest."""
    with raw(url) as other:
        for table in TABLES:
            if table != "replay_meta":
                other.run(f"DELETE FROM {table}" if not other.mysql else f"TRUNCATE {table}")
        if not other.mysql:
            other.run("DELETE FROM sqlite_sequence")


@pytest.mark.parametrize(
    ("how", "part"),
    [
        (BEFORE, 0),
        *(pytest.param(BEFORE, part, marks=pytest.mark.slow) for part in range(1, PARTS)),
        # Much the same as before the next statement: an activity was executed there, and not here.
        pytest.param(AFTER, 0, marks=pytest.mark.slow),
    ],
)
def test_l6_r2_s2_a_process_dies_at_each_statement_once(
    forks: ForkServerContext, url: str, tmp_path: Path, how: str, part: int
) -> None:
    """A1, L1, L6, L7, R1, R2, R3, R6, S2, P20: a run that uses everything, from its start to its

    end, in one process that dies at the n-th statement of its transactions, for every n; a fresh
    process ends it.  The events are those of a run without a crash, and so are all tables.
    """
    with stepped(url):  # which makes the tables
        victims = Victims(forks, url, tmp_path / "executed")
    total = victims.points()
    assert total > 100
    for at in range(1 + part, total + 1, PARTS):
        victims.executed()
        victims.die(at, how)
        executed = victims.executed()
        work(url, "r", 1, executed)
        with stepped(url) as client:
            audit(url, client, {"r": 1}, executed)
