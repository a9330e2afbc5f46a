"""Real processes that are killed with -9, on every database."""

import random
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from replay import Client, EventType
from tests import journey
from tests.crash import worker
from tests.crash.audit import audit
from tests.crash.worker import NAMESPACE
from tests.example_pb2 import Int
from tests.support import listing, stepped, with_options

ROOT = Path(__file__).parent.parent.parent
LIMIT = 60  # seconds until something that has to happen has not happened


class Workers:
    """Starts workers on a database; they are gone at the end."""

    def __init__(self, url: str, directory: Path) -> None:
        # With this lease nobody takes over in time but by the lock that dies with its owner.
        self.url = with_options(url, lease=3600)
        self._notes = directory / "executed"
        self._stack = ExitStack()

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        """Start one; give it when its consumers run or stand by."""
        command = [sys.executable, "-m", "tests.crash.worker", self.url, str(self._notes)]
        process = subprocess.Popen(
            [*command, *arguments],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._stack.enter_context(process)
        self._stack.callback(process.kill)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        return process

    def executed(self) -> list[str]:
        """The keys of all activities that were executed, once for each time."""
        return self._notes.read_text().splitlines()


@pytest.fixture
def workers(url: str, tmp_path: Path) -> Iterator[Workers]:
    """Give what starts workers on `url`."""
    with Workers(url, tmp_path) as made:
        yield made


def kill(process: "subprocess.Popen[str]") -> None:
    process.kill()
    process.wait(LIMIT)


def wait_for_request(client: Client, run: str, step: int) -> None:
    """Wait until a run has asked for that step."""
    for event in client.stream(NAMESPACE, "count", run):
        if event.type is EventType.ACTIVITY_REQUEST and event.key.sequence == str(step):
            return


@pytest.mark.parametrize("stands_by", [True, False], ids=["stand-by", "restart"])
def test_r2_l7_a_run_goes_on_in_another_process(
    url: str, workers: Workers, stands_by: bool
) -> None:
    """R2, L7: killed in the middle of an activity, in the middle of a run of 60 steps; another that

    stood by, or is started then, ends it.  Its events are those of a run without a crash.
    """
    with stepped(url) as client:
        victim = workers.start("30")
        heir = workers.start() if stands_by else None
        client.run_workflow(NAMESPACE, "count", "whole", Int(value=20))
        client.await_completion(NAMESPACE, "count", "whole", LIMIT)
        client.run_workflow(NAMESPACE, "count", "r", Int(value=60))
        wait_for_request(client, "r", 30)
        kill(victim)
        heir = heir or workers.start()
        client.await_completion(NAMESPACE, "count", "r", LIMIT)
        assert listing(client, NAMESPACE, "count", "r") == worker.events("r", 60)
        assert listing(client, NAMESPACE, "count", "whole") == worker.events("whole", 20)
    executed = Counter(workers.executed())
    assert set(executed) == {f"{NAMESPACE}/count/r/0/add_one/{n}" for n in range(60)} | {
        f"{NAMESPACE}/count/whole/0/add_one/{n}" for n in range(20)
    }


RUNS = {f"run-{n}": n + 1 for n in range(20)}


def test_a1_r2_r3_kills_at_any_moment_lose_and_repeat_nothing(url: str, workers: Workers) -> None:
    """A1, R2, R3: of two workers one or both are killed again and again, while 20 runs go on that

    call activities, sleep, take signals, emit outputs and restart.
    """
    chance = random.Random(1)
    total = sum(len(journey.events(run, value)) for run, value in RUNS.items())
    moments = sorted(chance.sample(range(20, total - 40), 6))
    with stepped(url) as client:
        team = [workers.start(), workers.start()]
        for run, value in RUNS.items():
            journey.begin(client, run, value)
        events = client.stream()
        for count in range(moments[-1] + 1):
            next(events)
            if count in moments:
                for victim in chance.sample(team, chance.choice([1, 1, 2])):
                    kill(victim)
                    team[team.index(victim)] = workers.start()
        for run in RUNS:
            client.await_completion(journey.NAMESPACE, "journey", run, LIMIT)
        audit(url, client, RUNS, workers.executed())
