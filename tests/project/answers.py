"""Answers of learners: small changes of a lesson's solution, wrong ones and other right ones.

The check of the lesson has to refuse each wrong one with the hint that helps, and to accept the
others.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tutorial.lessons import Lesson


class Answer(NamedTuple):
    """Changes of a solution: each text, and what stands in its place; and a part of the hint."""

    lesson: int
    text: str
    changes: Sequence[tuple[str, str]]
    hint: str = ""

    def write(self, lesson: Lesson) -> str:
        """Write it into a lesson's folder; return its name for `--try`."""
        text = (lesson.folder / "solution.py").read_text(encoding="utf-8")
        for old, new in self.changes:
            assert old in text, f"{self}: {old}"
            text = text.replace(old, new, 1)
        name = "".join(c if c.isalnum() else "_" for c in self.text.lower())[:40]
        Path(lesson.folder / f"try_{name}.py").write_text(text, encoding="utf-8")
        return name


def imports(module: str) -> tuple[str, str]:
    """The change that imports a module."""
    return "import replay\n", f"import {module}\nimport replay\n"


SAY, NAP = 'ctx.exec_activity(say, f"{word}, {name}!")', "ctx.sleep(timedelta(seconds=1))"
TRANSLATED = 'flow.translate(pb.Word(english="Hello", language=language)).english'
SAID = '        flow.say(pb.Greeting(text=f"{word}, {name.value}!"))\n'
AHOY = 'flow.translate.return_value = pb.Word(english="Ahoy")'
REMIND = "        ctx.exec_activity(remind, guest)\n"
TAPS = '        send(client, run, "espresso", "order-1")\n' * 2
PARCEL = 'f"{loaf.batch}-{loaf.number}"'
BAKE = "        loaf = ctx.exec_activity(bake, number)\n"
EMIT = "        ctx.emit_output(BAKED, loaf)\n"
CONSUME = 'replay.consume(client, "delivery", handle, namespace=NAMESPACE, workflow="bakery")'
HEAD = 'for event in client.stream(NAMESPACE, "bakery", from_head=True):\n            handle(event)'
UNTIL = "datetime.fromtimestamp(due(schedule, number), UTC) - ctx.now()"
SLEEP = f"        ctx.sleep({UNTIL})\n"
LATEST = "    latest = int(now.timestamp() - schedule.anchor) // schedule.period\n"
BID = "        bid = ctx.exec_activity(ticker, None).bid\n"
LOOP = "    for _ in range(ATTEMPTS):\n"
PLACED = "        ctx.emit_output(PLACED, order)\n"
REST = "        ctx.sleep(PATIENCE)\n"
PRICES = "prices = [*window, price][-WIDTH:]"
RESTART = "    ctx.restart(prices)\n"
FITS = "        if claim.offer == offer and claim.provider not in gone:\n            return claim\n"
REFUSE = "        ctx.emit_output(REFUSED, claim)\n"
GONE = "        gone.add(claim.provider)\n"
CLAIM_ID = 'f"{self.name}/{offer.number}"'
DOCUMENT = "replay.register_workflow(client, NAMESPACE, document)"
RENDER = "replay.register_activity(client, NAMESPACE, render, own_number())"
HAND = 'replay.consume(client, "outputs", hand_over, namespace=NAMESPACE)'
HASHED = "[replay.Shard.hashed(m, COUNT) for m in range(COUNT)]"
DEVELOP = "place, shard=shard)"

FAIL = 'raise replay.Failed(f"no trip: {error.text}") from error'
UNDO = "        for part in reversed(begun):\n            ctx.exec_activity(undo, part)\n"
BOOK = "            begun.append(part)\n            ctx.exec_activity(book, part)\n"
ASK = 'if ctx.patched("by-air"):'
FLY, DRIVE = "        ctx.exec_activity(fly, order)\n", "        ctx.exec_activity(drive, order)\n"
THREE = "        assert reminded == [begun + n * WEEK for n in (1, 2, 3)]\n"
GIVEN = '        assert world.client.result(NAMESPACE, "bill", "ada") == "given up"\n'
ONE = "        assert len(reminded) == 1\n"
RESULT = '        assert world.client.result(NAMESPACE, "bill", "ada") == "paid"\n'
PAY = '        world.client.signal_run(NAMESPACE, "bill", "ada", PAID, 100, "payment")\n'

