"""Right answers to *build your own* that differ from the solution: each check accepts them."""

from __future__ import annotations

from tests.project.wrong_engines import INSERT, Wrong, wrong

PLAIN = "INSERT INTO events (type, key, iteration, time, value) VALUES (?, ?, ?, ?, ?)"
DONE = "UPDATE sleeps SET done = 1 WHERE key = ?"
STYLE = "margin-left:{left:.1f}%;width:{width:.1f}%"
ROLLBACK = '            self.db.execute("ROLLBACK")\n'


def right(step: int, name: str, *texts: str) -> Wrong:
    """A right answer, in the form of the wrong ones; all claims hold for it."""
    return wrong(step, name, "", *texts)


RIGHT = [
    right(0, "a rollback only if there is a transaction", ROLLBACK,
          "            if self.db.in_transaction:\n    " + ROLLBACK),
    right(0, "the refusal of the index is caught", INSERT,
          "try:\n"
          f'            self.db.execute("{PLAIN}", (*row, value))\n'
          "        except sqlite3.IntegrityError:\n"
          "            return False\n"
          "        return True\n"),
    right(0, "look first, in the transaction, with a cursor", INSERT,
          "cursor = self.db.cursor()\n"
          '        cursor.execute("SELECT 1 FROM events WHERE type = ? AND key = ?", event[:2])\n'
          "        if cursor.fetchone():\n"
          "            return False\n"
          f'        cursor.execute("{PLAIN}", (*row, value))\n'
          "        return True\n"),
    right(4, "an answered sleep is deleted", DONE, "DELETE FROM sleeps WHERE key = ?"),
    right(5, "the last moment belongs to the await", "open AND until <= ?", "open AND until < ?"),
    right(5, "a mark of another name", "taken_by", "given_to"),
    right(6, "the last moment belongs to the owner",
          "(owner = ? OR lease <= ?)", "(owner = ? OR lease < ?)"),
    right(9, "the width first", STYLE, "width: {width}%; margin-left: {left}%;"),
]  # fmt: skip
