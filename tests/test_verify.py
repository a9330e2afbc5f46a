"""Verification: code against the histories of its runs."""

from __future__ import annotations

import base64
import contextlib
import inspect
import io
import json
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from replay import (
    ActivityContext,
    ActivityFailed,
    Cancelled,
    Client,
    Failed,
    GiveUp,
    RunContext,
    SignalType,
    connect,
    register_activity,
    register_workflow,
)
from replay.export import BadHistory, iterations, read_history, stored_history, write_history
from replay.run import StepTooLarge
from replay.storage.event import UnknownMessageType
from replay.testing import Difference, verify
from tests import scenario
from tests.example_pb2 import Int
from tests.support import Clock, LogLines, drain, loops, stepped

Flow = Callable[..., Any]
Act = Callable[[Client, Clock], object]
HOUR = timedelta(hours=1)
YES = SignalType(1, str)


def answer(ctx: ActivityContext, backends: None, message: Any) -> str:
    return "done"


def refuse(ctx: ActivityContext, backends: None, message: Any) -> str:
    raise GiveUp("no")


#: No process executes the activity `open`.
SERVED: dict[str, Flow] = dict.fromkeys(("pack", "drive", "ship", "fly"), answer)
SERVED["refuse"] = refuse


def exported(client: Client) -> list[str]:
    """The lines of an export."""
    file = io.StringIO()
    for key in iterations(client.stream(to_head=True)):
        write_history(client.log_of(key.namespace), key, file)
    return file.getvalue().splitlines()


def lived(function: Flow, *acts: Act, message: Any = None) -> list[str]:
    """The histories of a run of a function, after some things have happened."""
    clock = Clock()
    with stepped("sqlite://", clock) as client:
        consumers = [register_workflow(client, "ns", function, name="flow", start=False)]
        for name, activity in SERVED.items():
            consumers.append(register_activity(client, "ns", activity, name=name, start=False))
        consumers += loops(client)
        client.run_workflow("ns", "flow", "a", message)
        drain(*consumers)
        for act in acts:
            act(client, clock)
            drain(*consumers)
        return exported(client)


def later(client: Client, clock: Clock) -> None:
    clock.forward(hours=1)


def signal(client: Client, clock: Clock) -> None:
    client.signal_run("ns", "flow", "a", YES, "yes", "1")


def cancel(client: Client, clock: Clock) -> None:
    assert client.cancel_run("ns", "flow", "a", "enough")


def terminate(client: Client, clock: Clock) -> None:
    assert client.cancel_run("ns", "flow", "a", "enough", terminate=True)


def differences(function: Flow, histories: Sequence[str]) -> list[Difference]:
    """What verification says of each, also when it is given the events of the whole run."""
    found: list[Difference] = []
    for line in histories:
        try:
            verify(function, line)
        except Difference as difference:
            found.append(difference)
    events = [event for line in histories for event in read_history(line).events]
    if found:
        with pytest.raises(Difference) as raised:
            verify(function, events)
        assert raised.value.event.id == found[0].event.id
        assert (raised.value.line, raised.value.code) == (found[0].line, found[0].code)
    else:
        verify(function, events)
    return found


def marked(function: Flow) -> str:
    """The line of a function that has the mark."""
    lines, first = inspect.getsourcelines(function)
    (n,) = (n for n, line in enumerate(lines) if line.endswith("# <-\n"))
    file = Path(inspect.getfile(function)).relative_to(Path.cwd())
    return f"{file}:{first + n} in {function.__qualname__}"


# Each pair: code that has made a history, and code after a change.


def pack_and_ship(ctx: RunContext, message: Any) -> Any:
    ctx.exec_activity("pack", message)
    return ctx.exec_activity("ship", message)  # <-


def pack_and_fly(ctx: RunContext, message: Any) -> Any:
    ctx.exec_activity("pack", message)
    return ctx.exec_activity("fly", message)  # <-


