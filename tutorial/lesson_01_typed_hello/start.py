"""Lesson 1: the same with types, so that a wrong name or message is seen before it runs."""

from unittest.mock import create_autospec

import replay
from tutorial.lesson_01_typed_hello import hello_pb2 as pb
from tutorial.lesson_01_typed_hello.namespace import WORDS
from tutorial.lesson_01_typed_hello.replay_gen import HelloFlow, run_hello, start_replay_loops
from tutorial.show import print_log


def hello(flow: HelloFlow, name: pb.Name) -> None:
    """A workflow: `flow` has a method for each activity, and nothing that does not exist."""
    for language in WORDS:
        # TODO(you): have "Hello" translated into the language, by `flow.translate`, then the
        # greeting f"{word}, {name.value}!" said, by `flow.say`.
        pass


def rehearse() -> None:
    """Run the workflow without a log: it is a plain function, and this a plain mock of its flow."""
    flow = create_autospec(HelloFlow, instance=True)
    # TODO(you): let flow.translate return a word of your own.
    hello(flow, pb.Name(value="World"))
    print("rehearsed:", [call.args[0].text for call in flow.say.call_args_list])


def main(url: str, run: str) -> None:
    """Registers everything in one call, and runs it."""
    rehearse()
    with replay.connect(url) as client:
        start_replay_loops(client, WORDS, hello=hello)
        run_hello(client, run, pb.Name(value="World"))
        client.await_completion("typed_hello", "hello", run)
        print_log(client, "typed_hello", "hello", run)
