"""stellarctl through Redis: the queue, the event log, and the end of the wait (PROTOCOL 3)."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from stellarstack.config import Config, NodeConfig, PathsConfig, Secret, TlsConfig
from stellarstack.ctl import redis_node
from stellarstack.ctl.control import Refused
from stellarstack.ctl.node import envelope
from stellarstack.ctl.redis_node import RedisNode, dialer, reachable_url
from stellarstack.errors import ConfigError
from tests.ctl_fakes import finished


class FakeWire:
    """One stream of events; `appear` is called whenever somebody reads on."""

    def __init__(self) -> None:
        self.log: list[tuple[bytes, bytes]] = []
        self.queued: list[dict[str, Any]] = []
        self.dropped = False
        self.appear: Callable[[], None] | None = None

    def add(self, event: Any) -> None:
        raw = event if isinstance(event, bytes) else json.dumps(event).encode()
        self.log.append((f"{len(self.log) + 1}-0".encode(), raw))

    async def call(self, *arguments: Any) -> Any:
        match arguments:
            case ("XREVRANGE", "stellar:nodes:node_a:events:log", "+", "-", "COUNT", count):
                return [[entry, [b"event", raw]] for entry, raw in reversed(self.log[-int(count) :])]
            case ("XADD", "stellar:nodes:node_a:commands:queue", "*", "command", raw):
                self.queued.append(json.loads(raw))
                return b"1-1"
            case ("XREAD", "COUNT", _, "BLOCK", _, "STREAMS", log, after):
                if self.appear is None:
                    return await Deferred()  # nothing ever comes
                self.appear()
                position = int(after.split(b"-")[0])
                found = [[entry, [b"event", raw]] for entry, raw in self.log[position:]]
                return [[log, found]] if found else None
        raise AssertionError(arguments)

    def drop(self, _: str) -> None:
        self.dropped = True


class RedisNodeCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.wire = FakeWire()
        self.clock = Clock()
        self.told: list[dict[str, Any]] = []
        self.patch(redis_node, "dialer", lambda *_: self)

    async def dial(self) -> FakeWire:
        return self.wire

    def node(self) -> RedisNode:
        config = Config()
        return RedisNode(
            config=config,
            url=reachable_url(config),
            node_id="node_a",
            timeout=5.0,
            run=lambda work: finished(work(self.clock), self.clock),
        )

    def answer(self, result: Any, status: str = "succeeded") -> None:
        """The node answers whatever was queued; other commands' events are among the answers."""

        def appear() -> None:
            asked = self.wire.queued[0]["id"]
            self.wire.add({"type": "command.result", "commandId": "other", "status": "failed"})
            self.wire.add({"type": "command.ack", "commandId": asked})
            self.wire.add({"type": "command.result", "commandId": asked, "status": status, "result": result})

        self.wire.appear = appear


class TestRedisNode(RedisNodeCase):
    """Commands and events."""

    def test_command(self) -> None:
        """A command goes onto the queue with an end of its life; its own ack is told and its own result answered."""
        self.wire.add({"type": "command.result", "commandId": "before"})
        self.answer({"status": "running"})
        asked = envelope("server.start", {"serverId": "s"})
        found = self.node().command(asked, self.told.append, None)
        self.assertEqual(found["result"], {"status": "running"})
        self.assertEqual([event["type"] for event in self.told], ["command.ack"])
        self.assertEqual(self.wire.queued[0], {**asked, "expiresAt": asked["timestamp"] + 600})
        self.assertTrue(self.wire.dropped)

    def test_lists(self) -> None:
        """The list and the node's own words come by commands."""
        self.answer({"servers": [{"serverId": "s"}]})
        self.assertEqual(self.node().servers(), [{"serverId": "s"}])
        self.assertEqual(self.wire.queued[0]["type"], "server.list")
        self.setUp()
        self.answer({"state": "ONLINE"})
        self.assertEqual(self.node().about(), {"state": "ONLINE"})
        self.setUp()
        self.answer(None, status="rejected")
        self.assertIn("node.info rejected", str(self.assertRaises(Refused, self.node().about)))

    def test_nobody_answers(self) -> None:
        """The wait ends with the command's life, so a node that comes back later does not run it."""
        error = self.assertRaises(Refused, self.node().command, envelope("x", {}), self.told.append, 7.0)
        self.assertIn("node_a did not answer within 7 s", str(error))
        self.assertEqual(self.wire.queued[0]["expiresAt"], self.wire.queued[0]["timestamp"] + 7)
        self.assertTrue(self.wire.dropped)

    def test_events_of_the_past(self) -> None:
        """The newest are told, oldest first; what is no event is told as such."""
        for number in range(3):
            self.wire.add({"type": "e", "seq": number})
        self.wire.add(b"{")
        self.node().events(self.told.append, follow=False, last=3)
        self.assertEqual([event.get("seq") for event in self.told], [1, 2, None])
        self.assertEqual(self.told[2], {"type": "unreadable"})
        self.told.clear()
        self.node().events(self.told.append, follow=False, last=0)
        self.assertEqual(self.told, [])

    def test_new_events(self) -> None:
        """With follow, each new event is told once."""
        self.wire.add({"type": "e", "seq": 0})

        def told(event: dict[str, Any]) -> None:
            self.told.append(event)
            if len(self.told) == 3:
                raise KeyboardInterrupt

        self.wire.appear = lambda: self.wire.add({"type": "e", "seq": len(self.wire.log)})
        with self.assertRaises(KeyboardInterrupt):
            self.node().events(told, follow=True, last=1)
        self.assertEqual([event["seq"] for event in self.told], [0, 1, 2])


class TestReach(SynchronousTestCase):
    """Where Redis is, and how it is dialled."""

    def test_urls(self) -> None:
        """The config's URL, another one, and the daemon's own Redis by its socket."""
        config = Config(paths=PathsConfig(state=Path("/s")))
        self.assertEqual(str(reachable_url(config)), "redis://127.0.0.1:6379")
        self.assertEqual(str(reachable_url(config, "embedded")), "unix:///s/redis.sock")
        self.assertRaises(ConfigError, reachable_url, config, "ftp://x")

    def test_dialer(self) -> None:
        """The node's id and token are used as the daemon uses them."""
        config = Config(node=NodeConfig(id="node_a", api_token=Secret("strk_node_x")))
        made: Any = dialer(None, config, reachable_url(config))
        self.assertEqual((made._login.node_id, made._login.api_token), ("node_a", "strk_node_x"))

    def test_tls_files(self) -> None:
        """A CA or certificate that cannot be read is one clear refusal; the system's CAs need no file."""
        folder = Path(self.mktemp())
        folder.mkdir(parents=True)
        bad = folder / "bad.pem"
        bad.write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
        self.assertIsNotNone(redis_node._tls(Config(), "redis.example.com"))
        for tls in (TlsConfig(ca=folder / "none.pem"), TlsConfig(ca=bad), TlsConfig(certificate=bad, key=bad)):
            error = self.assertRaises(Refused, redis_node._tls, Config(tls=tls), "h")
            self.assertTrue("No such file" in str(error) or "no good PEM" in str(error), str(error))
