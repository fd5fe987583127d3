"""What happens to a server over its disk limit."""

from __future__ import annotations

from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from stellarstack.core.messages import Event
from stellarstack.files.overflow import Overflow
from stellarstack.tasks import Tasks

MB = 1 << 20


class Kept:
    """A bus that commits when the test says so."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.committed: Deferred[None] = Deferred()

    async def emit(self, *events: Event) -> None:
        self.events.extend(events)
        await self.committed


class OverflowTests(SynchronousTestCase):
    def over(self, policy: str) -> tuple[Kept, list[str], Tasks]:
        bus, stops, tasks = Kept(), list[str](), Tasks()
        overflow = Overflow(node_id="node_1", bus=cast(Any, bus), tasks=tasks, now=lambda: 5.0, policy=policy,
                            stop=stops.append)  # fmt: skip
        overflow("srv_1", 12 * MB, 10 * MB)
        return bus, stops, tasks

    def test_alert(self) -> None:
        """The alert names the server, what it takes, what it may, and by how much it is over."""
        bus, _, _ = self.over("stop")
        body = bus.events[0].fields
        self.assertEqual(
            {key: body[key] for key in ("serverId", "code", "severity", "used", "limit", "overshoot")},
            {"serverId": "srv_1", "code": "disk_limit", "severity": "warning", "used": 12 * MB, "limit": 10 * MB,
             "overshoot": 2 * MB},
        )  # fmt: skip
        self.assertIn("2.0 MB more than its limit of 10.0 MB; it is stopped", str(body["message"]))

    def test_stop_follows_the_alert(self) -> None:
        """It is stopped when the alert is committed, once."""
        bus, stops, tasks = self.over("stop")
        self.assertEqual(stops, [])
        bus.committed.callback(None)
        self.assertEqual(stops, ["srv_1"])
        self.assertEqual(tasks.names(), [])

    def test_alert_only(self) -> None:
        """With `disk_over = "alert"` it runs on."""
        bus, stops, _ = self.over("alert")
        bus.committed.callback(None)
        self.assertEqual(stops, [])
        self.assertIn("it runs on", str(bus.events[0].fields["message"]))
