from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class LocateRequest(_message.Message):
    __slots__ = ("namespace",)
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    def __init__(self, namespace: _Optional[str] = ...) -> None: ...

class LocateReply(_message.Message):
    __slots__ = ("log",)
    LOG_FIELD_NUMBER: _ClassVar[int]
    log: str
    def __init__(self, log: _Optional[str] = ...) -> None: ...

class OpenRequest(_message.Message):
    __slots__ = ("log",)
    LOG_FIELD_NUMBER: _ClassVar[int]
    log: str
    def __init__(self, log: _Optional[str] = ...) -> None: ...

class OpenReply(_message.Message):
    __slots__ = ("session", "end", "now_us", "max_message", "require_message")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    NOW_US_FIELD_NUMBER: _ClassVar[int]
    MAX_MESSAGE_FIELD_NUMBER: _ClassVar[int]
    REQUIRE_MESSAGE_FIELD_NUMBER: _ClassVar[int]
    session: str
    end: int
    now_us: int
    max_message: int
    require_message: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, session: _Optional[str] = ..., end: _Optional[int] = ..., now_us: _Optional[int] = ..., max_message: _Optional[int] = ..., require_message: _Optional[_Iterable[str]] = ...) -> None: ...

class Event(_message.Message):
    __slots__ = ("id", "type", "key", "time_ms", "message", "unread")
    ID_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    TIME_MS_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    UNREAD_FIELD_NUMBER: _ClassVar[int]
    id: int
    type: int
    key: str
    time_ms: int
    message: bytes
    unread: bool
    def __init__(self, id: _Optional[int] = ..., type: _Optional[int] = ..., key: _Optional[str] = ..., time_ms: _Optional[int] = ..., message: _Optional[bytes] = ..., unread: bool = ...) -> None: ...

class Events(_message.Message):
    __slots__ = ("events",)
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    events: _containers.RepeatedCompositeFieldContainer[Event]
    def __init__(self, events: _Optional[_Iterable[_Union[Event, _Mapping]]] = ...) -> None: ...

class ReadRequest(_message.Message):
    __slots__ = ("session", "after", "limit", "wait_ms")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    WAIT_MS_FIELD_NUMBER: _ClassVar[int]
    session: str
    after: int
    limit: int
    wait_ms: int
    def __init__(self, session: _Optional[str] = ..., after: _Optional[int] = ..., limit: _Optional[int] = ..., wait_ms: _Optional[int] = ...) -> None: ...

class ReadReply(_message.Message):
    __slots__ = ("events", "end", "newest", "now_us", "pruned")
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    NEWEST_FIELD_NUMBER: _ClassVar[int]
    NOW_US_FIELD_NUMBER: _ClassVar[int]
    PRUNED_FIELD_NUMBER: _ClassVar[int]
    events: _containers.RepeatedCompositeFieldContainer[Event]
    end: int
    newest: int
    now_us: int
    pruned: bool
    def __init__(self, events: _Optional[_Iterable[_Union[Event, _Mapping]]] = ..., end: _Optional[int] = ..., newest: _Optional[int] = ..., now_us: _Optional[int] = ..., pruned: bool = ...) -> None: ...

class Move(_message.Message):
    __slots__ = ("consumer", "old", "new", "parked", "unparked", "attempts")
    CONSUMER_FIELD_NUMBER: _ClassVar[int]
    OLD_FIELD_NUMBER: _ClassVar[int]
    NEW_FIELD_NUMBER: _ClassVar[int]
    PARKED_FIELD_NUMBER: _ClassVar[int]
    UNPARKED_FIELD_NUMBER: _ClassVar[int]
    ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    consumer: str
    old: int
    new: int
    parked: _containers.RepeatedCompositeFieldContainer[Parked]
    unparked: _containers.RepeatedScalarFieldContainer[int]
    attempts: Attempts
    def __init__(self, consumer: _Optional[str] = ..., old: _Optional[int] = ..., new: _Optional[int] = ..., parked: _Optional[_Iterable[_Union[Parked, _Mapping]]] = ..., unparked: _Optional[_Iterable[int]] = ..., attempts: _Optional[_Union[Attempts, _Mapping]] = ...) -> None: ...

