"""Q2: stored messages as JSON, and typed JSON as messages: exact, whatever is stored."""

import json
from pathlib import Path

import pytest
from google.protobuf import any_pb2, duration_pb2, wrappers_pb2

from replay import connect
from replay.server.proto.values_pb2 import Encoded, Failure, Json
from replay.storage.event import pack
from replay.tools.console import BadArgument, cells, shortened, to_json, visible, word
from replay.tools.messages import described, shown, typed
from tests.example_pb2 import Int
from tests.tools.commands import run


class Reversed:
    """A codec."""

    def encode(self, key: str, data: bytes) -> bytes:
        """Turn it around."""
        return data[::-1]

    def decode(self, key: str, data: bytes) -> bytes:
        """Turn it back."""
        if key.endswith("broken/0"):
            raise ValueError("no key")
        return data[::-1]


CODEC = Reversed()


def stored(text: bytes) -> bytes | None:
    """A plain value, as any program may have written its JSON."""
    return pack(Json(type="x", json=text), 10**6, "")


@pytest.mark.parametrize(
    "text",
    [
        b"123456789012345678901234567890",
        b"0.1000000000000000055511151231257827",
        b"1.10",
        b'{"a":1,"a":2}',
        '"\\u001b \u202e \u009b \U0001f600 \x7f"'.encode(),
    ],
)
def test_q2_json_keeps_every_digit_and_character(text: bytes) -> None:
    """Q2: a program reads exactly what was stored, by its own rules."""
    line = to_json(described(stored(text)))
    assert line.isprintable()
    whole = json.loads(line, parse_float=str, object_pairs_hook=list)
    assert dict(whole)["message"] == json.loads(text, parse_float=str, object_pairs_hook=list)


def test_q2_a_value_stays_on_its_line() -> None:
    """Q2: though its JSON was stored with line breaks."""
    line = to_json(described(stored(b'{\r\n  "a": "b\\nc"\n}')))
    assert "\n" not in line
    assert "\r" not in line
    assert json.loads(line)["message"] == {"a": "b\nc"}


@pytest.mark.parametrize("text", [b"", b"{", b"NaN", b"\xff", b"1e400", b"[" * 100_000])
def test_q2_a_damaged_value_damages_no_line(text: bytes) -> None:
    """Q2: it is shown as fields, and its bytes are there."""
    found = json.loads(to_json(described(stored(text))))
    assert found["message_type"] == "replay.v1.Json"
    assert "message_base64" in found


def test_q2_messages_of_all_kinds() -> None:
    """Q2: by their fields if the type is known, by number if it is not, and damaged ones."""
    inner = any_pb2.Any(type_url="t/app.v1.Unknown", value=b"\x08\x01")
    for raw, text in {
        None: "",
        pack(Int(value=7), 100, ""): 'example.Int {"value":"7"}',
        pack(wrappers_pb2.StringValue(value="a"), 100, ""): 'google.protobuf.StringValue "a"',
        pack(duration_pb2.Duration(seconds=1), 100, ""): 'google.protobuf.Duration "1s"',
        pack(Encoded(data=b"\xff\x00"), 100, ""): 'replay.v1.Encoded {"data":"/wA="}',
        pack(Failure(kind="k", text="t", detail=inner), 100, ""): (
            'replay.v1.Failure {"kind":"k","text":"t","attempts":0,"detail":'
            '{"message_type":"app.v1.Unknown","message":{"1":1},"message_base64":"CAE="}}'
        ),
        any_pb2.Any(type_url="t/app.v1.A", value=b"\x08\x01\x08\x02").SerializeToString(): (
            'app.v1.A {"1":[1,2]}'
        ),
        any_pb2.Any(type_url="t/app.v1.A", value=b"\xff").SerializeToString(): "app.v1.A null",
        b"\xff": "(damaged)",
    }.items():
        assert shown(raw) == text


def test_q2_a_hostile_message_ends() -> None:
    """Q2: however deep its unknown fields are."""
    value = b""
    for _ in range(200):
        length = len(value)
        value = (
            b"\x0a"
            + (bytes([length]) if length < 128 else bytes([length & 127 | 128, length >> 7]))
            + value
        )
    raw = any_pb2.Any(type_url="t/app.v1.Deep", value=value).SerializeToString()
    assert shown(raw).startswith("app.v1.Deep {")


def test_q2_typed_messages() -> None:
    """Q2: plain JSON, or the JSON of a protobuf type; all else is refused."""
    assert typed(None, None) is None
    assert typed('{"a": 123456789012345678901234567890}', None) == {
        "a": 123456789012345678901234567890
    }
    assert typed('{"value": "7"}', "example.Int") == Int(value=7)
    wrong = (("NaN", None), ("{", None), ('{"nope": 1}', "example.Int"), ("{}", "no.Such"))
    for text, name in wrong:
        with pytest.raises(BadArgument):
            typed(text, name)


def test_q2_names_are_shown_and_can_be_pasted() -> None:
    """Q2: each as a shell takes it, and never as an order to the terminal."""
    assert [
        word(each) for each in ("a/b-1", "a b", "it's", "'$", "é", "a\tb\\'", "\U000e0001")
    ] == [
        "a/b-1",
        "'a b'",
        '"it\'s"',
        "''\"'\"'$'",
        "é",
        r"$'a\x09b\\\''",
        r"$'\U000e0001'",
    ]
    assert visible("\x9b\u202e\x00") == r"\u009b\u202e\x00"


def test_q2_wide_characters_take_two_cells() -> None:
    """Q2: so columns stay in line, and cut texts fit."""
    assert [cells("abc"), cells("日本"), cells("e\u0301")] == [3, 4, 1]
    assert [shortened("日本語", n) for n in (6, 5, 4)] == ["日本語", "日本…", "日…"]
    assert shortened("x" * 10**6, 5) == "xxxx…"
    assert shortened("日" * 1000, 200) == "日" * 99 + "…"


def test_q2_j4_a_codec_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Q2, J4: so commands show messages as they were, and store them as the others are."""
    url, codec = f"sqlite:///{tmp_path / 'replay.db'}", f"--codec {__name__}:CODEC"
    with connect(url, codec=CODEC):
        pass
    assert run(f"start ns/flow/r '{{\"n\": 1}}' {codec}", url) == "started ns/flow/r\n[0]\n"
    assert '{"n":1}' in run(f"show ns/flow/r {codec}", url)
    assert '"message":{"n":1}' in run(f"tail --after 0 --to-head --json {codec}", url)
    encoded = run("show ns/flow/r", url)
    assert "replay.v1.Encoded" in encoded
    assert '{"n":1}' not in encoded
    assert run(f"start ns/flow/broken 1 {codec}", url) == "started ns/flow/broken\n[0]\n"
    assert "replay.v1.Encoded" in run(f"show ns/flow/broken {codec}", url)
    assert "ns/flow/broken/0: the codec failed: ValueError: no key" in caplog.text


@pytest.mark.parametrize("name", ["nowhere:CODEC", f"{__name__}:Nothing", "json", f"{__name__}:"])
def test_q2_j4_a_codec_that_is_none_is_refused(name: str, tmp_path: Path) -> None:
    """Q2, J4: with exit code 2, and what is expected."""
    with connect(url := f"sqlite:///{tmp_path / 'replay.db'}"):
        pass
    printed = run(f"tail --to-head --codec {name}", url)
    assert printed.startswith(f"! replay: --codec {name.split(':')[0]}")
    assert printed.endswith("[2]\n")
