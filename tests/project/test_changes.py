"""The code changes of the tutorial: which are safe for the runs that have begun, and which are not.

Each history is that of a lesson's solution, which a world has made (V1).  Each change is one that
the lesson's text proposes, or the way back to the file that the learner begins with.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pytest

from replay import ActivityContext, register_activity, register_workflow
from replay.export import Iteration, read_history
from replay.testing import Difference, World, verify
from replay.tools import cli
from replay.tools.verify import _functions
from replay.typed import untyped
from tests.ledger import ROOT
from tests.support import START
from tests.test_verify import exported, lived
from tutorial.exchange import State
from tutorial.lesson_01_typed_hello import hello_pb2
from tutorial.lesson_02_signal.shop import Guest
from tutorial.lesson_03_output.goods import Loaf
from tutorial.lesson_04_restart.office import Till
from tutorial.lesson_05_cron.schedule import Schedule
from tutorial.lesson_06_append_only_log.orders import Order, Parcel
from tutorial.lesson_07_maker_trade import broker
from tutorial.lesson_09_parent_job.sitting import Claim, Job
from tutorial.lesson_10_distributed.printing import Document, Sheet
from tutorial.lesson_11_sharding.studio import Picture

Signals = Sequence[tuple[int, Any]]


def nothing(ctx: ActivityContext, backends: None, message: Any) -> None:
    """Stands in for an activity whose result nobody uses."""


def number(ctx: ActivityContext, backends: None, message: Any) -> int:
    return 7


def loaf(ctx: ActivityContext, backends: None, message: Any) -> Loaf:
    return Loaf(ctx.run, 1)


def word(ctx: ActivityContext, backends: None, message: hello_pb2.Word) -> hello_pb2.Word:
    return message


def parcel(ctx: ActivityContext, backends: None, order: Order) -> Parcel:
    return Parcel(order.item, order.pieces)


def ticker(ctx: ActivityContext, backends: None, message: Any) -> broker.Ticker:
    return broker.Ticker(bid=10_000, ask=10_010)


def place(ctx: ActivityContext, backends: None, limit: broker.Limit) -> broker.Order:
    state = State.FILLED if limit.price >= 9990 else State.CANCELLED
    return broker.Order("", 0, limit.price, state, 0)


def same(ctx: ActivityContext, backends: None, order: broker.Order) -> broker.Order:
    return order


def sheet(ctx: ActivityContext, backends: None, page: Any) -> Sheet:
    return Sheet(0, 0)


def picture(ctx: ActivityContext, backends: None, photo: Any) -> Picture:
    return Picture("first", "1_of_4", 0, 1)


class Life(NamedTuple):
    """A run of a lesson's solution."""

    lesson: str
    workflow: str
    message: Any
    activities: Mapping[str, Callable[..., Any]]
    signals: Signals = ()
    seconds: int = 12


LIVES = {
    0: Life("00_hello_world", "hello", "World", {"say": number}),
    1: Life(
        "01_typed_hello",
        "hello",
        hello_pb2.Name(value="World"),
        {"say": nothing, "translate": word},
    ),
    2: Life(
        "02_signal",
        "serve",
        Guest("Ada", "flat white", 3),
        {"make": nothing, "remind": nothing},
        [(1, "espresso"), (1, ""), (1, "cappuccino")],
    ),
    3: Life("03_output", "bakery", 4, {"bake": loaf}),
    4: Life("04_restart", "till", Till(), {"book": nothing}, [(1, n) for n in range(1, 6)], 60),
    5: Life(
        "05_cron",
        "clock",
        Schedule(int(START.timestamp()), period=2, next=1),
        {"chore": nothing},
    ),
    6: Life("06_append_only_log", "order", Order("tea", 2), {"pack": parcel}),
    7: Life(
        "07_maker_trade",
        "maker",
        broker.Wish(account=1, quantity=5, edge=100),
        {"ticker": ticker, "place": place, "cancel": same},
    ),
    8: Life("08_sparkline", "sampler", [], {"sample": number}),
    9: Life(
        "09_parent_job",
        "job",
        Job(pay=10, patience=60),
        {},
        [(1, Claim("ada", 1)), (1, Claim("bob", 2)), (2, Claim("bob", 2))],
        80,
    ),
    10: Life(
        "10_distributed",
        "document",
        Document("a", 3),
        {"render": sheet},
        [(1, 7)],
    ),
    11: Life("11_sharding", "photo", 1, {"develop": picture}),
}


#: Lessons whose workflow is there at the start.
SAME = (6, 10, 11)


def solution(lesson: int) -> ModuleType:
    return import_module(f"tutorial.lesson_{LIVES[lesson].lesson}.solution")


def exports(lesson: int) -> list[str]:
    """The export of a run of the solution."""
    life = LIVES[lesson]
    function = getattr(solution(lesson), life.workflow)
    with World(START) as world:
        client = world.client
        register_workflow(client, "ns", untyped(function), name="flow")
        for name, each in life.activities.items():
            register_activity(client, "ns", each, name=name)
        client.run_workflow("ns", "flow", "run", life.message)
        for n, (type, message) in enumerate(life.signals):
            client.signal_run("ns", "flow", "run", type, message, str(n))
        world.advance(timedelta(seconds=life.seconds))
        return exported(client)


