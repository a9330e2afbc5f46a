"""Shows the progress while the driver works.

On a terminal this is one line that is refreshed; elsewhere it is a new line every few seconds.
"""

import contextlib
import logging
import shutil
import time
from collections.abc import Iterator
from typing import TextIO

SPARSE = 2.0  # Seconds between lines that cannot be refreshed.


class Progress:
    """Writes the state, which is replaced, and sentences, which stay."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._live = out.isatty()
        self._due = time.monotonic() + SPARSE
        self._dirty = False

    def show(self, line: str) -> None:
        """Shows the state in place of the last one. Without a terminal, only when a line is due."""
        if self._live:
            width = shutil.get_terminal_size().columns - 1
            self._write(f"\r\x1b[2K{line[:width]}")
            self._dirty = True
        elif time.monotonic() >= self._due:
            self._write(f"{line}\n")
            self._due = time.monotonic() + SPARSE

    def say(self, text: str) -> None:
        """Writes a sentence that stays."""
        self._write(("\r\x1b[2K" if self._dirty else "") + f"{text}\n")
        self._dirty = False

    def _write(self, text: str) -> None:
        self._out.write(text)
        self._out.flush()


@contextlib.contextmanager
def heard(handler: logging.Handler) -> Iterator[None]:
    """Gives the handler everything that the library logs."""
    logger = logging.getLogger("replay")
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


class Remarks(logging.Handler):
    """Shows the library's warnings in the progress, for example that the database is away."""

    def __init__(self, progress: Progress) -> None:
        super().__init__(logging.WARNING)
        self._progress = progress

    def emit(self, record: logging.LogRecord) -> None:
        """As in `logging.Handler`."""
        self._progress.say(f"  {record.getMessage()}")
