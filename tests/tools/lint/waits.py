"""Mistakes: what swallows the end of a run, and activities that are called like functions."""

import contextlib

from replay import ActivityContext, RunContext


def charge(ctx: ActivityContext, backends: None, order: str) -> None: ...


def bare(ctx: RunContext, order: str) -> None:
    try:
        ctx.exec_activity(charge, order)
    except:
        ctx.emit_output("failed", order)


def everything(ctx: RunContext, order: str) -> None:
    try:
        ctx.exec_activity(charge, order)
    except (ValueError, BaseException):
        pass
    with contextlib.suppress(BaseException):
        ctx.exec_activity(charge, order)


def finally_returns(ctx: RunContext, order: str) -> str:
    try:
        ctx.exec_activity(charge, order)
    finally:
        return "done"


def direct(ctx: RunContext, order: str) -> None:
    charge(ctx, None, order)
