"""The breakages of tests/mutants fit the library as it is; whether they are caught takes longer."""

from pathlib import Path

import pytest

from tests.mutants import patch as mutants
from tests.mutants import run

PATCHES = mutants.patches()


def a_patch(folder: Path, before: str) -> mutants.Patch:
    """A patch that replaces a line."""
    path = folder / "some.patch"
    path.write_text(
        "What is broken.\nTests: tests/test_x.py -k 'a b'\n\n"
        f"--- a/x.py\n+++ b/x.py\n@@ -1 +1,2 @@\n-{before}\n+two\n+three\n"
    )
    return mutants.read(path)


@pytest.mark.parametrize("patch", PATCHES, ids=lambda patch: patch.name)
def test_every_patch_applies(patch: mutants.Patch, tmp_path: Path) -> None:
    """It says what it breaks and which tests notice, and what it makes is still a program."""
    assert patch.what.endswith(".")
    assert patch.tests
    for file in patch.files:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text((mutants.ROOT / file).read_text())
    mutants.apply(patch, tmp_path)
    for file in patch.files:
        compile((tmp_path / file).read_text(), file, "exec")


@pytest.mark.parametrize("patch", PATCHES, ids=lambda patch: patch.name)
def test_every_patch_names_tests_that_exist(patch: mutants.Patch) -> None:
    """Or all tests would run to notice it, which takes a hundred times as long."""
    for path, _, test in (name.partition("::") for name in patch.tests if name[:6] == "tests/"):
        assert (mutants.ROOT / path).exists()
        if test:
            assert f"def {test.partition('[')[0]}(" in (mutants.ROOT / path).read_text()


def test_there_are_enough_of_them() -> None:
    """Fewer would not say much of the suite."""
    assert len(PATCHES) >= 25


def test_a_patch_is_applied_by_its_lines(tmp_path: Path) -> None:
    """Wherever its lines are; and not within others."""
    (tmp_path / "x.py").write_text("zero\nnot one\none\n")
    patch = a_patch(tmp_path, "one")
    assert (patch.what, patch.tests) == ("What is broken.", ["tests/test_x.py", "-k", "a b"])
    mutants.apply(patch, tmp_path)
    assert (tmp_path / "x.py").read_text() == "zero\nnot one\ntwo\nthree\n"


@pytest.mark.parametrize("text", ["zero\n", "one\none\n"])
def test_a_patch_that_does_not_fit_is_refused(text: str, tmp_path: Path) -> None:
    """Its lines have to be there once."""
    (tmp_path / "x.py").write_text(text)
    with pytest.raises(mutants.DoesNotApply, match=r"x\.py has its lines [02] times"):
        mutants.apply(a_patch(tmp_path, "one"), tmp_path)


def test_patches_of_changed_files_are_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that break a file that changed, and those that changed themselves."""
    one, two = PATCHES[0], next(each for each in PATCHES if not each.files & PATCHES[0].files)
    printed = {"diff": [*one.files, "README.md"], "ls-files": [two.path]}
    monkeypatch.setattr(run, "git", lambda command, *_: printed[command])
    chosen = run.changed_since("some commit")
    assert [each for each in PATCHES if each.files & one.files or each == two] == chosen
    assert one in chosen


def test_all_patches_are_chosen_if_git_cannot_tell() -> None:
    """As for a commit that is not there."""
    assert run.changed_since("0" * 40) == PATCHES
