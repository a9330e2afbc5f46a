"""Each promise has its test, and no test names one that there is not."""

import pytest

from tests import ledger

LIST = """# Title

- **L1** Events are only
  added. They are never changed.
- **L2** One of a key; no second.

## Not kept yet

- **L9** Retention.
"""
TESTS = '''
@pytest.fixture
def client(url: str) -> None: ...

@pytest.fixture
def both(client: None, both: None) -> None: ...

def test_one(both: None) -> None:
    """L1: on all."""

class TestMore:
    def test_two(self, own_server: object) -> None:
        """L1 to L3, S4: and more."""

@pytest.mark.slow
@pytest.mark.parametrize("n", [1])
def test_three() -> None:
    """B2B and Q are no ids."""
'''


def test_every_promise_has_a_test_and_no_test_an_unknown_promise() -> None:
    """What this project's texts promise, its tests name, and nothing else."""
    assert ledger.problems(ledger.all_promises(), ledger.all_claims()) == []


def test_both_lists_are_read() -> None:
    """The promises and the pitfalls are found, each once."""
    ids = [each.id for each in ledger.all_promises()]
    assert {"L1", "G4", *(f"P{n}" for n in range(1, 23))} <= set(ids)
    assert len(ids) == len(set(ids))


def test_a_list_is_read_with_what_is_not_kept() -> None:
    """An item is its id, its first sentence, and whether its heading says that it is kept."""
    assert ledger.promises(LIST) == [
        ledger.Promise("L1", "Events are only added.", True),
        ledger.Promise("L2", "One of a key; no second.", True),
        ledger.Promise("L9", "Retention.", False),
    ]


def test_tests_are_read_with_ids_and_backends() -> None:
    """Ranges count, fixtures are followed, methods are tests too."""
    assert ledger.claims(TESTS, "test_x.py") == [
        ledger.Claim("test_x.py", "test_one", frozenset({"L1"}), "SQLite and servers"),
        ledger.Claim("test_x.py", "test_three", frozenset(), "SQLite or nothing", slow=True),
        ledger.Claim(
            "test_x.py", "test_two", frozenset({"L1", "L2", "L3", "S4"}), "a server to kill"
        ),
    ]


def test_what_is_missing_or_unknown_is_told() -> None:
    """A kept id without a quick test and a test with an unknown id; not what is not kept."""
    made = [
        ledger.Claim("test_x.py", "test_one", frozenset({"S4"}), ""),
        ledger.Claim("test_x.py", "test_two", frozenset({"L2"}), "", slow=True),
    ]
    assert ledger.problems(ledger.promises(LIST), made) == [
        "no test names L1: Events are only added.",
        "only a slow test names L2: One of a key; no second.",
        "test_x.py: test_one names S4, which is in no list",
    ]


def test_the_table_has_the_ids_that_are_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    """Promise, number of tests, where they run, names; an id that is in no list is an error."""
    assert ledger.table(ledger.promises(LIST)[:1], ledger.claims(TESTS, "test_x.py")) == (
        "L1  Events are only added.\n"
        "    2 tests: 1 on SQLite and servers, 1 on a server to kill\n"
        "      test_x.py: one, two"
    )
    assert ledger.main(["L9"]) == 0
    assert capsys.readouterr().out.splitlines()[0].startswith("L9  `Client.prune`")
    assert ledger.main(["L77"]) == 2
