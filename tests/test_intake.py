"""Where commands enter: every message is answered, floods are counted, logs are not flooded (K12, K13)."""

from __future__ import annotations

import json

from twisted.internet.defer import Deferred

from stellarstack.core.messages import Origin
from stellarstack.errors import StoreFailed
from tests.household import HouseholdCase, done


class IntakeTests(HouseholdCase):
    def setUp(self) -> None:
        super().setUp()
        self.transient: list[dict[str, object]] = []
        self.world.bus.listen(self.hear)

    def hear(self, _kind: str, body: bytes) -> None:
        event = json.loads(body)
        if "seq" not in event:
            self.transient.append(event)

    def receive(self, raw: bytes) -> None:
        done(self.world.intake.receive(raw, Origin.PUBSUB))

    def test_no_readable_id(self) -> None:
        """K13: what has no readable id is answered without one, transiently, at most ten times a second."""
        for raw in [b"{", b"[]", b"\xff\xfe", b'"text"'] * 1000:
            self.receive(raw)
        self.assertTrue(all(event["commandId"] is None for event in self.transient))
        self.assertTrue(1 <= len(self.transient) <= 10)
        self.assertEqual(self.world.store.events("command.result"), [])

    def test_the_rest_is_counted(self) -> None:
        """K13: the refusals beyond that are told together in one durable alert a minute."""
        for _ in range(500):
            self.receive(b"{")
        self.world.run(2)
        self.assertEqual([alert["count"] for alert in self.world.store.events("node.alert")], [490])
        for _ in range(30):
            self.receive(b"{")
        self.world.run(30)
        self.assertEqual(len(self.world.store.events("node.alert")), 1)
        self.world.run(40)
        self.assertEqual(len(self.world.store.events("node.alert")), 2)

    def test_with_an_id(self) -> None:
        """K13: a refused message with an id is answered durably, at most a hundred times a second, then transiently."""
        for number in range(150):
            self.receive(json.dumps({"id": f"c{number}", "type": "server.fly"}).encode())
        self.assertEqual(len(self.world.store.events("command.result", status="rejected")), 100)
        self.assertEqual([event["commandId"] for event in self.transient], [f"c{number}" for number in range(100, 150)])
        self.world.run(1)
        self.receive(b'{"id":"again","type":"server.fly"}')
        self.assertEqual(len(self.world.store.events("command.result", status="rejected")), 101)

    def test_valid_one_after_a_flood(self) -> None:
        """K13: after a flood of rubbish a good command runs at once."""
        for _ in range(5000):
            self.receive(b"rubbish")
        command = self.world.send("server.list")
        self.assertEqual(self.world.result(command)["status"], "succeeded")

    def test_refused_payload(self) -> None:
        """A payload that does not fit is rejected, and nothing is journaled."""
        command = self.world.send("server.start", serverId=7)
        self.assertEqual(self.world.result(command)["status"], "rejected")
        self.assertEqual(self.world.store.commands, {})

    def test_unjournaled(self) -> None:
        """A command that cannot be journaled is left with its sender: no ack, no result."""
        self.world.store.broken = True
        raw = b'{"id":"c1","type":"server.list"}'
        self.failureResultOf(Deferred.fromCoroutine(self.world.intake.receive(raw, Origin.QUEUE)), StoreFailed)
        self.world.store.broken = False
        self.receive(raw)
        self.assertEqual(self.world.result("c1")["status"], "succeeded")
