"""Breaks copies of the library, each in another way, and runs the tests, which must notice it.

Each patch in tests/mutants breaks one copy.  First the tests that the patch names run there.  If
they pass, all tests run, slow ones last: on SQLite, or also on a server if the patch needs one.
At the end all tests that failed run in a copy that is not broken, where they must pass.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.mutants.patch import ROOT, DoesNotApply, Patch, apply, patches
from tests.servers import NOT_FOUND, ServerError, private_servers, started

NOT_COPIED = shutil.ignore_patterns(".*", "*.db", "*.db-*", "*.egg-info", "build")
#: What knows of a patch otherwise than by what it breaks, or says nothing of the library.
NO_PROOF = (
    "tests/mutants",
    "tests/project/test_mutants.py",
    "tests/project/test_docs.py",
    "tests/project/test_names.py",
    "tests/project/test_ledger.py",
    "tests/project/test_demo.py",
    "tests/project/test_packaging.py",
    "tests/project/test_slow.py",
)
#: The whole suite, for what the named tests let pass.
EVERYTHING = (["tests", "-m", "not slow"], ["tests", "-m", "slow"])
#: Seconds after which tests that do not end prove nothing.
LIMIT, NAMED_LIMIT = 600, 240  # of all tests, and of those that a patch names
JOBS = 2 * (os.cpu_count() or 1)  # at once
OPTIONS = ("-p", "no:cacheprovider", "-p", "pytest_cov", "-p", "replay.tools.pytest_plugin")
_FAILED = re.compile(r"^(?:FAILED|ERROR) (.*?)(?: - .*)?$", re.MULTILINE)


class CannotRun(Exception):
    """pytest did not get as far as running tests, or not to their end."""


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
def copied(original: Path) -> Iterator[Path]:
    """A copy of the tree, to break."""
    with tempfile.TemporaryDirectory(prefix="replay-mutant-") as folder:
        tree = Path(folder) / "tree"
        shutil.copytree(original, tree, ignore=NOT_COPIED)
        yield tree


@contextlib.contextmanager
def compiled() -> Iterator[Path]:
    """A copy of the tree with its bytecode, which each further copy takes along.

    To compile the library and its tests takes longer than the test that notices a patch.
    """
    with copied(ROOT) as tree:
        command = [sys.executable, "-m", "pytest", "-q", "--collect-only", *OPTIONS, "tests"]
        subprocess.run(
            command, cwd=tree, env=environment(tree), capture_output=True, timeout=LIMIT, check=True
        )
        yield tree


def environment(tree: Path) -> dict[str, str]:
    """What pytest needs to import the library from a copy, and no plugin that it does not need.

    To load those takes as long as all the rest of a test.
    """
    # With CI, Hypothesis draws the same each time, and takes no slow machine for a fault.
    ours = {"PYTHONPATH": str(tree), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "CI": "true"}
    found = os.environ | ours
    return found | {"COLUMNS": "1000"}  # or names of tests are cut


def run_tests(
    tree: Path, arguments: Sequence[str], server: str, on_servers: bool, limit: float = LIMIT
) -> str:
    """Run tests in a copy up to the first that fails; its name, or nothing."""
    options = ["-q", "-x", "--tb=no", "-rfE", *OPTIONS]
    options += [] if on_servers else ["-p", "tests.mutants.sqlite_only"]
    options += [f"--ignore={path}" for path in NO_PROOF]
    command = [sys.executable, "-m", "pytest", *options, *arguments]
    with subprocess.Popen(
        command,
        cwd=tree,
        env=environment(tree) | {"REPLAY_TEST_URLS": server},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            output, _ = process.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            _end(process)
            # On a machine that is busy enough, that would happen without a patch, too.
            raise CannotRun(f"the tests did not end within {limit} s: one has to fail") from None
    if process.returncode == 0:
        return ""
    failed = _FAILED.search(output)
    if process.returncode not in (1, 2) or failed is None:  # 2 where xdist stops the others
        raise CannotRun(f"pytest ended with {process.returncode}:\n{output[-2000:]}")
    return failed[1]


def _end(process: subprocess.Popen[str]) -> None:
    """End pytest as Ctrl-C does, so that it ends what it has started."""
    process.send_signal(signal.SIGINT)
    try:
        process.communicate(timeout=10)
    except subprocess.TimeoutExpired:
        process.kill()


def judge(patch: Patch, server: str, original: Path) -> Outcome:
    """Apply a patch to a copy, and see what notices it."""
    try:
        with copied(original) as tree:
            apply(patch, tree)
            for arguments in (patch.tests, *EVERYTHING):
                limit = NAMED_LIMIT if arguments is patch.tests else LIMIT
                if not arguments:
                    continue
                if failed := run_tests(tree, arguments, server, patch.on_servers, limit):
                    return Outcome(patch, caught_by=failed)
    except (DoesNotApply, CannotRun) as error:
        return Outcome(patch, problem=str(error))
    return Outcome(patch)


def unfounded(outcomes: Sequence[Outcome], server: str, original: Path) -> str:
    """A test that failed under a patch, and fails without one as well."""
    tests = sorted({each.caught_by for each in outcomes if "::" in each.caught_by})
    if not tests:
        return ""
    with copied(original) as tree:
        several = ["-p", "xdist", "--dist", "worksteal", "-n", str(JOBS)]
        return run_tests(tree, [*several, *tests], server, on_servers=True)


@contextlib.contextmanager
def a_server() -> Iterator[str]:
    """URLs of servers: those that are named, or of a private one."""
    if urls := os.environ.get("REPLAY_TEST_URLS"):
        yield urls
        return
    for make in private_servers().values():
        with started(make) as server:
            yield server.url
        return
    raise ServerError(NOT_FOUND)


def git(*arguments: str) -> list[str]:
    """The lines that git prints.  Raises `CalledProcessError`, `OSError` if there is no git."""
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def base_commit() -> str:
    """Where this branch left origin/main; on origin/main itself the commit before."""
    (head,) = git("rev-parse", "HEAD")
    with contextlib.suppress(subprocess.CalledProcessError):
        (fork,) = git("merge-base", "origin/main", "HEAD")
        if fork != head:
            return fork
    return "HEAD~1"


def changed_since(base: str) -> list[Patch]:
    """The patches that changed since a commit, or break a file that did; all if git cannot tell."""
    try:
        base = base or base_commit()
        files = {*git("diff", "--name-only", "--no-renames", base)}
        files |= {*git("ls-files", "--others", "--exclude-standard")}
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"git cannot tell what changed ({error}): trying all patches", file=sys.stderr)
        return patches()
    found = [patch for patch in patches() if files & {patch.path, *patch.files}]
    print(f"{len(found)} of {len(patches())} patches are about files that changed since {base}")
    return found


def named(names: Sequence[str]) -> list[Patch]:
    """The patches of these names, or all."""
    known = {patch.name: patch for patch in patches()}
    if unknown := [name for name in names if name not in known]:
        sys.exit(f"there is no {', '.join(unknown)}; there are: {', '.join(known)}")
    return [known[name] for name in names] or list(known.values())


def judge_all(
    chosen: Sequence[Patch], jobs: int, minutes: float, server: str, original: Path
) -> list[Outcome]:
    """Judge patches, several at once; begin none after some minutes."""
    end = time.monotonic() + 60 * minutes

    def in_time(patch: Patch) -> Outcome | None:
        return judge(patch, server, original) if time.monotonic() < end else None

    outcomes = []
    with ThreadPoolExecutor(jobs) as pool:
        for outcome in pool.map(in_time, chosen):
            if outcome is not None:
                print(outcome, flush=True)
                outcomes.append(outcome)
    return outcomes


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="./dev mutants", description=__doc__)
    parser.add_argument("name", nargs="*", help="a file of tests/mutants without .patch (all)")
    parser.add_argument(
        "--changed",
        nargs="?",
        const="",
        metavar="BASE",
        help="only patches that changed since commit BASE, or that break a file that did"
        " (default: where the branch left origin/main, else HEAD~1)",
    )
    parser.add_argument(
        "--minutes", type=float, default=math.inf, help="begin no patch later (default: no limit)"
    )
    parser.add_argument("-j", "--jobs", type=int, default=JOBS, help="how many at once")
    given = parser.parse_args()
    if given.name and given.changed is not None:
        parser.error("give names or --changed, not both")
    return given


def main() -> int:
    """Judge the patches; 1 if one survives, does not apply, or is caught for another reason."""
    given = parse()
    # A script's background job ignores SIGINT, and so would the tests that `_end` interrupts.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    chosen = named(given.name) if given.changed is None else changed_since(given.changed)
    if not chosen:
        return 0
    with a_server() as server, compiled() as original:
        outcomes = judge_all(chosen, given.jobs, given.minutes, server, original)
        wrong = unfounded(outcomes, server, original)
    if wrong:
        print(f"{wrong} fails without a patch, too: it proves nothing")
    if left := len(chosen) - len(outcomes):
        print(f"{given.minutes:g} minutes are over: {left} patches were not tried")
    caught = sum(bool(outcome.caught_by) for outcome in outcomes)
    print(f"{caught} of {len(outcomes)} caught")
    return int(bool(wrong) or caught < len(outcomes))


if __name__ == "__main__":
    sys.exit(main())
