"""The guide shows the code that there is, and leads through all of it."""

import ast
import builtins
import re
import runpy
from itertools import pairwise
from pathlib import Path

import pytest

from tests import ledger

ROOT = Path(__file__).resolve().parent.parent.parent
GUIDE = ROOT / "docs" / "guide"
PAGES = {path.name: path.read_text(encoding="utf-8") for path in sorted(GUIDE.glob("*.md"))}
START = (ROOT / "docs" / "walkthrough.md").read_text(encoding="utf-8")
#: The pages in their order.
LISTED = re.findall(r"^\d+\. \[.*?\]\(guide/(\S+)\)", START, re.MULTILINE)
SCRIPT = runpy.run_path(str(ROOT / "docs" / "guide.py"))
STEPS = {path.name for path in (ROOT / "tutorial" / "engine").glob("step_*")}

each_page = pytest.mark.parametrize("name", PAGES)


def item(text: str, title: str) -> str:
    """An item of the list at the top of a page."""
    found = re.findall(rf"^- {title}: (.*(?:\n  .*)*)$", text, re.MULTILINE)
    assert len(found) == 1, title
    return str(found[0])


def links(text: str) -> list[str]:
    """The pages that a text links to."""
    return re.findall(r"\]\(([\w./]+\.md)\)", text)


@each_page
def test_excerpts_are_what_the_code_says(name: str) -> None:
    """Each page has some, and none has gone stale: ``python docs/guide.py`` rewrites them."""
    assert SCRIPT["page"](PAGES[name]) == PAGES[name], "run: python docs/guide.py"
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGES[name], re.DOTALL | re.MULTILINE)
    assert len(SCRIPT["EXCERPT"].findall(PAGES[name])) == len(blocks) in (1, 2, 3)
    assert max(block.count("\n") for block in blocks) <= 25


@each_page
def test_a_page_is_short(name: str) -> None:
    """One idea, and what belongs to it."""
    lines = PAGES[name].splitlines()
    assert len(lines) <= 90
    assert max(len(line) for line in lines if not line.startswith("|")) <= 100
    assert "**The idea" in PAGES[name]


def test_the_pages_form_a_chain() -> None:
    """From the walkthrough through each page, once, and back; the last lines have the links."""
    assert sorted(LISTED) == sorted(PAGES)
    last = [PAGES[name].splitlines()[-1] for name in LISTED]
    chain = ["../walkthrough.md", *LISTED, "../walkthrough.md"]
    around = zip(chain, chain[2:], strict=False)
    assert list(map(links, last)) == [list(each) for each in around]
    assert all("Previous: " in line for line in last)


def test_links_say_what_the_page_is_called() -> None:
    """A link to the next page has its title, but for a capital."""
    titles = {name: PAGES[name].splitlines()[0].removeprefix("# ") for name in LISTED}
    for name, following in pairwise(LISTED):
        text = re.findall(r"Next: \[(.*)\]", PAGES[name].splitlines()[-1])
        assert [each.lower() for each in text] == [titles[following].lower()]


def test_every_module_has_one_page() -> None:
    """Nobody looks for a module in vain, and none is explained twice."""
    files = [item(text, "Code") for text in PAGES.values()]
    named = [each for some in files for each in re.findall(r"`(\S+\.py)`", some)]
    assert sorted(named) == sorted(str(path.relative_to(ROOT)) for path in MODULES)


@each_page
def test_what_a_page_names_is_defined(name: str) -> None:
    """Classes, methods and private names; tests/names.py looks up names behind a module's."""
    prose = re.sub(r"^```.*?^```$", "", PAGES[name], flags=re.DOTALL | re.MULTILINE)
    spans = re.findall(r"`([A-Z_]\w*(?:\.\w+)*)`", prose)
    assert {part for span in spans for part in span.split(".")} <= DEFINED