def pack_only(ctx: RunContext, message: Any) -> Any:
    return ctx.exec_activity("pack", message)  # <-


def pack_ship_and_fly(ctx: RunContext, message: Any) -> Any:
    pack_and_ship(ctx, message)
    return ctx.exec_activity("fly", message)  # <-


def other_values(ctx: RunContext, message: Any) -> None:
    ctx.exec_activity("pack", "another message")
    ctx.emit_output("news", 1)
    ctx.exec_activity("ship", "another message")


def fails_at_the_end(ctx: RunContext, message: Any) -> None:
    pack_and_ship(ctx, message)
    raise Failed("broken")  # <-


def fails_otherwise(ctx: RunContext, message: Any) -> None:
    pack_and_ship(ctx, message)
    raise Failed("broken again", kind="other")


def raises_at_the_end(ctx: RunContext, message: Any) -> None:
    pack_and_ship(ctx, message)
    raise ValueError("a bug")  # <-


def restarts_at_the_end(ctx: RunContext, left: Any) -> None:
    pack_and_ship(ctx, left)
    ctx.restart(left)  # <-


def restarts_twice(ctx: RunContext, left: int | None) -> None:
    ctx.exec_activity("pack", left)
    if left != 0:
        ctx.restart(1 if left is None else left - 1)


def restarts_once(ctx: RunContext, left: int | None) -> None:
    ctx.exec_activity("pack", left)  # <-
    if left is None:
        ctx.restart(1)


def restarts_with_more(ctx: RunContext, left: int | None) -> None:
    ctx.exec_activity("pack", left)
    if left is None or left:
        ctx.emit_output("left", left)
        ctx.restart(left or 5)


def packs_and_waits(ctx: RunContext, message: Any) -> None:
    ctx.exec_activity("pack", message)
    ctx.exec_activity("open", message)


def packs_and_naps(ctx: RunContext, message: Any) -> None:
    ctx.exec_activity("pack", message)
    ctx.sleep(HOUR)  # <-


def packs_waits_and_naps(ctx: RunContext, message: Any) -> None:
    packs_and_waits(ctx, message)
    ctx.sleep(HOUR)


def packs_and_raises(ctx: RunContext, message: Any) -> None:
    ctx.exec_activity("pack", message)
    raise KeyError("a bug")  # <-


def packs_and_waits_beside(ctx: RunContext, message: Any) -> None:
    ctx.exec_activity("pack", message)
    ctx.begin(ctx.timer(HOUR))
    ctx.exec_activity("open", message)


def waits_and_naps(ctx: RunContext, message: Any) -> None:
    pending = ctx.begin(ctx.call("open", message))
    ctx.begin(ctx.timer(HOUR))
    pending.result()


def waits_and_no_more(ctx: RunContext, message: Any) -> None:
    pending = ctx.begin(ctx.call("open", message))
    ctx.emit_output("begun", message)
    pending.result()  # <-


def gives_up(ctx: RunContext, message: Any) -> None:
    ctx.exec_activity("refuse", message)


def gives_way(ctx: RunContext, message: Any) -> None:
    try:
        ctx.exec_activity("refuse", message)  # <-
    except ActivityFailed:
        return


def naps(ctx: RunContext, message: Any) -> None:
    ctx.sleep(HOUR)


def naps_less(ctx: RunContext, message: Any) -> None:
    ctx.sleep(HOUR / 2)


def naps_again(ctx: RunContext, message: Any) -> None:
    ctx.sleep(HOUR)
    ctx.sleep(HOUR)  # <-


def listens(ctx: RunContext, message: Any) -> str | None:
    return ctx.await_signal(YES, HOUR)


def listens_to_another(ctx: RunContext, message: Any) -> str | None:
    return ctx.await_signal(SignalType(2, str), HOUR)  # <-


def listens_until_it_hears(ctx: RunContext, message: Any) -> None:
    while ctx.await_signal(YES, HOUR) is None:  # <-
        pass