WRONG: Sequence[Answer] = [
    Answer(0, "no sleep", [(NAP, "")], "call ctx.sleep(timedelta(seconds=1)) after"),
    Answer(0, "time.sleep", [imports("time"), (NAP, "time.sleep(1)")], "blocks all runs"),
    Answer(0, "no activity", [(SAY, "say(None, None, word)")], "call it by ctx.exec_activity()"),
    Answer(0, "another greeting", [(SAY, SAY.replace("!", ""))], "call ctx.exec_activity(say"),
    Answer(0, "sleep first", [(SAY, "SAY"), (NAP, SAY), ("SAY", NAP)], "call ctx.sleep(timedelta("),
    Answer(
        1, "no word for the mock", [(AHOY, "")], "which word flow.translate of the mock returns"
    ),
    Answer(1, "no translation", [(TRANSLATED, "WORDS[language]")], "call flow.translate and flow"),
    Answer(
        1, "not the translated word", [(SAID, SAID.replace("{word}", "Hello"))], "say the word that"
    ),
    Answer(1, "said twice", [(SAID, SAID + SAID)], "call flow.translate and flow.say"),
    Answer(1, "nothing said", [(SAID, "")], "call flow.translate and flow.say"),
    Answer(
        2,
        "an id that tells the time",
        [imports("time"), ('"", "order-3"', '"", f"order-{time.time_ns()}"')],
        "order-3 was not sent before",
    ),
    Answer(2, "another id for the second tap", [(TAPS, TAPS[:-4] + 'b")\n')], "the awaits got"),
    Answer(2, "no reminder", [(REMIND, "")], "only None means the timeout"),
    Answer(
        2, "no cappuccino", [('        send(client, run, "cappuccino", "order-2")\n', "")], "the aw"
    ),
    Answer(2, "waits too long", [("(ORDER, SOON)", "(ORDER, LATE)")], "the awaits got"),
    Answer(
        2,
        "empty is none",
        [("if order is None:", "if not order:")],
        "ask whether the order is None",
    ),
    Answer(2, "named usual", [('"", "order-3"', '"tea", "order-3"')], "order the usual in"),
    Answer(3, "one name for all batches", [(PARCEL, 'f"loaf-{loaf.number}"')], "another batch is"),
    Answer(3, "another name each time", [(PARCEL, "str(time.time_ns())")], "the same name"),
    Answer(3, "one name for all of a batch", [(PARCEL, "loaf.batch")], "another loaf"),
    Answer(
        3,
        "announced before it is baked",
        [(BAKE + EMIT, "        ctx.emit_output(BAKED, Loaf(ctx.run, number))\n" + BAKE)],
        "in the loop execute bake, then",
    ),
    Answer(3, "not announced", [(EMIT, "")], "in the loop execute bake, then emit"),
    Answer(3, "no cursor", [(CONSUME, HEAD)], "replay.consume"),
    Answer(4, "no restart", [("ctx.restart(state)", "return")], "call ctx.restart after the loop"),
    Answer(4, "an empty state", [("ctx.restart(state)", "ctx.restart(Till())")], "all that the ne"),
    Answer(4, "cents not counted", [("            state.cents += cents\n", "")], "all that the ne"),
    Answer(4, "a long iteration", [("ROUNDS = 4", "ROUNDS = 99")], "call ctx.restart after the lo"),
    Answer(
        4, "booked twice", [("book, cents)", "book, cents), ctx.exec_activity(book, cents)")], "ROU"
    ),
    Answer(4, "not booked", [("            ctx.exec_activity(book, cents)\n", "")], "all that the"),
    Answer(5, "a clock", [(UNTIL, UNTIL.replace("ctx.now()", "datetime.now(UTC)"))], "clock"),
    Answer(
        5,
        "a period from now",
        [imports("datetime as dt"), (UNTIL, "dt.timedelta(seconds=schedule.period)")],
        "sleep from ctx.now() until due",
    ),
    Answer(
        5,
        "counted from the iteration",
        [("anchor + number *", "anchor + (number - schedule.next) *")],
        "count the periods from the anchor",
    ),
    Answer(5, "nothing skipped", [("range(number, latest)", "range(0)")], "see missed()"),
    Answer(
        5, "skips too much", [("range(number, latest)", "range(number, latest + 1)")], "too early"
    ),
    Answer(5, "skips from 0", [("range(number, latest)", "range(0, latest)")], "`number`"),
    Answer(
        5, "a return that is left", [(SLEEP, f"{SLEEP}        return\n")], "the place of `return`"
    ),
    Answer(6, "folded in twice", [("if event.id > kept.event:", "if True:")], "greater than kept."),
    Answer(6, "no id kept", [("            kept.event = event.id\n", "")], "greater than kept."),
    Answer(6, "no end", [("if event.id <= last:", "if True:")], "up to `last`, and no later ones"),
    Answer(
        6, "added, not subtracted", [("owed[parcel.item] -=", "owed[parcel.item] +=")], "fold()"
    ),
    Answer(6, "not stored", [("            store(path, kept)\n        #", "        #")], "fold()"),
    Answer(7, "time.sleep", [imports("time"), (REST, "        time.sleep(0.5)\n")], "blocks all"),
    Answer(
        7,
        "a random price",
        [imports("random"), ("bid - edge", "bid - edge - random.randrange(3)")],
        "gives each replay another number",
    ),
    Answer(
        7,
        "another price in each process",
        [("bid - edge", "bid - edge - object().__hash__() // 16 % 97")],
        "subtract `edge` from the bid",
    ),
    Answer(
        7, "the bid of long ago", [(BID, ""), (LOOP, BID[4:] + LOOP)], "execute ticker for each"
    ),
    Answer(
        7,
        "not cancelled",
        [("ended = ctx.exec_activity(cancel, order)", "ended = order")],
        "0 cancelled",
    ),
    Answer(7, "not reported", [("            ctx.emit_output(FILLED, ended)\n", "")], "FILLED for"),
    Answer(8, "a window that grows", [("][-WIDTH:]", "]")], "keep the last WIDTH of them"),
    Answer(8, "the old window", [(RESTART, RESTART.replace("prices", "window"))], "`pr"),
    Answer(8, "no restart", [(RESTART, "")], "ctx.restart"),
    Answer(
        8,
        "a lost sample",
        [("    price =", '    ctx.exec_activity(sample, "gold")\n    price =')],
        "restart with `prices`",
    ),
    Answer(8, "the first prices", [("][-WIDTH:]", "][:WIDTH]")], "restart with `prices`"),
    Answer(9, "an id that tells the time", [(CLAIM_ID, "str(time.time_ns())")], "external id"),
    Answer(9, "an id without the offer", [(CLAIM_ID, "self.name")], "offer the job again"),
    Answer(9, "nobody is gone", [(" and claim.provider not in gone", "")], "nobody confirms it"),
    Answer(9, "no refusal", [(FITS + REFUSE, FITS)], "take the claims one by one"),
    Answer(9, "not confirmed", [("if confirmed(ctx, claim):", "if True:")], "nobody confirms it"),
    Answer(9, "a break that is left", [(GONE, f"{GONE}        break\n")], "the place of `break`"),
    Answer(9, "an id without the name", [(CLAIM_ID, "str(offer.number)")], "put the provider's"),
    Answer(9, "any offer", [("claim.offer == offer and ", "")], "refuse those of an older offer"),
    Answer(
        10, "a workflow that renders", [(DOCUMENT, f"{DOCUMENT}; {RENDER}")], "process has done it"
    ),
    Answer(10, "outputs that render", [(HAND, f"{RENDER}; {HAND}")], "only `activities` may"),
    Answer(10, "nobody renders", [(f"    {RENDER}\n", "")], "register the activity in its process"),
    Answer(10, "nobody listens", [(HAND, "print()")], "consume the outputs in the process"),
    Answer(
        10, "listens elsewhere", [(HAND, HAND.replace("NAMESPACE", '"other"'))], "consume the outp"
    ),
    Answer(11, "a shard is missing", [("range(COUNT)", "range(1)")], "serve all shards"),
    Answer(11, "no shards", [(DEVELOP, "place)")], "serve all shards"),
    Answer(11, "other shards", [(HASHED, HASHED.replace("COUNT", "2"))], "with shard=shard"),
    Answer(11, "workers", [(DEVELOP, "place, shard=shard, workers=4)")], "workers"),
    Answer(11, "half of them", [("for shard in shards:", "for shard in shards[:1]:")], "serve all"),
    Answer(12, "undone in order", [("reversed(begun)", "begun")], "in the opposite order"),
    Answer(
        12,
        "noted afterwards",
        [(BOOK, "\n".join(reversed(BOOK.rstrip().split("\n"))) + "\n")],
        "note a booking before you ask for it",
    ),
    Answer(12, "not undone", [(UNDO, "")], "in the opposite order"),
    Answer(12, "no failure", [(FAIL, 'return "sorry"')], "raise replay.Failed after"),
    Answer(
        12,
        "always undone",
        [('    return "', UNDO.replace("        for", "    for") + '    return "')],
        "undo only",
    ),
    Answer(
        12,
        "not an activity",
        [("ctx.exec_activity(undo, part)", "undo(None, None, part)")],
        "call it by ctx",
    ),
    Answer(
        12,
        "not booked",
        [(BOOK, "            begun.append(part)\n")],
        "call ctx.exec_activity(book",
    ),
    Answer(13, "no question", [(ASK, "if True:")], "has to ask for the same as the old"),
    Answer(13, "drives on", [(ASK, "if False:")], "where ctx.patched returns True, call fly"),
    Answer(
        13, "the other way round", [(ASK, ASK.replace("if", "if not"))], "has to ask for the same"
    ),
    Answer(
        13, "no van", [("(sign, fly, drive)", "(sign, fly)")], "each activity has to be registered"
    ),
    Answer(13, "both", [(FLY, FLY + DRIVE)], "where ctx.patched returns True, call fly"),
    Answer(
        13, "by chance", [imports("random"), (ASK, "if random.random() < 0.5:")], "another number"
    ),
    Answer(
        14, "counted only", [(THREE, "        assert len(reminded) == 3\n")], "assert when each"
    ),
    Answer(14, "nobody pays", [(PAY, "")], "which of your assertions"),
    Answer(14, "nothing asserted of it", [(ONE + RESULT, "")], "send PAID to the run"),
    Answer(14, "nothing asserted of three", [(THREE + GIVEN, "")], "assert when each reminder"),
    Answer(14, "other weeks", [("(1, 2, 3)", "(1, 2, 4)")], "which of your assertions"),
    Answer(
        14,
        "only the first",
        [(THREE + GIVEN, "        assert reminded[0] == begun + WEEK\n")],
        "assert that there are three",
    ),
]

