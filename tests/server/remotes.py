"""Remote clients, and a consumer of theirs."""

from __future__ import annotations

from replay import Client, Consumer, consume
from replay.server.remote import RemoteLog

NAME = "consumer/mine"


def mine(client: Client, seen: list[str]) -> Consumer:
    return consume(client, "mine", lambda event: seen.append(event.key.run), start=False)


def log_of(client: Client) -> RemoteLog:
    assert isinstance(client.log, RemoteLog)
    return client.log