def expects_a_number(ctx: RunContext, message: Any) -> None:
    ctx.await_signal(SignalType(1, int), HOUR)  # <-


def compensates(ctx: RunContext, message: Any) -> None:
    try:
        ctx.exec_activity("open", message)
    except Cancelled:
        ctx.exec_activity("ship", message)
        raise


def waits_for_ever(ctx: RunContext, message: Any) -> None:
    ctx.exec_activity("open", message)  # <-


def survives(ctx: RunContext, message: Any) -> None:
    try:
        ctx.exec_activity("open", message)
    except Cancelled:
        ctx.exec_activity("ship", message)  # <-


def starts_anew(ctx: RunContext, message: int | None) -> None:
    if message is not None:
        return
    try:
        ctx.exec_activity("open", message)
    except Cancelled:
        ctx.restart(1)


def races(ctx: RunContext, message: Any) -> None:
    slow, nap = ctx.begin(ctx.call("open", message)), ctx.begin(ctx.timer(HOUR))
    if ctx.first(slow, nap) is nap:
        ctx.exec_activity("ship", message)


def races_to_fly(ctx: RunContext, message: Any) -> None:
    slow, nap = ctx.begin(ctx.call("open", message)), ctx.begin(ctx.timer(HOUR))
    if ctx.first(slow, nap) is nap:
        ctx.exec_activity("fly", message)  # <-


def races_alone(ctx: RunContext, message: Any) -> None:
    slow, nap = ctx.begin(ctx.call("open", message)), ctx.begin(ctx.timer(HOUR))
    ctx.begin(ctx.call("ship", message))
    nap.result()
    slow.result()  # <-


def both_at_once(ctx: RunContext, message: Any) -> None:
    ctx.gather(ctx.call("pack", message), ctx.call("ship", message))


def the_other_way(ctx: RunContext, message: Any) -> None:
    ctx.gather(ctx.call("ship", message), ctx.call("pack", message))  # <-


def patched(ctx: RunContext, message: Any) -> None:
    ctx.exec_activity("pack", message)
    ctx.exec_activity("fly" if ctx.patched("by-air") else "ship", message)


def thanks(ctx: RunContext, message: Any) -> None:
    pack_and_ship(ctx, message)
    if ctx.patched("thanks"):
        ctx.exec_activity("fly", message)


def patch_in_front(ctx: RunContext, message: Any) -> None:
    if ctx.patched("check-first"):
        ctx.exec_activity("fly", message)
    pack_and_ship(ctx, message)


def draws(ctx: RunContext, message: Any) -> None:
    ctx.exec_activity(f"{'pack' if ctx.random.random() < 0.5 else 'ship'}", str(ctx.uuid4()))
    ctx.sleep(timedelta(seconds=ctx.random.random(), minutes=ctx.now().minute))


def swallows(ctx: RunContext, message: Any) -> None:
    try:
        ctx.exec_activity("fly", message)  # <-
    except BaseException:
        ctx.exec_activity("pack", message)
    ctx.exec_activity("ship", message)


