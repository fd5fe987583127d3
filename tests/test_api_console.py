"""The console's door in the daemon's own site: what its connections are spared, and what they are not (PROTOCOL 8)."""

from __future__ import annotations

from typing import Any

from stellarstack.api.health import NodeHealth
from stellarstack.api.site import make_site
from stellarstack.tasks import Tasks
from tests import test_websocket
from tests.ws_client import HandshakeRefused, bearer, connect_memory, settle


async def health() -> NodeHealth:
    return NodeHealth("node_a", "ONLINE", 1.0, {})


async def metrics() -> tuple[str, str]:
    return "", "text/plain"


def behind_the_site(rooms: Any, clock: Any) -> None:
    """Puts the rooms' console where the daemon has it."""
    rooms.site = make_site(
        reactor=clock, tasks=Tasks(), health=health, metrics=metrics, metrics_token=None,
        console=rooms.endpoint.resource(),
    )  # fmt: skip


class TableBehindTheSite(test_websocket.TableTests):
    """PROTOCOL 8's table of cases again, through the site with its deadlines and caps."""

    def setUp(self) -> None:
        super().setUp()
        behind_the_site(self.rooms, self.clock)


class SessionsBehindTheSite(test_websocket.DoorCase):
    def setUp(self) -> None:
        super().setUp()
        behind_the_site(self.rooms, self.clock)

    def test_no_deadline_of_http(self) -> None:
        """A session is no HTTP request any more: it outlives its deadlines and takes no place among those who wait."""
        viewer = self.join()
        self.assertEqual(len(self.rooms.site.room), 0)
        for _ in range(10):
            settle(self.clock, 10)
            viewer.send_json(type="ping")
            settle(self.clock)
        self.assertIsNone(viewer.close_code)
        self.assertEqual([found["type"] for found in viewer.messages()].count("pong"), 10)

    def test_h04_huge_handshake(self) -> None:
        """H04, A03: an upgrade with a huge header is refused and never becomes a session."""
        viewer, _ = connect_memory(self.clock, self.rooms.site, "/console", {**bearer("good"), "X-Long": "x" * 20_000})
        settle(self.clock, 2)
        failure = self.failureResultOf(viewer.opened, HandshakeRefused)
        self.assertEqual(failure.value.status, 431)
        self.assertEqual(len(self.rooms.endpoint), 0)
