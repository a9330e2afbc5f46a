"""Lesson 0: a workflow that greets in five languages, and goes on after any kill."""

import os
from datetime import timedelta

import replay
from tutorial.show import print_log

NAMESPACE = "hello_world"
WORDS = ["Hello", "Hola", "Bonjour", "Hallo", "Ciao"]


def say(ctx: replay.ActivityContext, backends: None, greeting: str) -> int:
    """An activity: it may do anything. This one prints, and returns its process number."""
    print(f"  {greeting}", flush=True)
    return os.getpid()


def hello(ctx: replay.RunContext, name: str) -> None:
    """A workflow: it decides what happens, and does nothing itself."""
    for word in WORDS:
        # TODO(you): execute the activity `say` with the greeting f"{word}, {name}!".
        # Then sleep for a second.
        # instead: pass
        ctx.exec_activity(say, f"{word}, {name}!")
        ctx.sleep(timedelta(seconds=1))
        # done


def main(url: str, run: str) -> None:
    """Registers both, starts the run unless it has been started, and waits for its end."""
    with replay.connect(url) as client:
        replay.register_workflow(client, NAMESPACE, hello)
        replay.register_activity(client, NAMESPACE, say)
        client.run_workflow(NAMESPACE, hello, run, "World")
        client.await_completion(NAMESPACE, hello, run)
        print_log(client, NAMESPACE, "hello", run)
