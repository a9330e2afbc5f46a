"""How the lessons print events."""

from google.protobuf import text_format

import replay


def line(event: replay.Event) -> str:
    """An event in one line: id, type, key, and its message if it has any."""
    text = f"{event.id:4} {event.type.name:17} {event.key}"
    if event.message is None:
        return text
    message = text_format.MessageToString(event.message, as_one_line=True, as_utf8=True)
    return f"{text}  {{{message}}}"


def print_log(client: replay.Client, namespace: str, workflow: str = "", run: str = "") -> None:
    """Print the events up to now: of a namespace, or of one of its workflows or runs."""
    for event in client.stream(namespace, workflow, run, to_head=True):
        print(line(event))
