"""What the library itself adds to a run, and who may add it through a server (E1, E2, E7, E9)."""

from typing import Any

import grpc
import pytest

from replay import Event, EventType, Key, connect
from replay.server.proto.replaypb_pb2 import KeyMessage
from replay.server.proto.values_pb2 import Cancel, Failure, Json
from replay.server.remote import RemoteClient
from replay.storage.event import UNKNOWN, InvalidName, MessageError, pack
from tests.example_pb2 import Int
from tests.server.test_server import bare, key_message, status
from tests.serving import Serving
from tests.support import listing

REFUSED = grpc.StatusCode.INVALID_ARGUMENT
OUTPUT, REQUEST, RESPONSE = (
    EventType.RUN_OUTPUT,
    EventType.ACTIVITY_REQUEST,
    EventType.ACTIVITY_RESPONSE,
)
EXACT: list[tuple[EventType, str, Any]] = [
    (OUTPUT, "replay_result/0", Int(value=1)),
    (OUTPUT, "replay_failure/0", Failure(kind="failed", text="no")),
    (OUTPUT, "replay_patch/ship-by-air", Json(type="bool", json=b"true")),
    (OUTPUT, "replay_patch/é 1", Json(type="bool", json=b"true")),
    (OUTPUT, "replay_cancel/0", Json(type="bool", json=b"true")),
    (RESPONSE, "replay_cancel/0", Cancel(reason="enough")),
    (RESPONSE, "replay_cancel/1", Cancel(terminate=True)),
]
MALFORMED: list[tuple[EventType, str, Any]] = [
    (OUTPUT, "replay_result/1", Int(value=1)),
    (OUTPUT, "replay_result/x", Int(value=1)),
    (OUTPUT, "replay_failure/0", Int(value=1)),
    (OUTPUT, "replay_failure/0", None),
    (OUTPUT, "replay_failure/1", Failure()),
    (OUTPUT, "replay_patch/ a", None),
    (OUTPUT, "replay_patch/..", None),
    (OUTPUT, "replay_patch/a\n", None),
    (OUTPUT, "replay_patch/" + "x" * 256, None),
    (OUTPUT, "replay_cancel/1", None),
    (RESPONSE, "replay_cancel/7", Cancel()),
    (RESPONSE, "replay_cancel/0", Int(value=1)),
    (RESPONSE, "replay_cancel/0", None),
    (RESPONSE, "replay_result/0", Int(value=1)),
    (REQUEST, "replay_cancel/0", Cancel()),
    (REQUEST, "replay_patch/p", None),
    (REQUEST, "replay_result/0", None),
]


def add(client: RemoteClient, type: EventType, place: str, message: Any) -> list[bool]:
    """Add an event past the checks of the client."""
    key = Key("n", "w", "r", 0, *place.split("/"))
    return client.log.commit([Event(0, type, key, UNKNOWN, pack(message, 10_000, ""))])


def opened(server: Serving) -> RemoteClient:
    client = connect(server.url, loops=False)
    assert isinstance(client, RemoteClient)
    return client


@pytest.mark.parametrize(("type", "place", "message"), EXACT)
def test_e1_e2_e7_e9_a_client_of_ours_may_add_exactly_these(
    server: Serving, type: EventType, place: str, message: Any
) -> None:
    """E1, E2, E7, E9."""
    with opened(server) as client:
        assert add(client, type, place, message) == [True]
        assert listing(client)[0].startswith(f"{type.name} n/w/r/0/{place} ")


@pytest.mark.parametrize(("type", "place", "message"), MALFORMED)
def test_e1_e2_e7_e9_a_malformed_one_is_refused(
    server: Serving, type: EventType, place: str, message: Any
) -> None:
    """E1, E2, E7, E9: nothing is stored that nobody could read."""
    with opened(server) as client:
        with pytest.raises((InvalidName, MessageError)):
            add(client, type, place, message)
        assert listing(client) == []


@pytest.mark.parametrize(("type", "place", "message"), EXACT)
def test_e7_e11_another_client_may_add_none(
    server: Serving, type: EventType, place: str, message: Any
) -> None:
    """E1, E2, E7, E9, E11: of the service that the Go system has."""
    request: KeyMessage = key_message(f"n/w/r/0/{place}", message)
    with bare(server.url) as stub, opened(server) as client:
        call = stub.EmitOutput if type is OUTPUT else stub.RespondActivity
        assert status(call, request) is REFUSED
        assert listing(client) == []