def history(lesson: int) -> list[Iteration]:
    return [read_history(line) for line in exports(lesson)]


def changed(lesson: int, old: str, new: str) -> Callable[..., Any]:
    """The workflow of a solution, after a change of its text."""
    module = solution(lesson)
    with open(str(module.__file__), encoding="utf-8") as file:
        text = file.read()
    assert old in text
    values: dict[str, Any] = {"__name__": module.__name__}
    exec(compile(text.replace(old, new), str(module.__file__), "exec"), values)  # the lesson's own
    function: Callable[..., Any] = values[LIVES[lesson].workflow]
    return function


def start(lesson: int) -> Callable[..., Any]:
    module = import_module(f"tutorial.lesson_{LIVES[lesson].lesson}.start")
    function: Callable[..., Any] = getattr(module, LIVES[lesson].workflow)
    return function


def first_difference(function: Callable[..., Any], histories: Sequence[Iteration]) -> str:
    for each in histories:
        try:
            verify(function, each)
        except Difference as found:
            return f"the history {found.history}, the code {found.code}"
    return ""


def beginnings(histories: Sequence[Iteration]) -> list[Iteration]:
    """The same while they were under way."""
    return [Iteration(each.events[:n]) for each in histories for n in range(1, len(each.events))]


SAY = '        ctx.exec_activity(say, f"{word}, {name}!")\n'
NAP = "        ctx.sleep(timedelta(seconds=1))\n"
BAKE = "        loaf = ctx.exec_activity(bake, number)\n"
EMIT = "        ctx.emit_output(BAKED, loaf)\n"
EARLY = "        ctx.emit_output(BAKED, Loaf(ctx.run, number))\n"
CARRY = "        ctx.exec_activity(carry, Loaf(ctx.run, number))\n"
SLEEP = "ctx.sleep(datetime.fromtimestamp(due(schedule, number), UTC) - ctx.now())"
OBVIOUS = "ctx.sleep(datetime.fromtimestamp(schedule.period, UTC) - datetime.fromtimestamp(0, UTC))"
PRICE = '    price = ctx.exec_activity(sample, "gold")\n'
CLOSES = "        if cents == 0:\n            return\n        if cents is not None:\n"

