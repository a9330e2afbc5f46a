"""Lesson 1: the greeter with types, so that you see a wrong name before you run it."""

from unittest.mock import create_autospec

import replay
from tutorial.lesson_01_typed_hello import hello_pb2 as pb
from tutorial.lesson_01_typed_hello.namespace import WORDS
from tutorial.lesson_01_typed_hello.replay_gen import HelloFlow, run_hello, start_replay_loops
from tutorial.show import print_log


def hello(flow: HelloFlow, name: pb.Name) -> None:
    """A workflow: `flow` has one method for each activity."""
    for language in WORDS:
        # TODO(you): translate "Hello" into the language with `flow.translate`. Then say the
        # greeting f"{word}, {name.value}!" with `flow.say`.
        # instead: pass
        word = flow.translate(pb.Word(english="Hello", language=language)).english
        flow.say(pb.Greeting(text=f"{word}, {name.value}!"))
        # done


def rehearse() -> None:
    """Run the workflow without a log. It is a plain function, so a mock of its flow will do."""
    flow = create_autospec(HelloFlow, instance=True)
    # TODO(you): let flow.translate return a word of your own.
    flow.translate.return_value = pb.Word(english="Ahoy")
    # done
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
