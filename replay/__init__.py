"""Durable workflows: functions that go on where they left off after any crash.

These are the public names.  To read the library, begin with `replay.log`.
"""

from .activity import ActivityContext, register_activity
from .client import Client, consume, handle
from .connect import connect
from .consumer import Consumer
from .failure import ActivityFailed, Cancelled, Failed, GiveUp, Retry, RunFailed
from .log import EventsPruned
from .run import Pending, RunContext, Signal
from .shard import Shard
from .signature import OutputType, SignalType
from .storage.codec import Codec
from .storage.database import Error, Unavailable
from .storage.event import Event, EventType, Key
from .workflow import register_workflow

__all__ = [
    "ActivityContext",
    "ActivityFailed",
    "Cancelled",
    "Client",
    "Codec",
    "Consumer",
    "Error",
    "Event",
    "EventType",
    "EventsPruned",
    "Failed",
    "GiveUp",
    "Key",
    "OutputType",
    "Pending",
    "Retry",
    "RunContext",
    "RunFailed",
    "Shard",
    "Signal",
    "SignalType",
    "Unavailable",
    "connect",
    "consume",
    "handle",
    "register_activity",
    "register_workflow",
]
