"""Lesson 0: a workflow that greets in five languages, and goes on after any kill."""

import os
from datetime import timedelta

import replay
from tutorial.lesson_00_hello_world import hello_pb2 as pb
from tutorial.show import print_log

NAMESPACE = "hello_world"
WORDS = ["Hello", "Hola", "Bonjour", "Hallo", "Ciao"]


def say(ctx: replay.ActivityContext, backends: None, greeting: pb.Greeting) -> pb.Said:
    """An activity: it may do anything. This one prints, and returns its process number."""
    print(f"  {greeting.text}", flush=True)
    return pb.Said(process=os.getpid())


def hello(ctx: replay.RunContext, name: pb.Name) -> None:
    """A workflow: it decides what happens, and does nothing itself."""
    for word in WORDS:
        # TODO(you): execute the activity `say` with the greeting f"{word}, {name.value}!".
        # Then sleep for a second.
        # instead: pass
        ctx.exec_activity(say, pb.Greeting(text=f"{word}, {name.value}!"))
        ctx.sleep(timedelta(seconds=1))
        # done


def main(url: str, run: str) -> None:
    """Registers both, starts the run unless it has been started, and waits for its end."""
    with replay.connect(url) as client:
        replay.register_workflow(client, NAMESPACE, hello)
        replay.register_activity(client, NAMESPACE, say)
        client.run_workflow(NAMESPACE, "hello", run, pb.Name(value="World"))
        client.await_completion(NAMESPACE, "hello", run)
        print_log(client, NAMESPACE, "hello", run)
