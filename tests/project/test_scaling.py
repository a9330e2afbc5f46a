"""docs/scaling.md: what it computes follows from the constants that it names."""

import re
from pathlib import Path

PAGE = (Path(__file__).parents[2] / "docs" / "scaling.md").read_text()
DAY = 86_400  # seconds
STEPS, EVENTS = 5, 12  # of a run


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("| ").split("|")]


def number(text: str) -> float:
    return float(re.sub(r"[^0-9.]", "", text))


def constants() -> dict[str, tuple[float, float]]:
    """What was measured on SQLite and on MariaDB, by its letter."""
    rows = [cells(line) for line in PAGE.splitlines() if re.match(r"\| `\w` \|", line)]
    return {row[0].strip("`"): (number(row[2]), number(row[3])) for row in rows}


def test_the_table_of_loads_follows_from_the_constants() -> None:
    """Steps, shares and growth of each row, to the last digit that is shown."""
    known = constants()
    rows = [cells(line) for line in PAGE.splitlines() if re.match(r"\| [0-9,]+ \|", line)]
    assert len(rows) == 4
    for row in rows:
        runs, steps, *rest = map(number, row)
        assert steps == round(runs * STEPS / DAY)
        shares = [runs * STEPS / DAY / speed * 100 for speed in known["s"]]
        growths = [runs * EVENTS * size / 1e9 for size in known["b"]]
        for shown, exact in zip(rest, (*shares, *growths), strict=True):
            assert abs(shown - exact) <= (0.05 if shown < 10 else 0.5), row


def test_the_sentences_follow_from_the_constants() -> None:
    """What a prune and a new consumer take, and the part of a core that reading costs."""
    known = constants()
    text = " ".join(PAGE.split())
    added = [f"{speed * 2.4:,.0f}" for speed in known["s"]]
    assert f"`s` adds {added[0]} on SQLite and {added[1]} on MariaDB" in text
    pruned = [f"{rate / EVENTS * DAY / 1e6:,.0f} million" for rate in known["p"]]
    assert f"That is {pruned[0]} a day on SQLite and {pruned[1]} on MariaDB" in text
    minutes = [f"{1e8 / rate / 60:.0f}" for rate in known["r"]]
    assert f"these are {minutes[0]} minutes on SQLite and {minutes[1]} on MariaDB" in text
    part = [f"{s * 2.4 / r * 100:.0f} %" for s, r in zip(known["s"], known["r"], strict=True)]
    assert f"that is {part[0]} of a core on SQLite and {part[1]} on MariaDB" in text
