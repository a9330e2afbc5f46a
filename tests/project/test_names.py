"""The check of names finds each kind of name that leads nowhere, and lets pass what exists."""

import pytest

from tests import names

README = names.ROOT / "README.md"

GOOD = """\
`./dev test`, `./dev test --all -x`, `./dev COMMAND`, `./dev simulate --crash --again WORD`
`replay server --db sqlite:///log.db`, `python -m replay token`, `typedreplay namespace.py --check`
`replay.Client`, `Client.stream`, `client.Client`, `ctx.sleep(duration)`, `replay.storage.event.Key`
`--seed`, `log.py`, `replay/NAME.py`, `tests/simulation/`, `lesson_*/start.py`, `/etc/passwd.txt`
`replay.log.v1.Log`, `replaypb.SleepDone`, `signal.SIGTERM`, `time.nonsense()`, "client.nonsense"
L1, P1, B12, 127.0.0.1 and `pip install 'replay-workflows[grpc,metrics]'`
[a link](docs/semantics.md), [of the net](https://nowhere.example/at/all.md)

    ./dev tutorial 5 --reset    # which has no --nonsense

```sh
REPLAY_TEST_URLS=mysql://here ./dev test --all  # nothing else
```
"""


def test_what_exists_passes() -> None:
    """Names in their several forms, those of others, and what is no name."""
    assert names.missing(GOOD, README) == []


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("`./dev tests`", "./dev tests"),
        ("`./dev bench --nonsense 3`", "./dev bench --nonsense"),
        ("```sh\n./dev demo --nonsense=3\n```", "./dev demo --nonsense"),
        ("    PYTHON=python3 ./dev nonsense", "./dev nonsense"),
        ("`--nonsense`", "--nonsense"),
        ("`replay nonsense`", "replay nonsense"),
        ("`replay server --nonsense`", "replay --nonsense"),
        ("`.venv/bin/typedreplay --nonsense`", "typedreplay --nonsense"),
        ("`python -m tests.nonsense`", "python -m tests.nonsense"),
        ("`replay.nonsense`", "replay.nonsense"),
        ("`log.Log.nonsense()`", "log.Log.nonsense"),
        ("`Client.nonsense`", "Client.nonsense"),
        ("`ctx.nonsense(x)`", "ctx.nonsense"),
        ("`replay.log.v1.Nonsense`", "replay.log.v1.Nonsense"),
        ("`nonsense.py`", "nonsense.py"),
        ("`tests/log.py`", "tests/log.py"),
        ("`tests/nonsense/`", "tests/nonsense/"),
        ("[link](docs/nonsense.md)", "docs/nonsense.md"),
        ("[link](docs/semantics.md#nonsense)", "docs/semantics.md#nonsense"),
        ("R99 is promised", "R99"),
        ("replay-workflows[nonsense]", "replay-workflows[nonsense]"),
    ],
)
def test_what_does_not_exist_is_told_with_its_line(text: str, name: str) -> None:
    """One of each kind."""
    line = 3 if text.startswith("```") else 2
    assert names.missing(f"\n{text}\n", README) == [(line, name)]


def test_the_command_names_file_line_and_name(capsys: pytest.CaptureFixture[str]) -> None:
    """It ends with 1 if there is anything to tell."""
    text = names.ROOT / "tests" / "golden" / "README.md"
    assert names.main([str(text)]) == 0
    assert capsys.readouterr().out == ""