RIGHT: Sequence[Answer] = [
    Answer(0, "by number", [("word in WORDS:", "n in range(5):\n        word = WORDS[n]")]),
    Answer(0, "milliseconds", [("seconds=1", "milliseconds=1000"), (SAY, f"pid = {SAY}")]),
    Answer(1, "another word", [('(english="Ahoy")', '(english="Moin", language="de")')]),
    Answer(1, "a side effect", [("return_value =", "side_effect = lambda word:")]),
    Answer(
        2,
        "a loop of awaits",
        [
            (
                "    order = ctx.await_signal(ORDER, SOON)\n    if order is None:\n" + REMIND,
                "    if (order := ctx.await_signal(ORDER, SOON)) is not None:\n"
                "        return order\n    else:\n" + REMIND,
            )
        ],
    ),
    Answer(
        2, "a loop of taps", [(TAPS, "        for _ in range(2):\n    " + TAPS[: len(TAPS) // 2])]
    ),
    Answer(3, "another name", [(PARCEL, 'f"loaf {loaf.number} of {loaf.batch}"')]),
    Answer(
        3, "in one line", [(BAKE + EMIT, EMIT.replace("loaf", "ctx.exec_activity(bake, number)"))]
    ),
    Answer(4, "a new state", [("restart(state)", "restart(Till(state.payments, state.cents))")]),
    Answer(4, "continue", [("is not None:", "is None:\n            continue\n        if True:")]),
    Answer(
        5,
        "a loop",
        [
            (
                LATEST + "    return range(number, latest)",
                "    last = number\n    while due(schedule, last + 1) <= now.timestamp():\n"
                "        last += 1\n    return range(number, last)",
            )
        ],
    ),
    Answer(
        5,
        "other words",
        [("anchor + number * schedule.period", "anchor + sum([schedule.period] * number)")],
    ),
    Answer(
        5,
        "no sleep if it is past",
        [(SLEEP, f"        if due(schedule, number) > ctx.now().timestamp():\n    {SLEEP}")],
    ),
    Answer(
        6,
        "returns early",
        [
            (
                "event.id > kept.event:",
                "event.id <= kept.event:\n            return\n        if True:",
            )
        ],
    ),
    Answer(6, "an earlier end", [("event.id <= last", "event.id < last")]),
    Answer(
        6,
        "update and subtract",
        [
            ("owed[order.item] += order.pieces", "owed.update({order.item: order.pieces})"),
            ("owed[parcel.item] -= parcel.pieces", "owed.subtract({parcel.item: parcel.pieces})"),
        ],
    ),
    Answer(7, "sleeps first", [(PLACED + REST, REST + PLACED)]),
    Answer(
        7,
        "without a name",
        [(BID, ""), ("bid - edge", "ctx.exec_activity(ticker, None).bid - edge")],
    ),
    Answer(8, "a slice", [(PRICES, "prices = window[1 - WIDTH :] + [price]")]),
    Answer(
        8,
        "a deque",
        [
            imports("collections"),
            (PRICES, "prices = list(collections.deque([*window, price], WIDTH))"),
        ],
    ),
    Answer(9, "another id", [(CLAIM_ID, 'f"offer {offer.number} by {self.name}"')]),
    Answer(
        9,
        "refused first",
        [
            (
                FITS + REFUSE,
                "        if claim.offer != offer or claim.provider in gone:\n"
                "            ctx.emit_output(REFUSED, claim)\n            continue\n"
                "        return claim\n",
            )
        ],
    ),
    Answer(10, "another cursor", [('"outputs", hand_over', '"hands", hand_over')]),
    Answer(
        10,
        "a name",
        [(RENDER, "number = own_number()\n    " + RENDER.replace("own_number()", "number"))],
    ),
    Answer(
        11, "mapped", [(HASHED, "list(map(lambda m: replay.Shard.hashed(m, COUNT), range(COUNT)))")]
    ),
    Answer(11, "backwards", [("for shard in shards:", "for shard in reversed(shards):")]),
    Answer(
        12,
        "the newest in front",
        [("begun.append(part)", "begun.insert(0, part)"), ("reversed(begun)", "begun")],
    ),
    Answer(
        12,
        "popped",
        [(UNDO, "        while begun:\n            ctx.exec_activity(undo, begun.pop())\n")],
    ),
    Answer(13, "another name", [('"by-air"):', '"air"):')]),
    Answer(
        13,
        "in one call",
        [
            (
                f"    {ASK}\n{FLY}    else:\n{DRIVE}",
                f"    call = fly {ASK[:-1]} else drive\n    ctx.exec_activity(call, order)\n",
            )
        ],
    ),
    Answer(14, "the result first", [(THREE + GIVEN, GIVEN + THREE)]),
    Answer(
        14,
        "by index",
        [
            (
                THREE,
                "        for n in (1, 2, 3):\n"
                "            assert reminded[n - 1] == begun + n * WEEK\n",
            )
        ],
    ),
    Answer(
        14,
        "week by week",
        [
            (
                "        world.advance(4 * WEEK)\n" + THREE,
                "        for n in (1, 2, 3):\n            world.advance(WEEK)\n"
                "            assert reminded[n - 1 :] == [begun + n * WEEK]\n",
            )
        ],
    ),
]
