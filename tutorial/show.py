"""How the lessons print events."""

import json

from google.protobuf import text_format
from google.protobuf.message import Message

import replay


def line(event: replay.Event) -> str:
    """An event in one line: id, type, key, and its message if it has any."""
    text = f"{event.id:4} {event.type.name:17} {event.key}"
    message = event.message
    if message is None:
        return text
    if isinstance(message, Message):
        shown = text_format.MessageToString(message, as_one_line=True, as_utf8=True)
        return f"{text}  {{{shown}}}"
    return f"{text}  {json.dumps(message, ensure_ascii=False)}"


def print_log(client: replay.Client, namespace: str, workflow: str = "", run: str = "") -> None:
    """Print the events up to now: of a namespace, or of one of its workflows or runs."""
    for event in client.stream(namespace, workflow, run, to_head=True):
        print(line(event))