class Attempts(_message.Message):
    __slots__ = ("seconds", "failed", "retried")
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    FAILED_FIELD_NUMBER: _ClassVar[int]
    RETRIED_FIELD_NUMBER: _ClassVar[int]
    seconds: _containers.RepeatedScalarFieldContainer[float]
    failed: int
    retried: int
    def __init__(self, seconds: _Optional[_Iterable[float]] = ..., failed: _Optional[int] = ..., retried: _Optional[int] = ...) -> None: ...

class Parked(_message.Message):
    __slots__ = ("event_id", "key", "attempts", "next_at_ms", "error")
    EVENT_ID_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    NEXT_AT_MS_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    event_id: int
    key: str
    attempts: int
    next_at_ms: int
    error: str
    def __init__(self, event_id: _Optional[int] = ..., key: _Optional[str] = ..., attempts: _Optional[int] = ..., next_at_ms: _Optional[int] = ..., error: _Optional[str] = ...) -> None: ...

class CommitRequest(_message.Message):
    __slots__ = ("session", "events", "move", "more")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    MOVE_FIELD_NUMBER: _ClassVar[int]
    MORE_FIELD_NUMBER: _ClassVar[int]
    session: str
    events: _containers.RepeatedCompositeFieldContainer[Event]
    move: Move
    more: bool
    def __init__(self, session: _Optional[str] = ..., events: _Optional[_Iterable[_Union[Event, _Mapping]]] = ..., move: _Optional[_Union[Move, _Mapping]] = ..., more: bool = ...) -> None: ...

class CommitReply(_message.Message):
    __slots__ = ("stored", "ids", "time_ms", "error", "details")
    STORED_FIELD_NUMBER: _ClassVar[int]
    IDS_FIELD_NUMBER: _ClassVar[int]
    TIME_MS_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    DETAILS_FIELD_NUMBER: _ClassVar[int]
    stored: _containers.RepeatedScalarFieldContainer[bool]
    ids: _containers.RepeatedScalarFieldContainer[int]
    time_ms: int
    error: str
    details: str
    def __init__(self, stored: _Optional[_Iterable[bool]] = ..., ids: _Optional[_Iterable[int]] = ..., time_ms: _Optional[int] = ..., error: _Optional[str] = ..., details: _Optional[str] = ...) -> None: ...

class ClaimRequest(_message.Message):
    __slots__ = ("session", "consumer", "wait_ms")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    CONSUMER_FIELD_NUMBER: _ClassVar[int]
    WAIT_MS_FIELD_NUMBER: _ClassVar[int]
    session: str
    consumer: str
    wait_ms: int
    def __init__(self, session: _Optional[str] = ..., consumer: _Optional[str] = ..., wait_ms: _Optional[int] = ...) -> None: ...

class ClaimReply(_message.Message):
    __slots__ = ("cursor", "floor")
    CURSOR_FIELD_NUMBER: _ClassVar[int]
    FLOOR_FIELD_NUMBER: _ClassVar[int]
    cursor: int
    floor: int
    def __init__(self, cursor: _Optional[int] = ..., floor: _Optional[int] = ...) -> None: ...

class ReleaseRequest(_message.Message):
    __slots__ = ("session", "consumer", "old", "new")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    CONSUMER_FIELD_NUMBER: _ClassVar[int]
    OLD_FIELD_NUMBER: _ClassVar[int]
    NEW_FIELD_NUMBER: _ClassVar[int]
    session: str
    consumer: str
    old: int
    new: int
    def __init__(self, session: _Optional[str] = ..., consumer: _Optional[str] = ..., old: _Optional[int] = ..., new: _Optional[int] = ...) -> None: ...

