"""The health policy: what the time since its last heartbeat says about a node (PROTOCOL 6). Performs no I/O."""

from __future__ import annotations

from enum import Enum


class Health(Enum):
    """How a node looks from outside."""

    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"
    OFFLINE = "offline"


def missed(last_heartbeat: float, now: float, interval: float) -> int:
    """How many heartbeats were due since the last one and did not come. All in seconds on one clock."""
    return max(0, int((now - last_heartbeat) / interval + 1e-9))


def judge(last_heartbeat: float, now: float, interval: float, unhealthy_after: int, offline_after: int) -> Health:
    """Unhealthy once `unhealthy_after` intervals have passed since the last heartbeat, offline after `offline_after`.

    With 30 s, 3 and 5: healthy below 90 s, unhealthy from 90 s on, offline from 150 s on. A heartbeat from the future
    (a clock that was set back) counts as fresh.
    """
    count = missed(last_heartbeat, now, interval)
    if count >= offline_after:
        return Health.OFFLINE
    return Health.UNHEALTHY if count >= unhealthy_after else Health.HEALTHY


def border(last_heartbeat: float, interval: float, after: int) -> float:
    """The moment from which `after` heartbeats count as missed."""
    return last_heartbeat + interval * after
