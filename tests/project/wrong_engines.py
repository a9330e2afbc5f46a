"""Wrong answers to the steps of *build your own*, each of which the check of its step refuses.

Each one is the solution with a few lines changed.  A number such as P7 names what real systems
shipped: see docs/pitfalls.md.
"""

from __future__ import annotations

from typing import NamedTuple


class Wrong(NamedTuple):
    """A wrong answer: texts of the solution with what stands there instead, and a claim."""

    step: int
    name: str
    claim: str
    changes: tuple[tuple[str, str], ...]


def wrong(step: int, name: str, claim: str, *texts: str) -> Wrong:
    """A wrong answer, of texts in turn: what the solution has, what stands there instead."""
    return Wrong(step, name, claim, tuple(zip(texts[::2], texts[1::2], strict=True)))


INSERT = """sql = \"\"\"INSERT INTO events (type, key, iteration, time, value) SELECT ?, ?, ?, ?, ?
            WHERE NOT EXISTS (SELECT 1 FROM events WHERE type = ? AND key = ?)\"\"\"
        return self.db.execute(sql, (*row, value, event.type, event.key)).rowcount == 1
"""
PLAIN = "INTO events (type, key, iteration, time, value) VALUES (?, ?, ?, ?, ?)"
TRANSACTION = """        self.db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self.db.execute("COMMIT")
        except BaseException:
            self.db.execute("ROLLBACK")
            raise
"""
REQUEST = """        if self.made > len(self.requests):
            self._add(New(REQUEST, wanted, call.value))
        elif self.requests[self.made - 1].key != wanted:
            has = self.requests[self.made - 1]
            raise HistoryMismatch(f"the history has {has.key} (event {has.id}), the code {wanted}")
"""
CURSOR = """        with self.log.transaction():
            sql = "INSERT OR REPLACE INTO cursors (name, position) VALUES (?, ?)"
            self.log.db.execute(sql, (self.name, position))
            self.write(writes)
"""
MOVE = """            if self.log.db.execute(sql, values).rowcount != 1:
                raise Fenced(f"{self.name} belongs to another process")
"""
FENCE = """        sql = \"\"\"INSERT INTO events (id, type, key, iteration, time, value)
            VALUES (?, ?, ?, '', ?, 'null') ON CONFLICT (id) DO NOTHING\"\"\"
        with self.transaction():
            for id in range(first, end):
                self.db.execute(sql, (id, NOOP, f"replay_noop/{id}", self.now()))
"""
READ = """                if event.id != after + 1:
                    gap = event.id
                    break
"""