class ReleaseReply(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ServedRequest(_message.Message):
    __slots__ = ("session", "consumer", "ever")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    CONSUMER_FIELD_NUMBER: _ClassVar[int]
    EVER_FIELD_NUMBER: _ClassVar[int]
    session: str
    consumer: str
    ever: bool
    def __init__(self, session: _Optional[str] = ..., consumer: _Optional[str] = ..., ever: bool = ...) -> None: ...

class ServedReply(_message.Message):
    __slots__ = ("served",)
    SERVED_FIELD_NUMBER: _ClassVar[int]
    served: bool
    def __init__(self, served: bool = ...) -> None: ...

class ShareRequest(_message.Message):
    __slots__ = ("session", "consumer", "shards", "settle")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    CONSUMER_FIELD_NUMBER: _ClassVar[int]
    SHARDS_FIELD_NUMBER: _ClassVar[int]
    SETTLE_FIELD_NUMBER: _ClassVar[int]
    session: str
    consumer: str
    shards: int
    settle: bool
    def __init__(self, session: _Optional[str] = ..., consumer: _Optional[str] = ..., shards: _Optional[int] = ..., settle: bool = ...) -> None: ...

class ShareReply(_message.Message):
    __slots__ = ("shards",)
    SHARDS_FIELD_NUMBER: _ClassVar[int]
    shards: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, shards: _Optional[_Iterable[int]] = ...) -> None: ...

class ListParkedRequest(_message.Message):
    __slots__ = ("session", "consumer", "after")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    CONSUMER_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    session: str
    consumer: str
    after: int
    def __init__(self, session: _Optional[str] = ..., consumer: _Optional[str] = ..., after: _Optional[int] = ...) -> None: ...

class ListParkedReply(_message.Message):
    __slots__ = ("parked",)
    PARKED_FIELD_NUMBER: _ClassVar[int]
    parked: _containers.RepeatedCompositeFieldContainer[Parked]
    def __init__(self, parked: _Optional[_Iterable[_Union[Parked, _Mapping]]] = ...) -> None: ...

class RetryRequest(_message.Message):
    __slots__ = ("session", "consumer", "ids")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    CONSUMER_FIELD_NUMBER: _ClassVar[int]
    IDS_FIELD_NUMBER: _ClassVar[int]
    session: str
    consumer: str
    ids: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, session: _Optional[str] = ..., consumer: _Optional[str] = ..., ids: _Optional[_Iterable[int]] = ...) -> None: ...

class RetryReply(_message.Message):
    __slots__ = ("count",)
    COUNT_FIELD_NUMBER: _ClassVar[int]
    count: int
    def __init__(self, count: _Optional[int] = ...) -> None: ...

class GetRequest(_message.Message):
    __slots__ = ("session", "id", "type", "key")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    session: str
    id: int
    type: int
    key: str
    def __init__(self, session: _Optional[str] = ..., id: _Optional[int] = ..., type: _Optional[int] = ..., key: _Optional[str] = ...) -> None: ...

class GetReply(_message.Message):
    __slots__ = ("event",)
    EVENT_FIELD_NUMBER: _ClassVar[int]
    event: Event
    def __init__(self, event: _Optional[_Union[Event, _Mapping]] = ...) -> None: ...

class FindRequest(_message.Message):
    __slots__ = ("session", "type", "keys")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    KEYS_FIELD_NUMBER: _ClassVar[int]
    session: str
    type: int
    keys: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, session: _Optional[str] = ..., type: _Optional[int] = ..., keys: _Optional[_Iterable[str]] = ...) -> None: ...

class BegunRequest(_message.Message):
    __slots__ = ("session", "keys")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    KEYS_FIELD_NUMBER: _ClassVar[int]
    session: str
    keys: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, session: _Optional[str] = ..., keys: _Optional[_Iterable[str]] = ...) -> None: ...

