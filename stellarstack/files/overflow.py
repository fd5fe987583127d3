"""What happens when a server takes more of the disk than it may: it is told, and stopped where the config says so."""

from __future__ import annotations

from collections.abc import Callable

from stellarstack.bus import Bus
from stellarstack.core.events import node_alert
from stellarstack.tasks import Tasks

_MB = 1 << 20


class Overflow:
    """Meets DiskFence's `over`. `policy` is `[docker] disk_over`; `stop(server_id)` queues a stop, and must not block.

    The alert, `disk_limit`, comes before the stop and carries `used`, `limit` and `overshoot` in bytes.
    """

    def __init__(
        self, *, node_id: str, bus: Bus, tasks: Tasks, now: Callable[[], float], policy: str,
        stop: Callable[[str], None],
    ) -> None:  # fmt: skip
        self._node_id = node_id
        self._bus = bus
        self._tasks = tasks
        self._now = now
        self._stops = policy == "stop"
        self._stop = stop

    def __call__(self, server_id: str, used: int, limit: int) -> None:
        self._tasks.spawn("disk limit", self._tell(server_id, used, limit))

    async def _tell(self, server_id: str, used: int, limit: int) -> None:
        what = "it is stopped" if self._stops else "it runs on"
        text = (
            f"server {server_id} takes {used / _MB:.1f} MB of disk, {(used - limit) / _MB:.1f} MB more than "
            f"its limit of {limit / _MB:.1f} MB; {what}"
        )
        figures = {"used": used, "limit": limit, "overshoot": used - limit}
        alert = node_alert(self._node_id, self._now(), "warning", "disk_limit", text, server_id, **figures)
        await self._bus.emit(alert)
        if self._stops:
            self._stop(server_id)
