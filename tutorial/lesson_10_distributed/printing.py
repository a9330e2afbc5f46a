"""The printing of lesson 10: this is all that the four processes know of each other."""

import time
from dataclasses import dataclass

from replay import ActivityContext, OutputType, SignalType

NAMESPACE = "distributed"


@dataclass
class Document:
    """A document that somebody wants."""

    title: str
    pages: int


@dataclass
class Page:
    """A page of a document, which is to be printed."""

    title: str
    number: int


@dataclass
class Sheet:
    """A printed page, and the number of the process that printed it."""

    number: int
    process: int


#: A page is printed.
PRINTED = OutputType("printed", Sheet)
#: All pages are printed.
COMPLETE = OutputType("complete", Document)
#: The process of this number has handed over a document.
RECEIVED = SignalType(1, int)


def render(ctx: ActivityContext, process: int, page: Page) -> Sheet:
    """An activity that takes its time, and returns the number of its process."""
    time.sleep(0.4)
    print(f"{ctx.run}: page {page.number}", flush=True)
    return Sheet(page.number, process)