class Keys(_message.Message):
    __slots__ = ("keys",)
    KEYS_FIELD_NUMBER: _ClassVar[int]
    keys: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, keys: _Optional[_Iterable[str]] = ...) -> None: ...

class HistoryRequest(_message.Message):
    __slots__ = ("session", "key")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    session: str
    key: str
    def __init__(self, session: _Optional[str] = ..., key: _Optional[str] = ...) -> None: ...

class LoadRequest(_message.Message):
    __slots__ = ("session", "ids")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    IDS_FIELD_NUMBER: _ClassVar[int]
    session: str
    ids: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, session: _Optional[str] = ..., ids: _Optional[_Iterable[int]] = ...) -> None: ...

class LastIterationRequest(_message.Message):
    __slots__ = ("session", "namespace", "workflow", "run")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    WORKFLOW_FIELD_NUMBER: _ClassVar[int]
    RUN_FIELD_NUMBER: _ClassVar[int]
    session: str
    namespace: str
    workflow: str
    run: str
    def __init__(self, session: _Optional[str] = ..., namespace: _Optional[str] = ..., workflow: _Optional[str] = ..., run: _Optional[str] = ...) -> None: ...

class LastIterationReply(_message.Message):
    __slots__ = ("begun", "ended")
    BEGUN_FIELD_NUMBER: _ClassVar[int]
    ENDED_FIELD_NUMBER: _ClassVar[int]
    begun: int
    ended: int
    def __init__(self, begun: _Optional[int] = ..., ended: _Optional[int] = ...) -> None: ...

class ListRunsRequest(_message.Message):
    __slots__ = ("session", "namespace", "workflow", "statuses", "started_after_us", "limit", "after")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    WORKFLOW_FIELD_NUMBER: _ClassVar[int]
    STATUSES_FIELD_NUMBER: _ClassVar[int]
    STARTED_AFTER_US_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    session: str
    namespace: str
    workflow: str
    statuses: _containers.RepeatedScalarFieldContainer[str]
    started_after_us: int
    limit: int
    after: int
    def __init__(self, session: _Optional[str] = ..., namespace: _Optional[str] = ..., workflow: _Optional[str] = ..., statuses: _Optional[_Iterable[str]] = ..., started_after_us: _Optional[int] = ..., limit: _Optional[int] = ..., after: _Optional[int] = ...) -> None: ...

class ListRunsReply(_message.Message):
    __slots__ = ("runs",)
    RUNS_FIELD_NUMBER: _ClassVar[int]
    runs: _containers.RepeatedCompositeFieldContainer[RunInfo]
    def __init__(self, runs: _Optional[_Iterable[_Union[RunInfo, _Mapping]]] = ...) -> None: ...

class RunInfo(_message.Message):
    __slots__ = ("namespace", "workflow", "run", "iteration", "status", "started_ms", "ended_ms", "error", "last_event_id", "id")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    WORKFLOW_FIELD_NUMBER: _ClassVar[int]
    RUN_FIELD_NUMBER: _ClassVar[int]
    ITERATION_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    STARTED_MS_FIELD_NUMBER: _ClassVar[int]
    ENDED_MS_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    LAST_EVENT_ID_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    workflow: str
    run: str
    iteration: int
    status: str
    started_ms: int
    ended_ms: int
    error: str
    last_event_id: int
    id: int
    def __init__(self, namespace: _Optional[str] = ..., workflow: _Optional[str] = ..., run: _Optional[str] = ..., iteration: _Optional[int] = ..., status: _Optional[str] = ..., started_ms: _Optional[int] = ..., ended_ms: _Optional[int] = ..., error: _Optional[str] = ..., last_event_id: _Optional[int] = ..., id: _Optional[int] = ...) -> None: ...

