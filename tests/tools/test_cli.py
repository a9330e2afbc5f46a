"""The commands, also without the extras: every `--help` works, an error says what to install."""

import argparse
import subprocess
import sys
from pathlib import Path

import pytest

from replay.server.access import new_token
from replay.server.options import Options
from replay.tools import cli

#: What only the extras bring.
EXTRAS = ("grpc", "grpc_health", "grpc_reflection", "prometheus_client")
MODULES = {"replay": "replay", "typedreplay": "replay.tools.typedgen"}


def bare(command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command where no extra is installed."""
    program = (
        "import runpy, sys\n"
        f"sys.modules |= dict.fromkeys({EXTRAS!r})\n"
        f"sys.argv = {[command, *arguments]!r}\n"
        f"runpy.run_module({MODULES[command]!r}, run_name='__main__')\n"
    )
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize(
    "arguments",
    ["replay", "replay server", "replay token", "replay prune", "replay export", "typedreplay"],
    ids=str,
)
def test_every_help_works_without_an_extra(arguments: str) -> None:
    """A newcomer looks around before they install anything."""
    done = bare(*arguments.split(), "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"usage: {arguments}")


def test_a_token_is_made_without_an_extra() -> None:
    """Nothing of it is sent anywhere."""
    done = bare("replay", "token", "shop")
    assert (done.returncode, done.stderr) == (0, "")
    assert '["shop"]' in done.stdout


def test_a_server_names_the_package_that_is_missing() -> None:
    """It exits with 2 and says what to install, in one line."""
    done = bare("replay", "server", "--db", "sqlite://")
    needed = "a server needs the package grpc: pip install 'replay-workflows[grpc]'"
    assert (done.returncode, done.stderr) == (2, f"replay: {needed}\n")


def test_g4_what_the_command_is_given_the_server_gets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """G4: a token or a certificate that is named is never left out in silence."""
    token, entry = new_token("shop", ["orders"], "read")
    files = {"tokens": entry, "tls-cert": "a certificate", "tls-key": "a key", "client-ca": "a CA"}
    arguments = ["server", "--db", "sqlite://", "--db", "own=sqlite:///own.db"]
    for option, content in files.items():
        (tmp_path / option).write_text(content)
        arguments += [f"--{option}", str(tmp_path / option)]
    arguments += ["--listen", "h:1", "--max-streams", "2", "--max-calls", "3", "--threads", "4"]
    given: list[Options] = []

    async def serve(kind: object, args: argparse.Namespace) -> None:
        given.append(cli._options(args))

    monkeypatch.setattr(cli, "serve", serve)
    assert cli.main(arguments) == 0
    (options,) = given
    assert options.access.principal(token).name == "shop"
    assert options == Options(
        databases={"": "sqlite://", "own": "sqlite:///own.db"},
        listen="h:1",
        access=options.access,
        certificate=b"a certificate",
        key=b"a key",
        client_ca=b"a CA",
        insecure=False,
        max_streams=2,
        max_calls=3,
        threads=4,
    )
