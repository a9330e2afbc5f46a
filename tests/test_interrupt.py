"""Ctrl-C: a call that is interrupted anywhere leaves its client as it should be."""

from __future__ import annotations

import _weakrefset
import dis
import gc
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from queue import SimpleQueue
from types import CodeType, FrameType
from typing import Any

from replay import Client, Event, EventType, connect, consume, register_activity
from tests.example_pb2 import Int
from tests.support import LogLines, rows

LIMIT = 20  # seconds until something that has to happen has not happened

#: The driver of a server has thousands of places where a call may be interrupted: every so many.
SPARSE = 7
#: Behind these instructions Python looks whether a signal has come.
LOOKS = {"CALL", "CALL_FUNCTION_EX", "CALL_KW", "JUMP_BACKWARD", "RESUME"}


def interrupt() -> None:
    """Do what Ctrl-C does."""
    raise KeyboardInterrupt


class Interrupt:
    """Handles a signal in a call, at the n-th place where it could be noticed: raises, say."""

    def __init__(self, count: int, handler: Callable[[], None] = interrupt) -> None:
        self._left = count
        self._handler = handler

    def during(self, call: Callable[[], object]) -> bool:
        """Call it; whether it was interrupted."""
        before = sys.gettrace()
        gc.disable()  # what it calls is not this call's
        sys.settrace(self._enter)
        try:
            call()
        except KeyboardInterrupt:
            pass
        finally:
            sys.settrace(before)
            gc.enable()
        return self._left < 0

    def _enter(self, frame: FrameType, what: str, value: object) -> Any:
        if frame.f_code.co_filename == _weakrefset.__file__:
            return None  # called when something is freed: Python itself loses what it raises
        frame.f_trace_lines, frame.f_trace_opcodes = False, True
        code = frame.f_code.co_code
        last, before = "", handler(frame)

        def trace(frame: FrameType, what: str, value: object) -> Any:
            nonlocal last, before
            if what == "opcode":
                # Python raises where it looked.  Here it is one instruction later, which is the
                # same unless a try or a with ends in between.
                at = handler(frame)
                self._left -= last in LOOKS and at == before
                if self._left == 0:
                    self._left = -1
                    self._handler()
                last, before = dis.opname[code[frame.f_lasti]], at
            return trace

        return trace


@cache
def handlers(code: CodeType) -> list[tuple[int, int, int]]:
    """Which instructions of a function are within a try or a with: first, last, handler."""
    entries = dis.Bytecode(code).exception_entries  # type: ignore[attr-defined]
    return [(each.start, each.end, each.target) for each in entries]


def handler(frame: FrameType) -> int | None:
    """Where a function goes on if the instruction that it has come to raises."""
    for start, end, target in handlers(frame.f_code):
        if start <= frame.f_lasti < end:
            return target
    return None


def everything(client: Client, run: str, after: int) -> None:
    """What a program's main thread asks of its client."""
    client.run_workflow("ns", "flow", run, Int(value=1))
    client.signal_run("ns", "flow", run, 0, Int(value=1), "once")
    for _ in client.stream("ns", "flow", run, after=after, to_head=True):
        pass
    try:
        client.await_completion("ns", "flow", run, timeout=0.0001)
    except TimeoutError:
        return
    raise AssertionError("nobody completes runs here")


@contextmanager
def connected(url: str) -> Iterator[Client]:
    """A client that has to close in time, without keeping the suite from its end if it does not."""
    client = connect(url)
    try:
        yield client
    finally:
        closing = threading.Thread(target=client.close, daemon=True)
        closing.start()
        closing.join(LIMIT)
    assert not closing.is_alive()


@contextmanager
def in_time() -> Iterator[None]:
    """What the block calls has to return: a call that hangs is broken off, and fails the test."""

    def break_off(number: int, frame: FrameType | None) -> None:
        raise AssertionError("a call hangs")

    before = signal.signal(signal.SIGALRM, break_off)
    signal.alarm(LIMIT)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def test_an_interrupted_call_hurts_nobody_else(url: str) -> None:
    """P1, L6: wherever Ctrl-C comes, other threads and later calls go on as if it had not."""
    seen: SimpleQueue[Event] = SimpleQueue()
    with LogLines() as log, connected(url) as client:
        consume(client, "c", seen.put)
        interrupted, number, last = True, 0, 0
        while interrupted:
            number += 1 if url.startswith("sqlite:") else SPARSE
            call = partial(everything, client, f"r{number}", last)
            with in_time():
                interrupted = Interrupt(number).during(call)
                client.run_workflow("ns", "flow", f"r{number}", Int(value=1))
            event = seen.get(timeout=LIMIT)
            assert (event.type, event.key.run) == (EventType.RUN_CREATED, f"r{number}")
            last = event.id
    assert log.lines == []


def test_h3_an_interrupted_stop_of_shards_strands_nothing(tmp_path: Path) -> None:
    """H3, L7: wherever Ctrl-C comes, the next call ends all shards, and they can start again."""
    with connected(f"sqlite:///{tmp_path / 'replay.db'}?lease=3600") as client:
        consumer = register_activity(client, "ns", print, name="act", shards=2, start=False)
        owned = "SELECT id FROM replay_cursors WHERE id LIKE 'activity/%' AND owner <> ''"
        interrupted, number = True, 0
        while interrupted:
            number += SPARSE
            consumer.start()
            with in_time():
                while len(rows(client, owned)) < 2:
                    time.sleep(0.001)
                interrupted = Interrupt(number).during(partial(consumer.stop, LIMIT))
                assert consumer.stop(LIMIT)
            assert rows(client, owned) == []
            assert rows(client, "SELECT 1 FROM replay_processes WHERE consumer <> ''") == []
