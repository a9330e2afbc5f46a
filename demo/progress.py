"""What the driver shows while it works.

On a terminal it is one line that refreshes; elsewhere, a line now and then.
"""

import contextlib
import logging
import shutil
import time
from collections.abc import Iterator
from typing import TextIO

SPARSE = 2.0  # Seconds between lines where they cannot refresh.


class Progress:
    """Writes the state of things, and between it sentences that stay."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._live = out.isatty()
        self._due = time.monotonic() + SPARSE
        self._dirty = False

    def show(self, line: str) -> None:
        """The state of now: replaces the one before it, or is left out where none is due yet."""
        if self._live:
            width = shutil.get_terminal_size().columns - 1
            self._write(f"\r\x1b[2K{line[:width]}")
            self._dirty = True
        elif time.monotonic() >= self._due:
            self._write(f"{line}\n")
            self._due = time.monotonic() + SPARSE

    def say(self, text: str) -> None:
        """Something that happened: it stays."""
        self._write(("\r\x1b[2K" if self._dirty else "") + f"{text}\n")
        self._dirty = False

    def _write(self, text: str) -> None:
        self._out.write(text)
        self._out.flush()


@contextlib.contextmanager
def heard(handler: logging.Handler) -> Iterator[None]:
    """Has the handler get what the library logs."""
    logger = logging.getLogger("replay")
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


class Remarks(logging.Handler):
    """Has the library's warnings stand among the progress, such as that the database is away."""

    def __init__(self, progress: Progress) -> None:
        super().__init__(logging.WARNING)
        self._progress = progress

    def emit(self, record: logging.LogRecord) -> None:
        """As in `logging.Handler`."""
        self._progress.say(f"  {record.getMessage()}")