SAFE = {
    "nothing": (pack_and_ship, pack_and_ship, ()),
    "values-and-outputs": (pack_and_ship, other_values, ()),
    "at-once": (pack_and_ship, both_at_once, ()),
    "one-by-one": (both_at_once, pack_and_ship, ()),
    "failure": (fails_at_the_end, fails_at_the_end, ()),
    "another-failure": (fails_at_the_end, fails_otherwise, ()),
    "uncaught": (gives_up, gives_up, ()),
    "caught": (gives_way, gives_way, ()),
    "restarts": (restarts_twice, restarts_twice, ()),
    "another-input": (restarts_twice, restarts_with_more, ()),
    "in-flight": (packs_and_waits, packs_and_waits, ()),
    "in-flight-more-to-come": (packs_and_waits, packs_waits_and_naps, ()),
    "in-flight-sleep": (naps, naps_again, ()),
    "in-flight-signal": (listens, listens, ()),
    "sleep": (naps, naps, (later,)),
    "shorter-sleep": (naps, naps_less, (later,)),
    "signal": (listens, listens, (signal,)),
    "no-signal": (listens, listens, (later,)),
    "cancelled": (waits_for_ever, waits_for_ever, (cancel,)),
    "cancelled-in-flight": (naps_again, naps_again, (later, cancel)),
    "compensated": (compensates, compensates, (cancel,)),
    "survived": (survives, survives, (cancel,)),
    "restarted-when-cancelled": (starts_anew, starts_anew, (cancel,)),
    "terminated": (waits_for_ever, waits_for_ever, (terminate,)),
    "terminated-without-being-told": (survives, survives, (terminate,)),
    "terminated-would-go-on": (packs_and_waits, packs_waits_and_naps, (terminate,)),
    "first": (races, races, (later,)),
    "first-in-flight": (races, races, ()),
    "patch-of-a-run-that-is-over": (pack_and_ship, patched, ()),
    "patch-behind-the-end": (pack_and_ship, thanks, ()),
    "patch-in-front": (pack_and_ship, patch_in_front, ()),
    "patched": (patched, patched, ()),
    "patch-removed": (patched, pack_and_fly, ()),
    "patch-taken": (thanks, thanks, ()),
    "random": (draws, draws, (later,)),
}


@pytest.mark.parametrize("name", SAFE)
def test_v2_code_that_a_history_fits_has_no_difference(name: str) -> None:
    """V2, O2, R4, E7 to E10: the same code, and each change that hurts no run."""
    before, after, acts = SAFE[name]
    histories = lived(before, *acts)
    assert differences(after, histories) == []


def unsafe(
    before: Flow, after: Flow, *acts: Act, event: int, history: str, code: str
) -> tuple[Flow, Flow, tuple[Act, ...], int, str, str]:
    return before, after, acts, event, history, code


UNSAFE = {
    "another-request": unsafe(
        pack_and_ship, pack_and_fly, event=4, history="requests ship/0", code="requests fly/0"
    ),
    "another-order": unsafe(
        both_at_once, the_other_way, event=2, history="requests pack/0", code="requests ship/0"
    ),
    "one-less": unsafe(
        pack_and_ship, pack_only, event=4, history="requests ship/0", code="returns"
    ),
    "one-more": unsafe(
        pack_and_ship, pack_ship_and_fly, event=7, history="has completed", code="requests fly/0"
    ),
    "fails": unsafe(
        pack_and_ship, fails_at_the_end, event=7, history="has completed", code="fails"
    ),
    "fails-no-more": unsafe(gives_up, gives_way, event=5, history="has failed", code="returns"),
    "raises": unsafe(
        pack_and_ship,
        raises_at_the_end,
        event=7,
        history="has completed",
        code="raises ValueError: a bug",
    ),
    "restarts": unsafe(
        pack_and_ship, restarts_at_the_end, event=7, history="has completed", code="restarts"
    ),
    "restarts-no-more": unsafe(
        restarts_twice, restarts_once, event=8, history="has restarted", code="returns"
    ),
    "in-flight-another": unsafe(
        packs_and_waits,
        packs_and_naps,
        event=4,
        history="requests open/0",
        code="requests replay_sleep/0",
    ),
    "in-flight-less": unsafe(
        packs_and_waits, pack_only, event=4, history="requests open/0", code="returns"
    ),
    "in-flight-raises": unsafe(
        packs_and_waits,
        packs_and_raises,
        event=4,
        history="requests open/0",
        code="raises KeyError: 'a bug'",
    ),
    "in-flight-unasked": unsafe(
        waits_and_naps,
        waits_and_no_more,
        event=3,
        history="requests replay_sleep/0",
        code="waits for open/0",
    ),
    "sleeps-on": unsafe(
        naps, naps_again, later, event=4, history="has completed", code="requests replay_sleep/1"
    ),
    "another-signal": unsafe(
        listens,
        listens_to_another,
        signal,
        event=2,
        history="requests replay_signal/1:0",
        code="requests replay_signal/2:0",
    ),
    "another-type": unsafe(
        listens,
        expects_a_number,
        signal,
        event=5,
        history="has completed",
        code="raises WrongValue: ns/flow/a/0/replay_signal/1:0: int: expected int, got str",
    ),
    "listens-on": unsafe(
        listens,
        listens_until_it_hears,
        later,
        event=4,
        history="has completed",
        code="requests replay_signal/1:1",
    ),
    "survives-a-cancel": unsafe(
        waits_for_ever, survives, cancel, event=5, history="was cancelled", code="requests ship/0"
    ),
    "compensates-no-more": unsafe(
        compensates,
        waits_for_ever,
        cancel,
        event=4,
        history="requests ship/0",
        code="ends as cancelled",
    ),
    "terminated-another": unsafe(
        packs_and_waits,
        packs_and_naps,
        terminate,
        event=4,
        history="requests open/0",
        code="requests replay_sleep/0",
    ),
    "first": unsafe(
        races, races_to_fly, later, event=5, history="requests ship/0", code="requests fly/0"
    ),
    "waits-where-it-ended": unsafe(
        races, races_alone, later, event=7, history="has completed", code="waits for open/0"
    ),
    "patch-without-patch": unsafe(
        patched, pack_and_ship, event=5, history="requests fly/0", code="requests ship/0"
    ),
    "unpatched": unsafe(
        pack_and_ship, pack_and_fly, event=4, history="requests ship/0", code="requests fly/0"
    ),
    "swallowed": unsafe(
        pack_and_ship, swallows, event=2, history="requests pack/0", code="requests fly/0"
    ),
}


