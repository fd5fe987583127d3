"""A drain of five real servers, one that crashes and one deaf to its stop: PROTOCOL 7 to the letter (issue 3, 6)."""

from __future__ import annotations

import time
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.node_process import GAME, NodeProcess, blueprint
from tests.redis_server import RedisServer

BACK = {"restart": True, "limit": 3, "window": 600}
# Hears neither `stop` nor SIGTERM.
DEAF = "trap '' TERM INT; echo Done; while true; do read -r line || sleep 1; done"
SERVERS = {"one": GAME, "two": GAME, "three": GAME, "crashes": GAME, "deaf": DEAF}
PATIENCE = 20.0


class DrainTests(SynchronousTestCase):
    def setUp(self) -> None:
        redis = RedisServer("appendonly yes")
        self.addCleanup(redis.stop)
        self.node = NodeProcess(redis.start())
        self.addCleanup(self.node.close)
        self.node.start()
        for server_id, script in SERVERS.items():
            self.node.create(server_id, script, crash=BACK)

    def state(self) -> Any:
        return self.node.health().get("state")

    def until_state(self, state: str) -> None:
        self.node.until(lambda: self.state() == state, PATIENCE, f"the node to be {state}")

    def statuses(self) -> dict[str, str]:
        return {row["serverId"]: row["status"] for row in self.node.run("server.list")["servers"]}

    def results(self, command: str) -> list[dict[str, Any]]:
        return [one for one in self.node.events("command.result", commandId=command) if not one.get("repeat")]

    def steps(self) -> list[int]:
        return [alert["remaining"] for alert in self.node.events("node.alert", code="drain_progress")]

    def told_states(self) -> list[tuple[str, str]]:
        return [(event["previous"], event["state"]) for event in self.node.events("node.status")]

    def crash(self) -> None:
        """Its own end with status 3; the wait is longer than the first restart's delay."""
        told = len(self.node.events("server.status", serverId="crashes"))
        self.node.run("server.command", serverId="crashes", command="crash")
        self.node.until(
            lambda: len(self.node.events("server.status", serverId="crashes")) > told, PATIENCE, "the crash"
        )
        time.sleep(3)

    def assert_refused(self) -> None:
        """`draining` to create, start, restart and reinstall; everything else goes on."""
        node = self.node
        sent = [node.send("server.create", serverId="comes", blueprint=blueprint(node.image))]
        sent += [node.send(f"server.{kind}", serverId="one") for kind in ("start", "restart", "reinstall")]
        found = [node.result(one) for one in sent]
        self.assertEqual([(one["status"], one["error"]["code"]) for one in found], [("rejected", "draining")] * 4)
        self.assertNotIn("comes", self.statuses())

    def test_over_a_restart(self) -> None:
        """DRAINING outlives a kill -9; nothing crashed comes back; the last to end makes it OFFLINE."""
        node = self.node
        drain = node.send("node.drain")
        self.until_state("DRAINING")
        self.assertEqual(node.run("server.stop", serverId="one")["forced"], False)
        self.assert_refused()
        self.crash()
        self.assertEqual(self.statuses()["crashes"], "crashed")
        self.assertEqual(node.health()["state"], "DRAINING")
        node.kill()
        node.launch()
        self.until_state("DRAINING")
        self.assert_refused()
        expected = {"one": "stopped", "two": "running", "three": "running", "crashes": "crashed", "deaf": "running"}
        self.assertEqual(self.statuses(), expected)
        for server_id in ("two", "three"):
            self.assertEqual(node.run("server.stop", serverId=server_id)["exitCode"], 0)
        time.sleep(2)
        self.assertEqual((self.state(), self.results(drain)), ("DRAINING", []))
        stopped = node.run("server.stop", serverId="deaf", timeout=1)
        self.assertEqual((stopped["forced"], stopped["exitCode"]), (True, 137))
        result = node.result(drain)
        self.assertEqual(
            (result["status"], result["result"]), ("succeeded", {"total": 5, "migrated": 0, "remaining": 0})
        )
        self.until_state("OFFLINE")
        self.assertEqual(len(self.results(drain)), 1)
        self.assertEqual((self.steps()[0], self.steps()[-1]), (5, 0))
        self.assertEqual(sorted(self.steps(), reverse=True), self.steps())
        self.assertIn(("ONLINE", "DRAINING"), self.told_states())
        self.assertEqual(self.told_states()[-1], ("DRAINING", "OFFLINE"))
        node.term()
        node.launch()
        self.until_state("OFFLINE")
        time.sleep(2)
        self.assertEqual(self.state(), "OFFLINE")
        self.assertEqual(self.statuses(), dict.fromkeys(SERVERS, "stopped") | {"crashes": "crashed"})

    def test_cancelled_half_way(self) -> None:
        """`cancel` ends it, `cancelled`; the node is ONLINE, also after a restart, and takes and restarts again."""
        node = self.node
        drain = node.send("node.drain")
        self.until_state("DRAINING")
        node.run("server.stop", serverId="one")
        node.run("server.stop", serverId="deaf", timeout=1)
        self.crash()
        self.assertEqual(node.run("node.drain", cancel=True), {"total": 5, "migrated": 0, "remaining": 2})
        result = node.result(drain)
        self.assertEqual((result["status"], result["error"]["code"]), ("cancelled", "cancelled"))
        self.until_state("ONLINE")
        self.assertEqual(self.told_states()[-1], ("DRAINING", "ONLINE"))
        node.term()
        node.start()
        expected = {"one": "stopped", "two": "running", "three": "running", "crashes": "crashed", "deaf": "stopped"}
        self.assertEqual(self.statuses(), expected)
        node.create("comes")
        self.assertEqual(node.run("server.start", serverId="one")["status"], "running")
        node.run("server.start", serverId="crashes")
        node.run("server.command", serverId="crashes", command="crash")
        node.until(lambda: [event["status"] for event in node.events("server.status", serverId="crashes")][-3:]
                   == ["crashed", "starting", "running"], PATIENCE, "the restart after the crash")  # fmt: skip
        self.assertEqual(len(self.results(drain)), 1)

    def test_deadline(self) -> None:
        """At the deadline it is `failed`, `timeout`, and the state stays, also over a restart."""
        node = self.node
        drain = node.send("node.drain", deadline=time.time() + 3)
        result = node.result(drain)
        self.assertEqual((result["status"], result["error"]["code"]), ("failed", "timeout"))
        self.assertEqual(self.state(), "DRAINING")
        node.kill()
        node.launch()
        self.until_state("DRAINING")
        self.assert_refused()
        node.run("server.delete", serverId="deaf")
        for server_id in ("one", "two", "three", "crashes"):
            node.run("server.stop", serverId=server_id)
        self.until_state("OFFLINE")
