"""The fixture database: one of each thing that a log can hold, as SQL that fills an empty SQLite.

fixture.txt says how it came about, and how it goes on.  After a change of the format that is meant,

    python -m tests.drivers.fixture

writes fixture.sql and what fixture.txt prints again.
"""

from __future__ import annotations

import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

from tests.drivers.run import commands_of, with_answers
from tests.scenario import Stage, expect_failures

FOLDER = Path(__file__).parent


def make(text: str) -> tuple[str, str]:
    """Return the database that the first block leaves, as SQL, and the text with what it prints."""
    begin, _, rest = text.partition("\n\n")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "fixture.db"
        begun = perform(file, begin)
        with closing(sqlite3.connect(file)) as connection:
            with connection:  # leave out what depends on the process and on chance
                connection.execute("UPDATE replay_cursors SET owner = '', lease_until = NULL")
                connection.execute("UPDATE replay_parked SET next_at = '2030-01-01 00:00:03.000'")
                id = "0123456789abcdef0123456789abcdef"
                connection.execute("UPDATE replay_meta SET value = ? WHERE name = 'log_id'", (id,))
            dump = as_sql(connection)
        load(dump, again := Path(folder) / "again.db")
        return dump, f"{begun}\n{perform(again, rest)}"


def perform(file: Path, text: str) -> str:
    """Perform commands on a file; the text with what they print."""
    with Stage(f"sqlite:///{file}") as stage:
        return with_answers(text, map(stage.do, commands_of(text)))


def load(dump: str, file: Path) -> None:
    """Make a database from SQL, in a file that does not exist yet."""
    with closing(sqlite3.connect(file)) as connection:
        connection.executescript(dump)


def as_sql(connection: sqlite3.Connection) -> str:
    """A database as SQL."""
    return "\n".join(connection.iterdump()) + "\n"


def main() -> None:
    """Write both files again."""
    expect_failures()
    text = FOLDER / "fixture.txt"
    dump, printed = make(text.read_text(encoding="utf-8"))
    (FOLDER / "fixture.sql").write_text(dump, encoding="utf-8")
    text.write_text(printed, encoding="utf-8")


if __name__ == "__main__":
    main()