WRONG = [
    # 0: the log
    wrong(0, "no unique index, no look", "once", INSERT,
          f'return self.db.execute("INSERT {PLAIN}", (*row, value)).rowcount == 1\n',
          ", UNIQUE (type, key))", ")"),
    wrong(0, "the last one wins", "once", INSERT,
          f'return self.db.execute("REPLACE {PLAIN}", (*row, value)).rowcount == 1\n'),
    wrong(0, "a duplicate uses up an id", "in_order", INSERT,
          f'return self.db.execute("INSERT OR IGNORE {PLAIN}", (*row, value)).rowcount == 1\n'),
    wrong(0, "unique by key alone", "told_apart", "UNIQUE (type, key)", "UNIQUE (key)"),
    wrong(0, "P8: a collation that folds case", "told_apart",
          "key TEXT NOT NULL,", "key TEXT NOT NULL COLLATE NOCASE,"),
    wrong(0, "every event for itself", "all_or_nothing", TRANSACTION, "        yield\n"),
    wrong(0, "no rollback", "refused", '            self.db.execute("ROLLBACK")\n', ""),
    wrong(0, "look first, insert later", "two_at_once", TRANSACTION, "        yield\n", INSERT,
          'found = "SELECT 1 FROM events WHERE type = ? AND key = ?"\n'
          "        if self.db.execute(found, (event.type, event.key)).fetchone():\n"
          "            return False\n"
          f'        return self.db.execute("INSERT {PLAIN}", (*row, value)).rowcount == 1\n'),
    wrong(0, "commits later, for speed", "kept",
          'self.db.execute("COMMIT")', "pass",
          'self.db.execute("BEGIN IMMEDIATE")',
          'self.db.in_transaction or self.db.execute("BEGIN IMMEDIATE")'),
    # 1: replay
    wrong(1, "does all again", "goes_on", "event.key not in answered", "True"),
    wrong(1, "one answer for all calls of a target", "told_apart",
          'self.counts[place] += 1', 'self.counts[place] += 0'),
    wrong(1, "answers that have not come yet", "told_apart",
          "if event.type == RESPONSE and event.id <= upto", "if event.type == RESPONSE"),
    wrong(1, "answers in the order of arrival", "told_apart",
          "answers = [self._answer(event) for event in found if event is not None]",
          "arrived = sorted((e for e in found if e), key=lambda event: event.id)\n"
          "            answers = [self._answer(event) for event in arrived]"),
    wrong(1, "P17: the history is not compared", "mismatch", REQUEST,
          "        if self.made > len(self.requests):\n"
          "            self._add(New(REQUEST, wanted, call.value))\n"),
    wrong(1, "what is left of the history is not missed", "mismatch",
          "if self.made < len(self.requests):", "if False:"),
    wrong(1, "P18: the function can catch its suspension", "unseen",
          "                    generator.close()\n",
          "                    self._end(generator.throw(RuntimeError()))\n"
          "                return [*self.added, New(OUTPUT, f'{self.created.key}/swallowed/0')]\n"),
    wrong(1, "the result is not stored", "same_log",
          'self._emit("replay_result", result)', "pass"),
    wrong(1, "None is a result", "same_log", "if result is not None:", "if True:"),
    # 2: activities
    wrong(2, "a new key for each attempt", "one_key",
          "Attempt(event.key)", "Attempt(str(time.time_ns()))"),
    wrong(2, "the key is the value", "many_keys",
          "Attempt(event.key)", 'Attempt("charge-%s" % event.value)'),
    wrong(2, "the key lacks the run", "many_keys",
          "Attempt(event.key)", 'Attempt("-".join(event.key.split("/")[4:]))'),
    wrong(2, "the response comes first", "at_least_once",
          "        value = self.function(",
          "        self.log.append([New(RESPONSE, event.key, {'value': None})])\n"
          "        value = self.function("),
    wrong(2, "P12: executed again after each start", "not_again",
          "if self.log.find(RESPONSE, event.key):", "if False:"),
    wrong(2, "each process records its own response", "recorded_once",
          'New(RESPONSE, event.key, {"value": value})',
          'New(RESPONSE, f"{event.key}/{id(self)}", {"value": value})'),
    wrong(2, "answers the requests of others", "apart",
          "return (namespace, target) == self.place", "return True"),
    # 3: cursors
    wrong(3, "P7: the position, then the events", "counted_once", CURSOR,
          CURSOR.replace("            self.write(writes)\n", "        with self.log.transaction():\n"
                         "            self.write(writes)\n")),
    wrong(3, "P7: the events, then the position", "counted_once", CURSOR,
          "        with self.log.transaction():\n            self.write(writes)\n"
          + CURSOR.replace("            self.write(writes)\n", "")),
    wrong(3, "P7: one statement after the other", "same_log", CURSOR,
          CURSOR.replace("        with self.log.transaction():\n", "        if True:\n")),
    wrong(3, "the changes by themselves", "counted_once",
          "            self.write(writes)\n",
          "            self.write([each for each in writes if isinstance(each, New)])\n"
          "        self.write([each for each in writes if not isinstance(each, New)])\n"),
    wrong(3, "one position for all names", "goes_on",
          "(self.name, position)", '("consumer", position)', "(name,)", '("consumer",)'),
    wrong(3, "the position is only in memory", "goes_on",
          "            self.log.db.execute(sql, (self.name, position))\n", ""),
    wrong(3, "P7: moves on before it has stored", "not_lost",
          "        with self.log.transaction():\n            sql = \"INSERT OR",
          "        self.position = position\n"
          "        with self.log.transaction():\n            sql = \"INSERT OR"),
    wrong(3, "an error passes the event over", "not_lost",
          "self.commit(event.id, self.handle(event))",
          "self.position = event.id\n        self.commit(event.id, self.handle(event))"),
    # 4: sleep
    wrong(4, "P9: counted from when it is read", "in_time",
          "event.time + event.value", "self.log.now() + event.value"),
    wrong(4, "P9: cut to whole seconds", "whole_time",
          "math.ceil(seconds * 1000)", "int(seconds) * 1000"),
    wrong(4, "wakes too early", "in_time", "due <= ?", "due <= ? + 999"),
    wrong(4, "wakes too late", "in_time", "due <= ?", "due < ?"),
    wrong(4, "P6: finished sleeps are answered again", "answered_once",
          "SET done = 1", "SET done = 0"),
    wrong(4, "marked before it is answered", "answered_once",
          "        self.commit(self.position, [New(RESPONSE, row[0], {}), done])",
          "        self.log.db.execute(*done)\n"
          "        self.commit(self.position, [New(RESPONSE, row[0], {})])"),
    wrong(4, "in the order of the requests", "one_by_one", "ORDER BY due", "ORDER BY rowid"),
    wrong(4, "a table that ends with its process", "outlives",
          "        return [Change(sql, (event.key, event.time + event.value))]",
          '        columns = "key TEXT PRIMARY KEY, due INTEGER, done INTEGER DEFAULT 0"\n'
          '        self.log.db.execute(f"CREATE TEMP TABLE IF NOT EXISTS sleeps ({columns})")\n'
          "        return [Change(sql, (event.key, event.time + event.value))]"),
    # 5: signals
    wrong(5, "P7: in any order", "in_order", "taken_by IS NULL ORDER BY id",
          "taken_by IS NULL ORDER BY external_id"),
    wrong(5, "P7: the mark is a second transaction", "taken_once",
          "return [New(RESPONSE, key, value), closed, taken]",
          "self.log.db.execute(*taken)\n        return [New(RESPONSE, key, value), closed]"),
    wrong(5, "P8: the names run together", "only_its_own",
          "(key(namespace, workflow, run), type", "(key(namespace, workflow + run), type",
          '"/".join(run), type', '"/".join([run[0], run[1] + run[2]]), type'),
    wrong(5, "P19: the present time decides", "timeouts",
          "signals.time <= until", "?1 <= until",
          "self.log.db.execute(sql).fetchone()",
          "self.log.db.execute(sql, (self.log.now(),)).fetchone()",
          "if row is None or", "if row is None or self.log.now() > until or"),
    wrong(5, "the type does not count", "only_its_own",
          "run = ?1 AND type = ?2 AND time", "run = ?1 AND ?2 AND time"),
    wrong(5, "sent again, taken again", "only_its_own",
          "WHERE NOT EXISTS (SELECT 1 FROM signals WHERE (run, type, external_id) = (?1, ?2, ?3))",
          "WHERE 1", "UNIQUE (run, type, external_id)", "CHECK (1)"),
    wrong(5, "an await stays open", "early",
          '"UPDATE awaits SET open = 0 WHERE key = ?"',
          '"UPDATE awaits SET open = 1 WHERE key = ?"'),
    wrong(5, "an await goes on after its answer", "not_taken",
          '"UPDATE awaits SET open = 0 WHERE key = ?"',
          '"UPDATE awaits SET until = until + 86400000 WHERE key = ?"',
          '"UPDATE awaits SET open = 0 WHERE key > ?', '"UPDATE awaits SET open = 1 WHERE key > ?'),
    wrong(5, "the end keeps a signal that came too late", "freed",
          "SET taken_by = NULL WHERE", "SET taken_by = taken_by WHERE"),
    wrong(5, "the end leaves an await open", "freed",
          '"UPDATE awaits SET open = 0 WHERE key > ?', '"UPDATE awaits SET open = 1 WHERE key > ?'),
    # 6: owners
    wrong(6, "P15: only the lease is looked at", "any_moment", MOVE,
          "            self.log.db.execute(sql, values)\n",
          "WHERE name = ? AND owner = ? AND position = ?", "WHERE name = ?",
          "self.name, self.owner, self.stored)", "self.name)",
          "        lease = self.log.now() + LEASE\n        with self.log.transaction():\n",
          "        lease = self.log.now() + LEASE\n"
          "        if self.lease <= self.log.now():\n"
          '            raise Fenced("the lease has run out")\n'
          "        with self.log.transaction():\n"),
    wrong(6, "P15: the number of rows is not looked at", "paused", MOVE,
          "            self.log.db.execute(sql, values)\n"),
    wrong(6, "P15: look first, write later", "any_moment", MOVE,
          "            self.log.db.execute(sql, values)\n",
          "        lease = self.log.now() + LEASE\n        with self.log.transaction():\n",
          "        lease = self.log.now() + LEASE\n"
          '        sql = "SELECT owner FROM cursors WHERE name = ?"\n'
          "        if self.log.db.execute(sql, (self.name,)).fetchone()[0] != self.owner:\n"
          '            raise Fenced("the name is lost")\n'
          "        with self.log.transaction():\n"),
    wrong(6, "P15: owners with the same id", "paused",
          "self.owner = uuid.uuid4().hex", 'self.owner = "host-1"',
          "AND owner = ? AND position = ?", "AND owner = ? AND position >= 0 * ?"),
    wrong(6, "keeps the position that it had", "comes_back",
          "self.position = self.stored = row[0]",
          "self.position = self.stored = self.stored or row[0]"),
    wrong(6, "P16: stops when it has lost the name", "paused",
          "            self.lease = 0\n            return False\n\n    def act",
          "            raise\n\n    def act"),
    wrong(6, "takes a name that is owned", "stands_by",
          "(owner = ? OR lease <= ?)", "(owner = ? OR lease >= 0 * ?)"),
    wrong(6, "renews only with a commit", "renews",
          "self.lease > now + LEASE // 2", "self.lease > 0"),
    wrong(6, "gives up what is not its own", "gives_up",
          "WHERE name = ? AND owner = ?\"\n        self.log.db.execute(sql, (self.name, self.owner))",
          "WHERE name = ?\"\n        self.log.db.execute(sql, (self.name,))"),
    # 7: gaps
    wrong(7, "P14: waits, then goes on", "not_skipped", FENCE,
          "        time.time()\n", READ,
          "                if event.id != after + 1 and event.time > self.now():\n"
          "                    gap = event.id\n                    break\n"),
    wrong(7, "P14: a gap that is old enough", "at_once", READ,
          "                if event.id != after + 1 and event.time > self.now() - 10_000:\n"
          "                    return\n" + READ),
    wrong(7, "P2: not at the beginning", "from_the_start",
          "if event.id != after + 1:", "if after and event.id != after + 1:"),
    wrong(7, "P2: only the next id", "from_the_start",
          "range(first, end)", "range(end - 1, end)",
          "            self.fence(after + 1, gap)\n",
          "            self.fence(after + 1, gap)\n            after = gap - 1\n"),
    wrong(7, "P14: does not read again", "came_in_time",
          "            self.fence(after + 1, gap)\n",
          "            self.fence(after + 1, gap)\n            after = gap - 1\n"),
    wrong(7, "a gap that another reader has filled", "two_readers",
          " ON CONFLICT (id) DO NOTHING", ""),
    wrong(7, "remembers the gap, and fills it not", "not_skipped", FENCE,
          "        self.__dict__.setdefault('gaps', set()).update(range(first, end))\n",
          "if event.id != after + 1:",
          "if set(range(after + 1, event.id)) - self.__dict__.get('gaps', set()):"),
    wrong(7, "asks whether the event has come", "came_in_time", FENCE,
          '        sql = "SELECT max(id) FROM events WHERE id < ?"\n'
          "        if self.db.execute(sql, (end,)).fetchone()[0] in (None, first - 1):\n"
          + "\n".join("    " + line for line in FENCE.replace(
              " ON CONFLICT (id) DO NOTHING", "").splitlines()) + "\n"),
    # 8: failure
    wrong(8, "P4: what your code raises stops all", "others_go_on",
          "except Poison as poison:", "except ZeroDivisionError as poison:"),
    wrong(8, "tries again at once", "tried_again",
          "self.log.now() + round(pause)", "self.log.now()"),
    wrong(8, "the count starts again", "tried_again", "row[1] + 1", "2"),
    wrong(8, "parks each event of a parked run", "passed_over",
          "if self.attempt == 1 and self.is_parked(event.iteration):", "if False:"),
    wrong(8, "forgets what it passed over", "passed_over",
          "max(event.id, self.position)", "event.id"),
    wrong(8, "mended code waits for the old pause", "passed_over",
          "if row and not self.lease and self.eager:", "if False:"),
    wrong(8, "a pause without end", "patience", "min(LONGEST, 1000 * 2", "max(1000, 1000 * 2"),
    wrong(8, "taken away by itself", "one_transaction",
          "return [*writes, Change(sql, (self.name, event.id))] if attempt > 1 else writes",
          "self.log.db.execute(sql, (self.name, event.id))\n        return writes"),
    wrong(8, "an error of the database is yours", "not_yours",
          "except Poison as poison:", "except Exception as poison:",
          "poison.error", "getattr(poison, 'error', poison)"),
    wrong(8, "Ctrl-C is yours", "not_yours",
          "    except Exception as error:\n        raise Poison(error)",
          "    except BaseException as error:\n        raise Poison(error)"),
    wrong(8, "P18: except Exception swallows a cancel", "cancels",
          "class Cancelled(BaseException)", "class Cancelled(Exception)"),
    wrong(8, "a cancel at each wait", "cancels",
          'answer, self.cancel = Cancelled(self.cancel.value["cancel"]), None',
          'answer = Cancelled(self.cancel.value["cancel"])'),
    wrong(8, "a failure is parked", "fails",
          "except (Failed, Cancelled) as failure:", "except Cancelled as failure:"),
    wrong(8, "one attempt too many", "gives_up",
          "self.attempt < self.attempts", "self.attempt <= self.attempts"),
    wrong(8, "no bound", "bounded", "if len(self.added) == MOST:", "if False:"),
    # 9: restart
    wrong(9, "the history goes on", "linear",
          "                return self._end(end.value)\n                # done",
          "                if isinstance(end.value, Restart):\n"
          "                    generator, answer = self.function(end.value.value), None\n"
          "                    continue\n"
          "                return self._end(end.value)\n                # done"),
    wrong(9, "P3: the next iteration by itself", "joined",
          "return [*self.added, New(COMPLETED, self.created.key), following]",
          "return [*self.added, New(COMPLETED, self.created.key)]",
          "        with user_code():\n            return [*Replay(",
          "        ended = self.log.find(COMPLETED, event.iteration)\n"
          "        with user_code():\n            return [] if ended else [*Replay("),
    wrong(9, "a restart is a result", "joined",
          "        if isinstance(result, Restart):\n            *run,",
          "        if isinstance(result, Restart):\n"
          "            self._emit('replay_result', result.value)\n            *run,"),
    wrong(9, "10 is less than 9", "one_run",
          "iteration < ? ORDER BY id DESC", "iteration < ? ORDER BY iteration DESC"),
    wrong(9, "a restart is no end", "asked",
          "if self.made < len(self.requests):",
          "if self.made < len(self.requests) and not isinstance(result, Restart):"),
    wrong(9, "a name is markup", "only_text",
          'name = html.escape("/".join(event.key.split("/")[4:]))',
          'name = "/".join(event.key.split("/")[4:])'),
    wrong(9, "a value is markup", "only_text", "<td>{html.escape(text)}", "<td>{text}"),
    wrong(9, "an output is a bar", "timeline",
          "begin, end, event.time, json", "begin, end, end, json"),
]  # fmt: skip
