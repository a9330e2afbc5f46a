"""The services by which operators look at a server: its health, and what it serves.

Role: as `services`, for two services that every gRPC server may have.

Invariant: a server is healthy only while it can reach all its databases (G6).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from typing import Any

from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection, reflection_pb2

from ..storage.database import Error
from .access import Principal
from .services import Hosts
from .wire import Stopping

_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
_LOOK = 1.0  # seconds between two looks for a change


class UnknownService(Error):
    """The server has no such service."""


class HealthService:
    """``grpc.health.v1.Health``."""

    def __init__(self, hosts: Hosts, services: Collection[str]) -> None:
        self._hosts, self._services = hosts, frozenset(("", *services))

    def _status(self, service: str) -> Any:
        if service not in self._services:
            raise UnknownService(f"this server has no service {service[:300]!r}")
        well = all(host.reachable and not host.stopping for host in self._hosts.all())
        return _SERVING if well else _NOT_SERVING

    async def Check(
        self, who: Principal, request: health_pb2.HealthCheckRequest
    ) -> health_pb2.HealthCheckResponse:
        """Whether all databases can be reached."""
        return health_pb2.HealthCheckResponse(status=self._status(request.service))

    async def List(self, who: Principal, request: Any) -> Any:
        """The state of every service."""
        pb: Any = health_pb2  # whose types do not know this newest method
        return pb.HealthListResponse(
            statuses={
                name: health_pb2.HealthCheckResponse(status=self._status(name))
                for name in self._services
            }
        )

    async def Watch(
        self, who: Principal, request: health_pb2.HealthCheckRequest
    ) -> AsyncIterator[health_pb2.HealthCheckResponse]:
        """The same, now and after each change."""
        last, host = None, self._hosts.of("")
        while True:
            if (status := self._status(request.service)) != last:
                yield health_pb2.HealthCheckResponse(status=status)
            last = status
            if host.stopping:
                raise Stopping("the server is stopping")
            await host.pause(_LOOK)


class ReflectionService:
    """``grpc.reflection.v1alpha.ServerReflection``."""

    def __init__(self, services: Collection[str]) -> None:
        self._servicer = reflection.aio.ReflectionServicer(service_names=services)

    async def ServerReflectionInfo(
        self, who: Principal, requests: AsyncIterator[reflection_pb2.ServerReflectionRequest]
    ) -> AsyncIterator[reflection_pb2.ServerReflectionResponse]:
        """Describe the services and their messages."""
        answers: Any = self._servicer.ServerReflectionInfo(requests, None)
        async for answer in answers:
            yield answer