@pytest.mark.parametrize("name", UNSAFE)
def test_v2_changed_code_is_found(name: str) -> None:
    """V2, P17, R4, R9, E6: event, line of code, and both sides."""
    before, after, acts, event, history, code = UNSAFE[name]
    histories = lived(before, *acts)
    assert differences(before, histories) == []
    (found,) = differences(after, histories)
    assert (found.event.id, found.history, found.code) == (event, history, code)
    assert found.line == marked(after)
    run = "/".join(map(str, found.event.key[:4]))
    assert str(found) == (
        f"run {run}, event {event}: the history {history}, the code {code} ({found.line})"
    )


# Where verification stands beside the engine.


@pytest.mark.parametrize("path", sorted(scenario.FOLDER.glob("*.txt")), ids=lambda path: path.stem)
def test_v2_a_scenario_fits_its_own_program(path: Path, tmp_path: Path) -> None:
    """V2, R5: a difference is found in those runs that are parked, and in no other."""
    url = f"sqlite:///{tmp_path / 'replay.db'}"
    scenario.perform(url, path.read_text())
    with stepped(url) as client:
        lines = exported(client)
        rows = client.parked()
    parked = {(each.workflow, each.run) for each in rows if each.consumer.startswith("workflow/")}
    found = set()
    for line in lines:
        key = read_history(line).events[0].key
        try:
            verify(scenario.WORKFLOWS[key.workflow], line)
        except Difference:
            found.add((key.workflow, key.run))
    assert found == parked


@pytest.mark.contract
def test_v2_histories_of_every_log_can_be_verified(url: str) -> None:
    """V2: an export of any database, also through a server, says what verification needs."""
    with stepped(url) as client:
        consumers = [
            register_workflow(client, "ns", restarts_twice, name="flow", start=False),
            register_activity(client, "ns", answer, name="pack", start=False),
        ]
        client.run_workflow("ns", "flow", "a", None)
        drain(*consumers)
        lines = exported(client)
        for key in iterations(client.stream("ns", to_head=True)):
            history = stored_history(client.log_of("ns"), key)
            assert history is not None
            assert history.restarted == (key.iteration < 2)
            verify(restarts_twice, history)
        events = list(client.history("ns", "flow", "a"))
    assert [read_history(line).restarted for line in lines] == [True, True, False]
    (found,) = differences(restarts_once, lines)
    assert (found.history, found.code) == ("has restarted", "returns")
    for line, created in zip(lines, events[::4], strict=True):
        verify(restarts_twice, line)
        assert repr(read_history(line).events[0]) == repr(created)
    verify(restarts_twice, events)


