"""The commands without the extras: every `--help` works, and an error says what to install."""

import subprocess
import sys

import pytest

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
    "arguments", ["replay", "replay server", "replay token", "typedreplay"], ids=str
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