class CountRunsReply(_message.Message):
    __slots__ = ("counts",)
    class CountsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    COUNTS_FIELD_NUMBER: _ClassVar[int]
    counts: _containers.ScalarMap[str, int]
    def __init__(self, counts: _Optional[_Mapping[str, int]] = ...) -> None: ...

class FindIdsRequest(_message.Message):
    __slots__ = ("session", "namespace", "workflow", "run", "iteration", "after", "end")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    WORKFLOW_FIELD_NUMBER: _ClassVar[int]
    RUN_FIELD_NUMBER: _ClassVar[int]
    ITERATION_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    session: str
    namespace: str
    workflow: str
    run: str
    iteration: int
    after: int
    end: int
    def __init__(self, session: _Optional[str] = ..., namespace: _Optional[str] = ..., workflow: _Optional[str] = ..., run: _Optional[str] = ..., iteration: _Optional[int] = ..., after: _Optional[int] = ..., end: _Optional[int] = ...) -> None: ...

class Ids(_message.Message):
    __slots__ = ("ids",)
    IDS_FIELD_NUMBER: _ClassVar[int]
    ids: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, ids: _Optional[_Iterable[int]] = ...) -> None: ...

class ListConsumersRequest(_message.Message):
    __slots__ = ("session", "after")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    session: str
    after: str
    def __init__(self, session: _Optional[str] = ..., after: _Optional[str] = ...) -> None: ...

class ListConsumersReply(_message.Message):
    __slots__ = ("consumers", "next")
    CONSUMERS_FIELD_NUMBER: _ClassVar[int]
    NEXT_FIELD_NUMBER: _ClassVar[int]
    consumers: _containers.RepeatedCompositeFieldContainer[ConsumerInfo]
    next: str
    def __init__(self, consumers: _Optional[_Iterable[_Union[ConsumerInfo, _Mapping]]] = ..., next: _Optional[str] = ...) -> None: ...

class ConsumerInfo(_message.Message):
    __slots__ = ("name", "owner", "lease_until_ms", "cursor", "lag", "parked")
    NAME_FIELD_NUMBER: _ClassVar[int]
    OWNER_FIELD_NUMBER: _ClassVar[int]
    LEASE_UNTIL_MS_FIELD_NUMBER: _ClassVar[int]
    CURSOR_FIELD_NUMBER: _ClassVar[int]
    LAG_FIELD_NUMBER: _ClassVar[int]
    PARKED_FIELD_NUMBER: _ClassVar[int]
    name: str
    owner: str
    lease_until_ms: int
    cursor: int
    lag: int
    parked: int
    def __init__(self, name: _Optional[str] = ..., owner: _Optional[str] = ..., lease_until_ms: _Optional[int] = ..., cursor: _Optional[int] = ..., lag: _Optional[int] = ..., parked: _Optional[int] = ...) -> None: ...

class FindParkedRequest(_message.Message):
    __slots__ = ("session", "namespace", "workflow", "run", "limit", "after_key", "after_id", "keys")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    WORKFLOW_FIELD_NUMBER: _ClassVar[int]
    RUN_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    AFTER_KEY_FIELD_NUMBER: _ClassVar[int]
    AFTER_ID_FIELD_NUMBER: _ClassVar[int]
    KEYS_FIELD_NUMBER: _ClassVar[int]
    session: str
    namespace: str
    workflow: str
    run: str
    limit: int
    after_key: str
    after_id: int
    keys: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, session: _Optional[str] = ..., namespace: _Optional[str] = ..., workflow: _Optional[str] = ..., run: _Optional[str] = ..., limit: _Optional[int] = ..., after_key: _Optional[str] = ..., after_id: _Optional[int] = ..., keys: _Optional[_Iterable[str]] = ...) -> None: ...

class FindParkedReply(_message.Message):
    __slots__ = ("parked",)
    PARKED_FIELD_NUMBER: _ClassVar[int]
    parked: _containers.RepeatedCompositeFieldContainer[ParkedInfo]
    def __init__(self, parked: _Optional[_Iterable[_Union[ParkedInfo, _Mapping]]] = ...) -> None: ...

