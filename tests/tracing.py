"""Lets coverage watch threads on Python 3.11 without an endless loop.

When a thread that has used greenlets ends, the main thread removes its main greenlet, in a pending
call.  Coverage refers to that greenlet weakly, so Python code runs within the pending call.  If
another thread ends meanwhile, Python 3.11 begins this traced code again and again, for ever.
"""

import sys
import threading
from types import FrameType
from typing import Any

import greenlet


def keep_main_greenlets() -> list[greenlet.greenlet]:
    """Keep the main greenlet of each thread that begins from now on, so that none is removed.

    Returns the list that keeps them.
    """
    kept: list[greenlet.greenlet] = []

    def begin(frame: FrameType, event: str, argument: Any) -> None:
        sys.setprofile(None)
        kept.append(greenlet.getcurrent())

    if sys.version_info < (3, 12):
        threading.setprofile(begin)
    return kept
