"""The middle of the demo: watch the runs, kill a worker now and then until every order is done."""

import time
from dataclasses import dataclass

import replay
from demo.board import ACTIVITY, Board
from demo.fleet import Fleet
from demo.progress import Progress
from replay import EventType

KILLS = 2
PAUSE = 0.1
PATIENCE = 120.0  # Seconds without a new event after which something is wrong.


class Stuck(Exception):
    """The runs do not go on."""


@dataclass
class Kill:
    """A worker that was killed, and what tells that others took over from it."""

    name: str
    last_id: int  # The newest event once it was dead.
    runs: set[str]  # The unfinished runs that it had been serving.
    at: float
    survived: bool = False


class Driver:
    """Sees one demo's runs through."""

    def __init__(self, board: Board, fleet: Fleet, progress: Progress, orders: set[str]) -> None:
        self.kills: list[Kill] = []
        self._board = board
        self._fleet = fleet
        self._progress = progress
        self._orders = orders
        self._started = self._last_event = time.monotonic()
        self._published = board.published
        self._total = sum(order.splits for order in board.requests.values())

    def drive(self) -> None:
        """Returns when every order is completed."""
        while not self._orders <= self._board.completed:
            self._fleet.check()
            self._note(self._read())
            if len(self.kills) < KILLS and self._due():
                self._kill()
            self._progress.show(self.state())
            time.sleep(PAUSE)
        for kill in self.kills:
            kill.survived = True

    def state(self) -> str:
        """How far things are, in one line."""
        survived = sum(kill.survived for kill in self.kills)
        return (
            f"orders done {len(self._board.completed):2}/{len(self._orders)}"
            f" | parts {self._board.published:3}/{self._total}"
            f" | events {self._board.events:5,}"
            f" | kills survived {survived}/{len(self.kills)}"
            f" | {time.monotonic() - self._started:4.1f} s"
        )

    def _read(self) -> list[replay.Event]:
        """What is new in the log. While the database is away there is nothing new."""
        try:
            events = self._board.read()
        except replay.Error as error:
            self._progress.show(f"waiting for the database: {error}")
            events = []
        now = time.monotonic()
        if events:
            self._last_event = now
        elif now - self._last_event > PATIENCE:
            raise Stuck(f"nothing has happened for {PATIENCE:.0f} seconds")
        return events

    def _note(self, events: list[replay.Event]) -> None:
        """Sees from the log that a killed worker's runs go on."""
        for kill in self.kills:
            if not kill.survived and any(_goes_on(event, kill) for event in events):
                kill.survived = True
                seconds = time.monotonic() - kill.at
                self._progress.say(f"  its orders went on elsewhere {seconds:.1f} s after the kill")

    def _due(self) -> bool:
        """Kills come at equal steps of the work that there was to do at the start."""
        share = (len(self.kills) + 1) / (KILLS + 1)
        work = self._total - self._published
        return self._board.published >= self._published + share * work

    def _kill(self) -> None:
        """Kills the worker that serves the most unfinished runs and starts another in its place."""
        serving = {name: self._board.runs_of(name) for name in self._fleet.names()}
        name = max(serving, key=lambda worker: len(serving[worker]))
        if not serving[name]:
            return
        dead = self._fleet.kill(name)
        at = time.monotonic()
        self._note(self._read())  # What it still committed is not a sign that others took over.
        self.kills.append(Kill(name, self._board.last_id, self._board.runs_of(name), at))
        new = self._fleet.start(dead.index)
        self._progress.say(
            f"kill -9 of {name}, which was serving {len(serving[name])} unfinished orders;"
            f" started {new.name}"
        )


def _goes_on(event: replay.Event, kill: Kill) -> bool:
    """Whether the event is of a kind that only a worker makes which took over the run."""
    answered = event.type == EventType.ACTIVITY_RESPONSE and event.key.target == ACTIVITY
    completed = event.type == EventType.RUN_COMPLETED
    return event.key.run in kill.runs and (answered or completed)
