"""`GET /health`: whether this node works, for load balancers and people (PROTOCOL 9)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import DeferredLock
from twisted.internet.interfaces import IReactorTime

from stellarstack import __version__
from stellarstack.api.http_answers import Answer, json_answer

WELL_STATES = frozenset({"ONLINE", "DRAINING"})
FRESH_FOR = 1.0  # seconds: whoever may ask without a token does not get to run checks as often as they like


@dataclass(frozen=True, slots=True)
class NodeHealth:
    """How the node is now. `uptime` in seconds; `checks` (redis, docker, database, disk): whether each is well."""

    node_id: str | None
    state: str
    uptime: float
    checks: Mapping[str, bool]


HealthSource = Callable[[], Awaitable[NodeHealth]]


class HealthDoor:
    """Asks the source at most once a second, whatever comes in."""

    def __init__(self, source: HealthSource, clock: IReactorTime) -> None:
        self._source = source
        self._clock = clock
        self._lock = DeferredLock()
        self._asked = float("-inf")
        self._answer: Answer | None = None

    async def get(self, _request: Any) -> Answer:
        await self._lock.acquire()
        try:
            if self._answer is None or self._clock.seconds() - self._asked >= FRESH_FOR:
                self._answer = health_answer(await self._source())
                self._asked = self._clock.seconds()
            return self._answer
        finally:
            self._lock.release()


def health_answer(health: NodeHealth) -> Answer:
    """200 where the state is ONLINE or DRAINING, else 503; `status` is then degraded where a check failed."""
    well = health.state in WELL_STATES
    status = ("healthy" if all(health.checks.values()) else "degraded") if well else "unhealthy"
    return json_answer(
        200 if well else 503,
        {
            "status": status,
            "nodeId": health.node_id,
            "state": health.state,
            "version": __version__,
            "uptime": round(health.uptime, 3),
            "checks": {name: "ok" if good else "failed" for name, good in health.checks.items()},
        },
    )
