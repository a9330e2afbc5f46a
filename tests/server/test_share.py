"""Shards that sessions share: who owns what through a server, and what it refuses (H3)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc
import pytest

from replay import Client, register_activity
from replay.server.proto import log_pb2 as pb
from replay.server.wire import WrongServer
from replay.sharing import OtherShards, Sharded
from replay.storage.database import Error
from tests.server.remotes import log_of
from tests.server.test_session import NextCall
from tests.serving import Serving, serving
from tests.support import rows, stepped, with_options

ACT = "activity/ns/act"


def register(client: Client, shards: int = 4) -> Sharded:
    made = register_activity(client, "ns", print, name="act", shards=shards, start=False)
    assert isinstance(made, Sharded)
    return made


def owned(consumer: Sharded) -> list[int]:
    return [m for m, member in enumerate(consumer.members) if member.is_owner()]


def step(*consumers: Sharded) -> None:
    """Step until each owns its share."""
    for _ in range(100):
        for consumer in consumers:
            consumer.step()
        if all(owned(each) == each.share() for each in consumers):
            return
    raise AssertionError([owned(each) for each in consumers])


def announced(client: Client) -> int:
    return len(rows(client, "SELECT 1 FROM replay_processes WHERE consumer <> ''"))


def test_h3_g1_a_session_that_ends_leaves_its_shards_to_others(server: Serving) -> None:
    """H3, G1: its row goes with it, and its share of the limit."""
    with stepped(server.url) as a, stepped(server.url) as b:
        one, two = register(a), register(b)
        step(one, two)
        assert (len(owned(one)), len(owned(two)), announced(a)) == (2, 2, 2)
        held = server.server._limits.claims.held
        assert held["server", ""] == 6  # four shards, and that two serve them
        log_of(b)._stubs.channel.close()
        server.settle(1)
        assert announced(a) == 1
        step(one)
        assert owned(one) == [0, 1, 2, 3]
        assert held["server", ""] == 5


def test_h3_sessions_and_processes_share(tmp_path: Path) -> None:
    """H3: a session of a server, one of another server, and a process at the database itself."""
    base = f"sqlite:///{tmp_path / 'replay.db'}"
    with (
        serving(with_options(base, lease=3600)) as server,
        serving(base) as second,
        stepped(server.url) as a,
        stepped(second.url) as b,
        stepped(base) as c,
    ):
        teams = [register(client, 6) for client in (a, b, c)]
        step(*teams)
        assert [len(owned(team)) for team in teams] == [2, 2, 2]
        teams[0].stop()
        step(*teams[1:])
        assert [len(owned(team)) for team in teams] == [0, 3, 3]


def test_h3_another_number_is_refused_among_sessions(server: Serving) -> None:
    """H3: the server takes its own locks for no sign of death."""
    with stepped(server.url) as a, stepped(server.url) as b:
        one = register(a)
        step(one)
        for _ in range(2):
            with pytest.raises(OtherShards, match="has 4 shards, and live processes serve them"):
                register(b, 3)
        step(one)
        assert (owned(one), announced(a)) == ([0, 1, 2, 3], 1)
        one.stop()
        step(three := register(b, 3))
        assert owned(three) == [0, 1, 2]


@pytest.mark.parametrize("shards", [-1, 257, 2**31 - 1, -(2**31)])
@pytest.mark.parametrize("settle", [False, True])
def test_h3_g5_a_number_of_shards_that_cannot_be_is_refused(
    server: Serving, shards: int, settle: bool
) -> None:
    """H3, G5: before anything is done."""
    with stepped(server.url) as client:
        request = pb.ShareRequest(consumer=ACT, shards=shards, settle=settle)
        with pytest.raises(Error, match="expected up to 256"):
            log_of(client).ask("Share", request)
        assert rows(client, "SELECT 1 FROM replay_meta WHERE name LIKE 'shards/%'") == []
        assert announced(client) == 0


def test_h3_who_shares_nothing_withdraws_nothing(server: Serving) -> None:
    """H3: neither another session's row, nor twice."""
    with stepped(server.url) as a, stepped(server.url) as b:
        step(one := register(a))
        for _ in range(2):
            log_of(b).ask("Share", pb.ShareRequest(consumer=ACT))
        assert announced(a) == 1
        one.stop()
        log_of(a).ask("Share", pb.ShareRequest(consumer=ACT))
        assert announced(a) == 0
        assert server.server._limits.claims.held == {}


class Unknown(grpc.RpcError):
    """The error of gRPC where a method is not known."""

    def code(self) -> grpc.StatusCode:
        return grpc.StatusCode.UNIMPLEMENTED

    def details(self) -> str:
        return "Method not found!"

    def trailing_metadata(self) -> tuple[()]:
        return ()


def test_h3_a_server_of_another_version_is_the_wrong_one(server: Serving) -> None:
    """H3: one that knows nothing of shares says so at the registration."""

    def refuse() -> Any:
        raise Unknown

    with stepped(server.url) as client:
        NextCall(client, "Share", before=refuse)
        with pytest.raises(WrongServer, match="another version"):
            register(client)
