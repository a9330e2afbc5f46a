"""The ledger of truss, the tool by which a Go system migrates its database.

truss stores a hash of all tables' definitions with each migration, in the table ``migrations``.  It
refuses to migrate any further if the tables no longer have the last hash.  So whatever adds a table
or an index has to store the new hash, or the next deployment of the Go system fails.

Left to `mysql`: the tables.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager

from .database import Database, Statement


def schema_hash(database: Database) -> str:
    """Hash the definitions of all tables and views of a database, as truss does: hexadecimal."""
    names = [row[0] for row in database.query("SHOW TABLES")]
    made = [database.query(f"SHOW CREATE TABLE `{name}`")[0][1] for name in names]
    # The next id is no part of a definition.
    text = "\n\n".join(re.sub(r"\sAUTO_INCREMENT=\d+", "", each.strip()) for each in made)
    return hashlib.sha256(text.encode()).hexdigest()


def migrates(database: Database) -> bool:
    """Whether truss migrates this database, so that a Go system uses it."""
    return {"id", "query_hash", "schema_hash"} <= database._columns("migrations")


@contextmanager
def amended(database: Database) -> Iterator[None]:
    """Store the new hash with truss's last migration after the block has changed tables.

    If the last hash does not fit even before the block, somebody else has changed the tables.  Then
    it stays, so that truss goes on saying so.
    """
    theirs = migrates(database)
    before = schema_hash(database) if theirs else ""
    yield
    query = "SELECT id, schema_hash FROM migrations ORDER BY id DESC LIMIT 1"
    for id, last in database.query(query) if theirs else ():
        if last == before:
            update = "UPDATE migrations SET schema_hash = ? WHERE id = ?"
            database.write([Statement(update, (schema_hash(database), id))])
