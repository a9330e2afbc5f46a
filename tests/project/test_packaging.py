"""The distribution: what it holds and needs, and that it works where only it is installed."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import zipfile
from collections.abc import Sequence
from importlib.metadata import packages_distributions
from pathlib import Path
from shutil import copytree, ignore_patterns
from typing import Any, NamedTuple

import pytest

from tests.project.test_docs import marked

ROOT = Path(__file__).resolve().parent.parent.parent
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]
#: What `pip install` may name besides this project: what makes the generated files.
OF_OTHERS = {"grpcio-tools>=1.71,<1.74"}
BUILD = """
import sys
from setuptools import build_meta
getattr(build_meta, "build_" + sys.argv[1])(sys.argv[2])
"""


class Built(NamedTuple):
    """What is uploaded."""

    sdist: Path
    wheel: Path


def run(command: Sequence[str | Path], cwd: Path) -> str:
    """What a command prints that ends well, with neither our code nor our settings within reach."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def name(requirement: str) -> str:
    """A requirement's distribution, as the index compares names."""
    return re.sub(r"[-_.]+", "-", re.split(r"[\[<>=! ;]", requirement)[0]).lower()


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The sdist of this checkout, and the wheel that is made of the sdist alone."""
    folder = tmp_path_factory.mktemp("built")
    checkout = folder / "checkout"
    copytree(ROOT, checkout, ignore=ignore_patterns(".*", "*.egg-info", "__pycache__", "build"))
    build: list[str | Path] = [sys.executable, "-W", "error", "-c", BUILD]
    run([*build, "sdist", folder], checkout)
    (sdist,) = folder.glob("*.tar.gz")
    run(["tar", "-xzf", sdist, "-C", folder], checkout)  # Debian 12's tarfile knows no filters
    run([*build, "wheel", folder], folder / sdist.name.removesuffix(".tar.gz"))
    (wheel,) = folder.glob("*.whl")
    return Built(sdist, wheel)


@pytest.fixture(scope="module")
def installed(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an environment that has the wheel, and what it needs, but no checkout."""
    folder = tmp_path_factory.mktemp("installed") / "venv"
    run([sys.executable, "-m", "venv", "--without-pip", folder], ROOT)
    (site,) = folder.glob("lib/python*/site-packages")
    # What it needs is in the environment of the tests, so this needs no network.
    (site / "needs.pth").write_text("\n".join(map(sysconfig.get_path, ["purelib", "platlib"])))
    pip: list[str | Path] = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        folder / "bin" / "python",
        "install",
        "-q",
    ]
    run([*pip, "--no-index", "--ignore-installed", "--no-deps", built.wheel], folder)
    return folder / "bin"


def test_the_wheel_holds_the_package_and_nothing_else(built: Built) -> None:
    """It has all files of replay/ that git has, with py.typed and the page, and no tests."""
    files = {str(file.relative_to(ROOT)) for file in (ROOT / "replay").rglob("*") if file.is_file()}
    files = {file for file in files if "__pycache__" not in file}
    assert {"replay/py.typed", "replay/tools/static/page.js"} <= files
    with zipfile.ZipFile(built.wheel) as archive:
        names = set(archive.namelist())
    info = built.wheel.name.removesuffix("-py3-none-any.whl") + ".dist-info/"
    assert {each for each in names if not each.startswith(info)} == files


def test_the_sdist_holds_what_the_wheel_is_made_of(built: Built) -> None:
    """It has no tests: they need the whole checkout."""
    with tarfile.open(built.sdist) as archive:
        names = {each.partition("/")[2] for each in archive.getnames()}
    top = {each.partition("/")[0] for each in names} - {""}
    assert {"replay", "pyproject.toml", "README.md", "LICENSE"} <= top
    assert top & {"tests", "tutorial", "bench", "demo", "docs"} == set()


