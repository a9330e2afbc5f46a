"""Watches the runs until every order is done, and kills up to two workers on the way."""

import time
from dataclasses import dataclass

import replay
from demo.board import ACTIVITY, Board
from demo.fleet import Fleet
from demo.progress import Progress
from replay import EventType

KILLS = 2
PAUSE = 0.1
PATIENCE = 120.0  # Seconds without a new event: then something is wrong.


class Stuck(Exception):
    """The runs make no progress."""


@dataclass
class Kill:
    """A worker that was killed, and how to see that others took over from it."""

    name: str
    last_id: int  # The newest event when it was dead.
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
        """The progress, in one line."""
        survived = sum(kill.survived for kill in self.kills)
        return (
            f"orders done {len(self._board.completed):2}/{len(self._orders)}"
            f" | parts {self._board.published:3}/{self._total}"
            f" | events {self._board.events:5,}"
            f" | kills survived {survived}/{len(self.kills)}"
            f" | {time.monotonic() - self._started:4.1f} s"
        )

    def _read(self) -> list[replay.Event]:
        """The new events of the log; none while the database cannot be reached."""
        try:
            events = self._board.read()
        except replay.Error as error:
            self._progress.show(f"waiting for the database: {error}")
            events = []
        now = time.monotonic()
        if events:
            self._last_event = now
        elif now - self._last_event > PATIENCE:
            raise Stuck(f"no new event came for {PATIENCE:.0f} seconds")
        return events

    def _note(self, events: list[replay.Event]) -> None:
        """Notes, from the log, that another worker took over a run of a killed one."""
        for kill in self.kills:
            if not kill.survived and any(_goes_on(event, kill) for event in events):
                kill.survived = True
                seconds = time.monotonic() - kill.at
                self._progress.say(f"  another worker took over {seconds:.1f} s after the kill")

    def _due(self) -> bool:
        """Whether a kill is due: kills divide the work that was there at the start evenly."""
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
        self._note(self._read())  # Its own last commits do not show that others took over.
        self.kills.append(Kill(name, self._board.last_id, self._board.runs_of(name), at))
        new = self._fleet.start(dead.index)
        self._progress.say(
            f"kill -9 of {name}, which was serving {len(serving[name])} unfinished orders;"
            f" started {new.name}"
        )


def _goes_on(event: replay.Event, kill: Kill) -> bool:
    """Whether the event can only come from a worker that took over the run."""
    answered = event.type == EventType.ACTIVITY_RESPONSE and event.key.target == ACTIVITY
    completed = event.type == EventType.RUN_COMPLETED
    return event.key.run in kill.runs and (answered or completed)
