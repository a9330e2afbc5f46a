"""Whether the suite notices what is broken: ``./dev mutants [NAME...]``.

Each patch is applied to a copy of the tree, and the tests that it names are run there, then the
whole suite if they pass: on SQLite, or also on a server where the patch needs one.  At the end all
tests that failed are run in a copy with no patch, where they have to pass.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.mutants.patch import ROOT, DoesNotApply, Patch, apply, patches
from tests.servers import NOT_FOUND, ServerError, private_servers, started

NOT_COPIED = shutil.ignore_patterns(".*", "__pycache__", "*.db", "*.db-*", "*.egg-info", "build")
#: What knows of a patch otherwise than by what it breaks, or says nothing of the library.
NO_PROOF = (
    "tests/mutants",
    "tests/project/test_mutants.py",
    "tests/project/test_docs.py",
    "tests/project/test_ledger.py",
    "tests/project/test_demo.py",
)
#: Seconds after which tests that do not end count as failed.
LIMIT = 600
_FAILED = re.compile(r"^(?:FAILED|ERROR) (.*?)(?: - .*)?$", re.MULTILINE)


class CannotRun(Exception):
    """pytest did not get as far as running tests."""


@dataclass(frozen=True)
class Outcome:
    """What became of a patch: the test that failed, if any, or what is wrong with the patch."""

    patch: Patch
    caught_by: str = ""
    problem: str = ""

    def __str__(self) -> str:
        if self.problem:
            return f"{self.patch.name}: {self.problem}"
        result = f"caught by {self.caught_by}" if self.caught_by else "SURVIVED"
        return f"{self.patch.name}: {result}  ({self.patch.what})"


@contextlib.contextmanager
def copied() -> Iterator[Path]:
    """A copy of the tree, to break."""
    with tempfile.TemporaryDirectory(prefix="replay-mutant-") as folder:
        tree = Path(folder) / "tree"
        shutil.copytree(ROOT, tree, ignore=NOT_COPIED)
        yield tree


def run_tests(tree: Path, arguments: Sequence[str], server: str, on_servers: bool) -> str:
    """Run tests in a copy up to the first that fails; its name, or nothing."""
    options = ["-q", "-x", "--tb=no", "-rfE", "-p", "no:cacheprovider"]
    options += [] if on_servers else ["-p", "tests.mutants.sqlite_only"]
    options += [f"--ignore={path}" for path in NO_PROOF]
    environment = os.environ | {
        "PYTHONPATH": str(tree),
        "PYTHONDONTWRITEBYTECODE": "1",
        "REPLAY_TEST_URLS": server,
        "COLUMNS": "1000",  # so that the name of a test is not cut
    }
    command = [sys.executable, "-m", "pytest", *options, *arguments]
    with subprocess.Popen(
        command,
        cwd=tree,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            output, _ = process.communicate(timeout=LIMIT)
        except subprocess.TimeoutExpired:
            _end(process)
            return f"no end within {LIMIT} s"
    if process.returncode == 0:
        return ""
    failed = _FAILED.search(output)
    if process.returncode != 1 or failed is None:
        raise CannotRun(f"pytest ended with {process.returncode}:\n{output[-2000:]}")
    return failed[1]


def _end(process: subprocess.Popen[str]) -> None:
    """End pytest as Ctrl-C does, so that it ends what it has started."""
    process.send_signal(signal.SIGINT)
    try:
        process.communicate(timeout=10)
    except subprocess.TimeoutExpired:
        process.kill()


def judge(patch: Patch, server: str) -> Outcome:
    """Apply a patch to a copy, and see what notices it."""
    try:
        with copied() as tree:
            apply(patch, tree)
            for arguments in (patch.tests, ["tests"]):
                if arguments and (failed := run_tests(tree, arguments, server, patch.on_servers)):
                    return Outcome(patch, caught_by=failed)
    except (DoesNotApply, CannotRun) as error:
        return Outcome(patch, problem=str(error))
    return Outcome(patch)


def unfounded(outcomes: Sequence[Outcome], server: str) -> str:
    """A test that failed under a patch, and fails without one as well."""
    tests = sorted({each.caught_by for each in outcomes if "::" in each.caught_by})
    if not tests:
        return ""
    with copied() as tree:
        return run_tests(tree, tests, server, on_servers=True)


@contextlib.contextmanager
def a_server() -> Iterator[str]:
    """URLs of servers: those that are named, or of a private one."""
    if named := os.environ.get("REPLAY_TEST_URLS"):
        yield named
        return
    for make in private_servers().values():
        with started(make) as server:
            yield server.url
        return
    raise ServerError(NOT_FOUND)


def chosen(names: Sequence[str]) -> list[Patch]:
    """The patches of these names, or all."""
    known = {patch.name: patch for patch in patches()}
    if unknown := [name for name in names if name not in known]:
        sys.exit(f"there is no {', '.join(unknown)}; there are: {', '.join(known)}")
    return [known[name] for name in names] or list(known.values())


def main() -> int:
    """Judge the patches; 1 if one survives, does not apply, or is caught for another reason."""
    parser = argparse.ArgumentParser(prog="./dev mutants", description=__doc__)
    parser.add_argument("name", nargs="*", help="a file of tests/mutants without .patch (all)")
    parser.add_argument("-j", "--jobs", type=int, default=os.cpu_count(), help="how many at once")
    given = parser.parse_args()
    outcomes = []
    with a_server() as server, ThreadPoolExecutor(given.jobs) as pool:
        for outcome in pool.map(lambda patch: judge(patch, server), chosen(given.name)):
            print(outcome, flush=True)
            outcomes.append(outcome)
        wrong = unfounded(outcomes, server)
    if wrong:
        print(f"{wrong} fails without a patch, too: it proves nothing")
    caught = sum(bool(outcome.caught_by) for outcome in outcomes)
    print(f"{caught} of {len(outcomes)} caught")
    return int(bool(wrong) or caught < len(outcomes))


if __name__ == "__main__":
    sys.exit(main())