def test_v2_a_history_stays_as_it_was() -> None:
    """V2: a verification adds nothing to the events that it is given."""
    (line,) = lived(pack_and_ship)
    before = [repr(event) for event in read_history(line).events]
    history = read_history(line)
    for _ in range(2):
        verify(pack_and_ship, history)
    assert [repr(event) for event in history.events] == before


def test_v2_a_line_may_be_bytes_or_its_object() -> None:
    """V2: whatever a test has at hand, the difference is the same."""
    (line,) = lived(pack_and_ship)
    for history in (line, line.encode(), json.loads(line), read_history(line)):
        verify(pack_and_ship, history)
        with pytest.raises(
            Difference, match="the history requests ship/0, the code requests fly/0"
        ):
            verify(pack_and_fly, history)


def test_v2_one_iteration_alone_may_have_restarted() -> None:
    """V2: its events do not say so, so neither end is a difference."""
    histories = lived(restarts_twice)
    assert [read_history(line).restarted for line in histories] == [True, True, False]
    last = read_history(histories[-1]).events
    for function in (restarts_twice, restarts_once):
        verify(function, last)
    verify(restarts_twice, read_history(histories[0]).events)
    (found,) = differences(restarts_once, histories)
    assert found.event.key.iteration == 1


@pytest.mark.parametrize(
    ("history", "problem"),
    [
        ("", "no history that `replay export` wrote"),
        ("{}", "missing required field `namespace`"),
        ("[" * 100_000, "no history that"),
        (b"\xff", "no history that"),
        ({"namespace": 5}, "Expected `str`, got `int`"),
        ([], "there are no events"),
    ],
)
def test_v2_what_is_no_history_is_refused(history: Any, problem: str) -> None:
    """V2: with an error of its own."""
    with pytest.raises(BadHistory, match=problem):
        verify(pack_and_ship, history)


def test_v2_a_line_is_checked() -> None:
    """V2: types, base64, and the created event that everything begins with."""
    (line,) = lived(pack_and_ship)
    for field, value in (("type", "OTHER"), ("message", "*"), ("timestamp", "today"), ("id", "1")):
        broken = json.loads(line)
        broken["events"][0][field] = value
        with pytest.raises(BadHistory, match="no history that"):
            verify(pack_and_ship, broken)
    broken = json.loads(line)
    broken["events"] = broken["events"][1:]
    with pytest.raises(BadHistory, match="does not begin with its created event"):
        verify(pack_and_ship, broken)
    broken["events"] = []
    with pytest.raises(BadHistory, match="has no events"):
        verify(pack_and_ship, broken)


def test_v2_a_pruned_history_is_refused() -> None:
    """V2, L9: its messages are gone."""
    with stepped("sqlite://", clock := Clock()) as client:
        consumer = register_workflow(client, "ns", naps, name="flow", start=False)
        consumers = [consumer, *loops(client)]
        client.run_workflow("ns", "flow", "a", None)
        drain(*consumers)
        clock.forward(hours=1)
        drain(*consumers)
        clock.forward(hours=1)
        for each in consumers:
            each.stop()
        verify(naps, client.history("ns", "flow", "a"))
        assert client.prune(HOUR / 2).runs == 1
        with pytest.raises(BadHistory, match="was pruned"):
            verify(naps, client.history("ns", "flow", "a"))


