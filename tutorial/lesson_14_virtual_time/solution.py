"""Lesson 14: a test that takes three weeks, and no time."""

from datetime import datetime, timedelta

import replay
from replay.testing import World
from tutorial.lesson_14_virtual_time.bills import BILLS, NAMESPACE, PAID, WEEK, Bill

DAY = timedelta(days=1)


def begin(world: World, bill: Bill) -> list[datetime]:
    """Start the run "ada" of a bill; return the list of its reminders, which grows."""
    reminded: list[datetime] = []

    def remind(ctx: replay.ActivityContext, backends: None, guest: str) -> None:
        reminded.append(world.now)

    replay.register_workflow(world.client, NAMESPACE, bill, name="bill")
    replay.register_activity(world.client, NAMESPACE, remind)
    world.client.run_workflow(NAMESPACE, "bill", "ada", "Ada")
    return reminded


def nobody_pays(bill: Bill) -> None:
    """A test: three reminders, one in each week, and then the bill is given up."""
    with World() as world:
        begun = world.now
        reminded = begin(world, bill)
        # TODO(you): advance the world by four weeks. Assert that the reminders came exactly one,
        # two and three weeks after `begun`, and that the result of the run is "given up".
        # instead: assert reminded != [begun]
        world.advance(4 * WEEK)
        assert reminded == [begun + n * WEEK for n in (1, 2, 3)]
        assert world.client.result(NAMESPACE, "bill", "ada") == "given up"
        # done


def somebody_pays(bill: Bill) -> None:
    """A test: after a payment there is no further reminder."""
    with World() as world:
        reminded = begin(world, bill)
        # TODO(you): advance to the day after the first reminder. Send the signal PAID to the run,
        # with an external id. Advance by four weeks. Assert that there was one reminder, and the
        # result is "paid".
        # instead: assert not reminded
        world.advance(WEEK + DAY)
        world.client.signal_run(NAMESPACE, "bill", "ada", PAID, 100, "payment")
        world.advance(4 * WEEK)
        assert len(reminded) == 1
        assert world.client.result(NAMESPACE, "bill", "ada") == "paid"
        # done


# The program: a workflow that executes both tests on each bill.


def attempt(ctx: replay.ActivityContext, backends: None, name: str) -> str:
    """An activity: says whether the tests pass for the bill of this name."""
    try:
        nobody_pays(BILLS[name])
        somebody_pays(BILLS[name])
    except (AssertionError, TimeoutError):
        return "fails"
    except Exception as error:  # No further attempt would help.
        return f"fails: {error!r}"
    return "passes"


def judge(ctx: replay.RunContext, names: list[str]) -> None:
    """A workflow: tries out all bills."""
    for name in names:
        ctx.exec_activity(attempt, name)


def main(url: str, run: str) -> None:
    """Shows for which bills your tests pass: it should be the first one only."""
    with replay.connect(url) as client:
        replay.register_workflow(client, NAMESPACE, judge)
        replay.register_activity(client, NAMESPACE, attempt)
        client.run_workflow(NAMESPACE, judge, run, list(BILLS))
        for event in client.stream(NAMESPACE, "judge", run):
            if event.type is replay.EventType.ACTIVITY_REQUEST:
                print(f"  {event.message}: ", end="", flush=True)
            elif event.type is replay.EventType.ACTIVITY_RESPONSE:
                print(event.message, flush=True)
            elif event.type is replay.EventType.RUN_COMPLETED:
                return