def defined(node: ast.AST) -> str:
    """The name that a piece of code gives; empty if none."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return node.name
    stored = isinstance(getattr(node, "ctx", None), ast.Store)
    return str(getattr(node, "id", getattr(node, "attr", ""))) if stored else ""


MODULES = [path for path in (ROOT / "replay").rglob("[!_]*.py") if path.parent.name != "proto"]
#: All names of the library, of Python, and of a message.
DEFINED = {defined(node) for path in MODULES for node in ast.walk(ast.parse(path.read_text()))}
DEFINED |= {*dir(builtins), "Failure"}


def test_every_promise_has_a_page() -> None:
    """Where it is kept stands in the guide."""
    kept = {id for text in PAGES.values() for id in ledger.named(item(text, "Keeps"))}
    law = (ROOT / "docs" / "semantics.md").read_text(encoding="utf-8")
    assert kept >= {promise.id for promise in ledger.promises(law)}


def test_every_step_has_a_page_and_leads_to_one() -> None:
    """Each page links what is behind it in build your own, and each step links a page."""
    engine = "../../tutorial/engine/"
    linked = [links(item(text, "Build it")) for text in PAGES.values()]
    assert all(link and all(each.startswith(engine) for each in link) for link in linked)
    assert {Path(each).parent.name for link in linked for each in link} - {"engine"} == STEPS
    for step in STEPS:
        text = (ROOT / "tutorial" / "engine" / step / "README.md").read_text(encoding="utf-8")
        found = [each for each in links(text) if "docs/guide/" in each]
        behind = [PAGES[Path(each).name] for each in found]
        assert any(f"{engine}{step}/README.md" in item(each, "Build it") for each in behind), step


# The script.

OLD = """\
def f(a):
    one = a
    two = one
    if two:
        return 1
    return 2
"""
NEW = """\
@cached
def f(a, b):
    one = a + b
    three = b
    two = one
    if two:
        log(two)
        return 1
    return 3
"""
EXCERPTS = [
    (OLD, NEW),
    # The first piece begins where the definition does.
    ("def f(a):\n    ...\n", "@cached\ndef f(a, b):\n    ...\n"),
    # A piece shows what has come into it, and the last one ends where the definition does.
    (
        "...\n    if two:\n        return 1\n    return 2\n",
        "...\n    if two:\n        log(two)\n        return 1\n    return 3\n",
    ),
    # A line that has changed is found by its likeness.
    ("...\n    one = a\n    ...\n", "...\n    one = a + b\n    ...\n"),
]


@pytest.mark.parametrize(("excerpt", "expected"), EXCERPTS)
def test_an_excerpt_follows_the_code(excerpt: str, expected: str) -> None:
    renewed = SCRIPT["renewed"]
    assert renewed(excerpt.splitlines(), OLD.splitlines()) == excerpt.splitlines()
    assert renewed(excerpt.splitlines(), NEW.splitlines()) == expected.splitlines()


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("replay/log.py Log.nonsense\n", "there is no Log.nonsense"),
        ("replay/shard.py fnv1a\n...\nnonsense = []\n...\n", "nothing is like 'nonsense = []'"),
    ],
)
def test_an_excerpt_of_nothing_is_named(source: str, problem: str) -> None:
    """A function that was renamed leaves no excerpt behind."""
    with pytest.raises(LookupError, match=re.escape(problem)) as raised:
        SCRIPT["page"](f"```python\n# {source}```\n")
    assert source.splitlines()[0] in str(raised.value)


def test_a_definition_is_found_behind_its_overloads() -> None:
    definition = SCRIPT["definition"]
    text = "class A:\n    @overload\n    def f(self): ...\n    def f(self):\n        return 1\n"
    assert definition(text, "A.f") == ["def f(self):", "    return 1"]
    assert definition("#: A list.\nTYPES: list[int] = [\n    1,\n]\n", "TYPES")[0] == (
        "TYPES: list[int] = ["
    )