def test_v2_a_message_of_an_unknown_type_is_no_difference() -> None:
    """V2, N3: the module with the type is not imported here."""
    (line,) = lived(pack_and_ship, message=Int(value=5))
    unknown = json.loads(line)
    raw = base64.b64decode(unknown["events"][0]["message"])
    changed = raw.replace(b"example.Int", b"example.Xyz")
    assert changed != raw
    unknown["events"][0]["message"] = base64.b64encode(changed).decode()
    with pytest.raises(UnknownMessageType, match="import the module that defines it"):
        verify(pack_and_ship, unknown)


class Reversed:
    """A codec."""

    def encode(self, key: str, data: bytes) -> bytes:
        return data[::-1]

    def decode(self, key: str, data: bytes) -> bytes:
        return data[::-1]


def test_v2_j4_encoded_histories_need_their_codec() -> None:
    """V2, J4: events of a client have it; for a line you name it."""
    with connect("sqlite://", loops=False, codec=Reversed()) as client:
        consumers = [register_workflow(client, "ns", pack_and_ship, name="flow", start=False)]
        for name in ("pack", "ship"):
            consumers.append(register_activity(client, "ns", answer, name=name, start=False))
        client.run_workflow("ns", "flow", "a", "tea")
        drain(*consumers)
        verify(pack_and_ship, client.history("ns", "flow", "a"))
        (line,) = exported(client)
    verify(pack_and_ship, line, codec=Reversed())
    with pytest.raises(Difference, match="is encoded: connect with its codec"):
        verify(pack_and_ship, line)


def many_outputs(ctx: RunContext, message: Any) -> None:
    for n in range(4000):
        ctx.emit_output("out", n)
    pack_and_ship(ctx, message)
    for n in range(4000):
        ctx.emit_output("out", n)


def too_many_outputs(ctx: RunContext, message: Any) -> None:
    for n in range(5001):
        ctx.emit_output("out", n)


def test_v2_the_limit_of_a_step_is_that_of_a_step() -> None:
    """V2, R5: 8,000 outputs in two steps fit, 5,001 in one do not."""
    (line,) = lived(pack_and_ship)
    verify(many_outputs, line)
    with pytest.raises(Difference, match="raises StepTooLarge") as raised:
        verify(too_many_outputs, line)
    assert isinstance(raised.value.__cause__, StepTooLarge)


def test_v2_no_except_hides_a_difference() -> None:
    """V2, P18: code that catches even that and goes on for ever is left where it is."""

    def stubborn(ctx: RunContext, message: Any) -> None:
        while True:
            with contextlib.suppress(BaseException):
                ctx.exec_activity("fly", message)

    (line,) = lived(pack_and_ship)
    with pytest.raises(Difference, match="requests pack/0, the code requests fly/0"):
        verify(stubborn, line)


def test_v2_the_function_is_unwound() -> None:
    """V2: `finally` blocks run, and an error in one is logged, not raised."""
    seen = []

    def tidy(ctx: RunContext, message: Any) -> None:
        try:
            ctx.exec_activity("open", message)
        finally:
            seen.append(message)
            raise ValueError("in between")

    (line,) = lived(waits_for_ever, message="tea")
    with LogLines() as logged:
        verify(tidy, line)
    assert seen == ["tea"]
    assert logged.of("was evicted from memory")


def test_v2_ctrl_c_ends_a_verification() -> None:
    """V2: it is no difference."""

    def interrupted(ctx: RunContext, message: Any) -> None:
        raise KeyboardInterrupt

    (line,) = lived(pack_and_ship)
    with pytest.raises(KeyboardInterrupt):
        verify(interrupted, line)


def test_v2_j3_an_input_that_no_longer_fits_is_found() -> None:
    """V2, J3: at the created event, before the code has a line."""

    def strict(ctx: RunContext, message: int) -> None:
        raise AssertionError

    (line,) = lived(naps, message="tea")
    with pytest.raises(Difference, match="expected int, got str") as raised:
        verify(strict, line)
    assert raised.value.event.id == 2
    assert raised.value.history == "requests replay_sleep/0"
    assert raised.value.line == ""