def test_what_is_installed_works(installed: Path, tmp_path: Path) -> None:
    """The commands start, the example prints what the README shows, and types are checked."""
    assert run([installed / "replay", "--help"], tmp_path).startswith("usage: replay ")
    assert run([installed / "typedreplay", "--help"], tmp_path).startswith("usage: typedreplay ")
    shown = run([installed / "python", "-W", "error", ROOT / "examples" / "hello.py"], tmp_path)
    assert shown == marked("output")
    where = run([installed / "python", "-c", "import replay; print(replay.__file__)"], tmp_path)
    assert Path(where).is_relative_to(installed.parent)
    (tmp_path / "typed.py").write_text("import replay\n\nreplay.connect(1)\n")
    checked: list[str | Path] = [
        sys.executable,
        "-m",
        "mypy",
        "--python-executable",
        installed / "python",
    ]
    done = subprocess.run([*checked, "typed.py"], cwd=tmp_path, capture_output=True, text=True)
    assert 'Argument 1 to "connect" has incompatible type "int"' in done.stdout


def test_the_extras_can_be_added_later(installed: Path) -> None:
    """The lines in our errors hold before a release, too: pip takes what is installed."""
    pip: list[str | Path] = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        installed / "python",
        "install",
        "--no-index",
    ]
    said = run([*pip, "--dry-run", "replay-workflows[grpc,metrics]"], installed)
    assert "Requirement already satisfied: replay-workflows[grpc,metrics]" in said
    assert "Would install" not in said


def test_what_is_imported_is_declared() -> None:
    """The package imports what its requirements bring, and each of them has a lower bound."""
    imported = set[str]()
    for file in (ROOT / "replay").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                imported |= {each.name for each in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                imported.add(node.module or "")
    homes = packages_distributions()
    modules = {each.partition(".")[0] for each in imported} - sys.stdlib_module_names
    modules -= {"replay", "pytest"}  # only pytest imports its plugin
    # All of google/ that is imported is protobuf's; other distributions share that folder.
    needed = {
        name(homes[each][0]) for each in modules - {"google", "grpc_health", "grpc_reflection"}
    }
    required = [
        *PROJECT["dependencies"],
        *(each for extra in ("grpc", "metrics", "show") for each in EXTRAS[extra]),
    ]
    declared = {name(each) for each in required}
    of_google = {"protobuf", "grpcio-health-checking", "grpcio-reflection"}
    assert needed | of_google == declared
    assert [each for each in required if ">=" not in each] == []


def test_every_pip_install_in_the_texts_is_true() -> None:
    """Each names this checkout or this distribution, with extras that exist; none is `replay`."""
    files = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "tutorial").rglob("*.md")]
    files += (ROOT / "replay").rglob("*.py")
    targets = [
        (file.name, found[1])
        for file in files
        for found in re.finditer(r"pip install ((?:-\S+ )*'?[^\s'`\"]+)", file.read_text())
    ]
    assert len(targets) >= 6
    for file, target in targets:
        given = target.rpartition("'")[2] if "'" in target else target
        project = re.fullmatch(r"(?:-e )?(?:\.|replay-workflows)(?:\[([\w,]+)\])?", given)
        assert project or given in OF_OTHERS, (file, target)
        extras = project[1].split(",") if project and project[1] else []
        assert set(extras) <= set(EXTRAS), (file, target)


def test_the_matrix_has_each_python_that_is_declared() -> None:
    """The workflow runs on each Python of the classifiers, and the lowest is required."""
    declared = re.findall(r"Python :: (3\.\d+)", "\n".join(PROJECT["classifiers"]))
    workflow = (ROOT / ".github" / "workflows" / "tests.yml").read_text()
    (matrix,) = re.findall(r"^ +python: \[(.*)\]$", workflow, re.MULTILINE)
    assert re.findall(r"3\.\d+", matrix) == declared
    assert PROJECT["requires-python"] == f">={declared[0]}"
