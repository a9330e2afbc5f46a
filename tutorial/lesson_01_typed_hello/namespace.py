"""The definition of lesson 1: names and types. `typedreplay` generates replay_gen.py from it."""

from replay import ActivityContext, typed
from tutorial.lesson_01_typed_hello import hello_pb2 as pb

WORDS = {"es": "Hola", "fr": "Bonjour", "de": "Hallo"}


def translate(ctx: ActivityContext, words: dict[str, str], word: pb.Word) -> pb.Word:
    """An activity that needs a dictionary. It gets the one that you register it with."""
    return pb.Word(english=words.get(word.language, word.english), language=word.language)


def say(ctx: ActivityContext, backends: None, greeting: pb.Greeting) -> None:
    """An activity that returns nothing."""
    print(f"  {greeting.text}", flush=True)


NAMESPACE = typed.Namespace(
    "typed_hello",
    workflows=[typed.Workflow("hello", input=pb.Name, description="Greets in three languages.")],
    activities=[
        typed.Activity(
            "translate",
            function="tutorial.lesson_01_typed_hello.namespace:translate",
            description="The word in its language.",
        ),
        typed.Activity(
            "say",
            function="tutorial.lesson_01_typed_hello.namespace:say",
            description="Says it aloud.",
        ),
    ],
)