#: The lesson, the text before and after, and the difference; none if the change is safe.
CHANGES = {
    "other-words": (0, '"Ciao"]', '"Ahoj"]', ""),
    "longer-sleep": (0, "seconds=1", "seconds=2", ""),
    "swap-the-lines": (
        0,
        SAY + NAP,
        NAP + SAY,
        "the history requests say/0, the code requests replay_sleep/0",
    ),
    "one-word-more": (
        0,
        '"Ciao"]',
        '"Ciao", "Ahoj"]',
        "the history has completed, the code requests say/5",
    ),
    "rename-an-activity": (
        0,
        SAY,
        SAY.replace("(say, ", '("shout", '),
        "the history requests say/0, the code requests shout/0",
    ),
    "keep-its-name": (0, SAY, SAY.replace("(say, ", '("say", '), ""),
    "no-translation": (
        1,
        'flow.translate(pb.Word(english="Hello", language=language)).english',
        '"Hello"',
        "the history requests translate/0, the code requests say/0",
    ),
    "not-instead-of-none": (
        2,
        "if order is None:\n        ctx",
        "if not order:\n        ctx",
        "the history requests make/1, the code requests remind/0",
    ),
    "longer-patience": (2, "seconds=1", "seconds=9", ""),
    "an-output-moves": (3, BAKE + "        ctx.emit_output(BAKED, loaf)\n", EARLY + BAKE, ""),
    "no-output": (3, EMIT, "", ""),
    "a-request-in-front": (
        3,
        BAKE,
        CARRY + BAKE,
        "the history requests bake/0, the code requests carry/0",
    ),
    "an-activity-for-an-output": (
        3,
        EMIT,
        "        ctx.exec_activity(carry, loaf)\n",
        "the history requests bake/1, the code requests carry/0",
    ),
    "while-true": (
        4,
        "for _ in range(ROUNDS):",
        "while True:",
        "the history has restarted, the code requests replay_signal/1:4",
    ),
    "restart-with-another-state": (4, "ctx.restart(state)", "ctx.restart(Till())", ""),
    "fewer-rounds": (
        4,
        "ROUNDS = 4",
        "ROUNDS = 1",
        "the history requests replay_signal/1:1, the code restarts",
    ),
    "a-payment-that-never-came-closes": (4, "        if cents is not None:\n", CLOSES, ""),
    "no-restart": (
        4,
        "    ctx.restart(state)\n",
        "    return\n",
        "the history has restarted, the code returns",
    ),
    # Lesson 5 says that these two need a new run.  They change only what requests hold (R4).
    "obvious-sleep": (5, SLEEP, OBVIOUS, ""),
    "catch-up": (5, "return range(number, latest)", "return range(0)", ""),
    "work-before-the-sleep": (
        5,
        f"        {SLEEP}\n",
        "",
        "the history requests replay_sleep/0, the code requests chore/0",
    ),
    "all-prices": (8, "][-WIDTH:]", "]", ""),
    "only-the-new-price": (
        8,
        "emit_output(WINDOW, prices)",
        "emit_output(WINDOW, [])",
        "",
    ),
    "five-prices": (
        8,
        PRICE,
        "    for _ in range(5):\n    " + PRICE,
        "the history requests replay_sleep/0, the code requests sample/1",
    ),
    "not-packed": (
        6,
        "ctx.exec_activity(pack, order)",
        'Parcel("", 0)',
        "the history requests pack/0, the code returns",
    ),
    "smaller-steps": (7, "edge //= 10", "edge //= 2", ""),
    "another-patience": (
        7,
        "        ctx.sleep(PATIENCE)\n",
        "",
        "the history requests replay_sleep/0, the code requests cancel/0",
    ),
    "no-cancel": (
        7,
        "ended = ctx.exec_activity(cancel, order)",
        "ended = order",
        "the history requests cancel/0, the code requests ticker/1",
    ),
    "no-confirmation": (
        9,
        "if confirmed(ctx, claim):",
        "if True:",
        "the history requests replay_signal/2:0, the code requests replay_signal/1:1",
    ),
    "longer-confirmation": (9, "ctx.now() + GRACE", "ctx.now() + 2 * GRACE", ""),
    "wet-pages": (
        10,
        "        ctx.sleep(timedelta(seconds=0.2))\n",
        "",
        "the history requests replay_sleep/0, the code requests render/1",
    ),
    "no-receipt": (
        10,
        "    ctx.await_signal(RECEIVED, timedelta(days=1))\n",
        "",
        "the history requests replay_signal/1:0, the code returns",
    ),
    "not-developed": (
        11,
        "    ctx.exec_activity(develop, number)\n",
        "",
        "the history requests develop/0, the code returns",
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_v2_a_change_of_the_tutorial_is_safe_or_not(name: str) -> None:
    """V2, O2, R4: a safe one fits the run whole, and wherever it stood when the code changed."""
    lesson, old, new, difference = CHANGES[name]
    histories = history(lesson)
    assert first_difference(getattr(solution(lesson), LIVES[lesson].workflow), histories) == ""
    after = changed(lesson, old, new)
    assert first_difference(after, histories) == difference
    if not difference:
        assert first_difference(after, beginnings(histories)) == ""


@pytest.mark.parametrize("lesson", LIVES)
def test_v2_the_way_back_to_the_start_is_safe_or_not(lesson: int) -> None:
    """V2: what a learner begins with does not make the requests of the solution.

    In some lessons the learner writes something else than the workflow.
    """
    found = first_difference(start(lesson), history(lesson))
    if lesson in SAME:
        assert found == ""
        return
    assert re.match(r"the history (requests|has) .*, the code (requests|returns|restarts)", found)


@pytest.mark.parametrize("lesson", LIVES)
def test_v2_t1_the_command_finds_the_workflows_of_a_lesson(lesson: int, tmp_path: Path) -> None:
    """V2, T1: also those that take a flow."""
    life, file = LIVES[lesson], tmp_path / "lesson.jsonl"
    named = f"flow={life.workflow}"
    file.write_text("".join(f"{line}\n" for line in exports(lesson)))
    for module, code in (("solution", 0), ("start", int(lesson not in SAME))):
        path = f"tutorial.lesson_{life.lesson}.{module}"
        assert life.workflow in _functions(import_module(path), [])
        assert cli.main(["verify", path, str(file), "--as", named]) == code


def of_the_readme(condition: str) -> Callable[..., Any]:
    """The workflow of the README's chapter on changing code, with this condition in it."""
    chapter = (ROOT / "README.md").read_text().partition("### Changing code\n")[2]
    program = chapter.partition("```python\n")[2].partition("\nwith replay.connect")[0]
    patch = 'ctx.patched("ship-by-air")'
    assert patch in program
    values: dict[str, Any] = {}
    exec(program.replace(patch, condition), values)
    function: Callable[..., Any] = values["ship"]
    return function


def test_v2_the_patch_of_the_readme_is_safe() -> None:
    """V2, E9: runs of the old and of the new code fit the new one, and what is left of it later."""
    old, later = of_the_readme("False"), of_the_readme("True")
    new = of_the_readme('ctx.patched("ship-by-air")')
    before, after = lived(old, message="tea"), lived(new, message="tea")
    histories = [read_history(line) for line in (*before, *after)]
    assert first_difference(new, [*histories, *beginnings(histories)]) == ""
    assert first_difference(later, histories[1:]) == ""
    assert first_difference(later, histories) == (
        "the history requests drive/0, the code requests fly/0"
    )
