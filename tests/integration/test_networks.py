"""Networks on the real engine: shared ones join their servers by name, no other reaches them (issue 3, ports)."""

from __future__ import annotations

import json
import subprocess
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.node_process import NodeProcess, blueprint
from tests.redis_server import RedisServer

# Answers on 7000 with its own name; `ask HOST` asks another's, `name HOST` looks it up.
TALK = """
(while true; do echo "here is $WHO" | nc -l -p 7000 >/dev/null 2>&1; done) &
echo Done
while read -r what host; do
  case "$what" in
    stop) exit 0;;
    ask) answer=$(nc -w 2 "$host" 7000 </dev/null 2>/dev/null); echo "$host says: [$answer]";;
    name) if nslookup "$host" 2>/dev/null | grep -q '^Name'; then echo "$host: known"; else echo "$host: unknown"; fi;;
  esac
done
"""


class NetworkTests(SynchronousTestCase):
    def setUp(self) -> None:
        redis = RedisServer("appendonly yes")
        self.addCleanup(redis.stop)
        self.node = NodeProcess(redis.start())
        self.addCleanup(self.node.close)
        self.node.start()

    def inspected(self, kind: str, name: str) -> dict[str, Any]:
        found = subprocess.run(["docker", kind, "inspect", name], capture_output=True, text=True, check=True).stdout
        answer: dict[str, Any] = json.loads(found)[0]
        return answer

    def address(self, server_id: str) -> str:
        (network,) = self.inspected("container", f"{self.node.node_id}.{server_id}")["NetworkSettings"][
            "Networks"
        ].values()
        return str(network["IPAddress"])

    def server(self, server_id: str, network: str | None = None) -> None:
        more = {"network": network} if network else {}
        self.node.create(server_id, TALK, config={"env": {"WHO": server_id}, "memory": 48, **more})

    def networks(self) -> set[str]:
        listed = [
            "docker",
            "network",
            "ls",
            "--format",
            "{{.Name}}",
            "--filter",
            f"label=stellarstack.node={self.node.node_id}",
        ]
        return set(subprocess.run(listed, capture_output=True, text=True, check=True).stdout.split())

    def says(self, asker: str, line: str, answer: str) -> None:
        viewer = self.node.console(asker)
        try:
            viewer.type(line.encode() + b"\r")
            viewer.until(answer.encode())
        finally:
            viewer.close()

    def test_shared_and_apart(self) -> None:
        """Names resolve and ports answer inside a shared network; from any other neither does, by name or address."""
        shared, node = f"{self.node.node_id}-owner_42", self.node
        for server_id, network in (
            ("a.one", "owner_42"),
            ("b_two", "owner_42"),
            ("other", "owner_43"),
            ("alone", None),
        ):
            self.server(server_id, network)
        self.assertEqual(self.networks(), {shared, f"{node.node_id}-owner_43", f"{node.node_id}.alone"})
        self.says("a.one", "ask b_two", "b_two says: [here is b_two]")
        self.says("b_two", "ask a.one", "a.one says: [here is a.one]")
        self.says("b_two", f"ask {self.address('a.one')}", "says: [here is a.one]")
        for stranger in ("other", "alone"):
            self.says(stranger, "name b_two", "b_two: unknown")
            self.says(stranger, "name a.one", "a.one: unknown")
            for one in ("a.one", "b_two"):
                address = self.address(one)
                self.says(stranger, f"ask {address}", f"{address} says: []")
            self.says("a.one", f"ask {self.address(stranger)}", f"{self.address(stranger)} says: []")
            self.says("a.one", f"name {stranger}", f"{stranger}: unknown")

    def test_one_node_id_twice(self) -> None:
        """Two daemons of one node id on one engine: neither ends, takes or believes what the other made; both tell."""
        first = self.node
        first.create("both")
        redis = RedisServer("appendonly yes")
        self.addCleanup(redis.stop)
        second = NodeProcess(redis.start())
        self.addCleanup(second.close)
        second.config.write_text(second.config.read_text().replace(second.node_id, first.node_id))
        second.node_id = first.node_id
        second.start()
        second.until(lambda: second.events("node.alert", code="node_id_shared"), 10, "the alert")
        before = self.inspected("container", f"{first.node_id}.both")["State"]["StartedAt"]
        refused = second.result(second.send("server.create", serverId="both", blueprint=blueprint(second.image)))
        self.assertEqual((refused["status"], refused["error"]["code"]), ("failed", "invalid_state"))
        second.create("only")
        first.kill()
        first.start()
        first.until(lambda: first.events("node.alert", code="node_id_shared"), 10, "the alert")
        second.run("server.delete", serverId="only")
        self.assertEqual(self.inspected("container", f"{first.node_id}.both")["State"]["StartedAt"], before)
        self.assertEqual([one["status"] for one in first.run("server.list")["servers"]], ["running"])
        self.assertEqual(second.run("server.list"), {"servers": []})
        self.assertEqual(first.run("server.stop", serverId="both")["exitCode"], 0)

    def test_comes_and_goes(self) -> None:
        """A restarted daemon and a restarted server keep the network; it goes with its last server."""
        node, shared = self.node, f"{self.node.node_id}-owner_42"
        self.server("one", "owner_42")
        self.server("two", "owner_42")
        subnet = self.inspected("network", shared)["IPAM"]["Config"][0]["Subnet"]
        self.assertTrue(subnet.endswith("/26"), subnet)
        node.kill()
        node.start()
        node.run("server.restart", serverId="one")
        self.says("one", "ask two", "two says: [here is two]")
        self.assertEqual(node.run("server.update", serverId="two", config={"network": ""})["pending"], ["network"])
        node.run("server.restart", serverId="two")
        self.says("one", "name two", "two: unknown")
        self.assertEqual(self.networks(), {shared, f"{node.node_id}.two"})
        gone, come = (
            node.send("server.delete", serverId="one"),
            node.send("server.update", serverId="two", config={"network": "owner_42"}),
        )
        self.assertEqual([node.result(one)["status"] for one in (gone, come)], ["succeeded", "succeeded"])
        node.run("server.restart", serverId="two")
        self.assertEqual(self.networks(), {shared})
        node.run("server.delete", serverId="two")
        self.assertEqual(self.networks(), set())