class ParkedInfo(_message.Message):
    __slots__ = ("parked", "consumer", "id")
    PARKED_FIELD_NUMBER: _ClassVar[int]
    CONSUMER_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    parked: Parked
    consumer: str
    id: int
    def __init__(self, parked: _Optional[_Union[Parked, _Mapping]] = ..., consumer: _Optional[str] = ..., id: _Optional[int] = ...) -> None: ...

class FloorRequest(_message.Message):
    __slots__ = ("session",)
    SESSION_FIELD_NUMBER: _ClassVar[int]
    session: str
    def __init__(self, session: _Optional[str] = ...) -> None: ...

class FloorReply(_message.Message):
    __slots__ = ("floor",)
    FLOOR_FIELD_NUMBER: _ClassVar[int]
    floor: int
    def __init__(self, floor: _Optional[int] = ...) -> None: ...

class Policy(_message.Message):
    __slots__ = ("before_us", "namespace", "forget", "shared_with_go_passed")
    BEFORE_US_FIELD_NUMBER: _ClassVar[int]
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    FORGET_FIELD_NUMBER: _ClassVar[int]
    SHARED_WITH_GO_PASSED_FIELD_NUMBER: _ClassVar[int]
    before_us: int
    namespace: str
    forget: bool
    shared_with_go_passed: int
    def __init__(self, before_us: _Optional[int] = ..., namespace: _Optional[str] = ..., forget: bool = ..., shared_with_go_passed: _Optional[int] = ...) -> None: ...

class FindPrunableRequest(_message.Message):
    __slots__ = ("session", "policy", "after")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    session: str
    policy: Policy
    after: int
    def __init__(self, session: _Optional[str] = ..., policy: _Optional[_Union[Policy, _Mapping]] = ..., after: _Optional[int] = ...) -> None: ...

class FindPrunableReply(_message.Message):
    __slots__ = ("keys", "next", "last")
    KEYS_FIELD_NUMBER: _ClassVar[int]
    NEXT_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    keys: _containers.RepeatedScalarFieldContainer[str]
    next: int
    last: bool
    def __init__(self, keys: _Optional[_Iterable[str]] = ..., next: _Optional[int] = ..., last: bool = ...) -> None: ...

class PruneRequest(_message.Message):
    __slots__ = ("session", "policy", "keys")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    KEYS_FIELD_NUMBER: _ClassVar[int]
    session: str
    policy: Policy
    keys: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, session: _Optional[str] = ..., policy: _Optional[_Union[Policy, _Mapping]] = ..., keys: _Optional[_Iterable[str]] = ...) -> None: ...

class PruneReply(_message.Message):
    __slots__ = ("runs", "iterations", "events", "signals", "again")
    RUNS_FIELD_NUMBER: _ClassVar[int]
    ITERATIONS_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    SIGNALS_FIELD_NUMBER: _ClassVar[int]
    AGAIN_FIELD_NUMBER: _ClassVar[int]
    runs: int
    iterations: int
    events: int
    signals: int
    again: bool
    def __init__(self, runs: _Optional[int] = ..., iterations: _Optional[int] = ..., events: _Optional[int] = ..., signals: _Optional[int] = ..., again: bool = ...) -> None: ...

class ForgetRequest(_message.Message):
    __slots__ = ("session", "consumer")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    CONSUMER_FIELD_NUMBER: _ClassVar[int]
    session: str
    consumer: str
    def __init__(self, session: _Optional[str] = ..., consumer: _Optional[str] = ...) -> None: ...

class ForgetReply(_message.Message):
    __slots__ = ("behind",)
    BEHIND_FIELD_NUMBER: _ClassVar[int]
    behind: int
    def __init__(self, behind: _Optional[int] = ...) -> None: ...
