"""Thirty servers at once: none failed, none doubled, each with its own network, ports and limits (issue 3, 7)."""

from __future__ import annotations

import json
import subprocess
from ipaddress import ip_network
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.node_process import NodeProcess, blueprint
from tests.ports import free_ports
from tests.redis_server import RedisServer

MANY = 30


class ManyTests(SynchronousTestCase):
    def docker(self, *arguments: str) -> str:
        return subprocess.run(["docker", *arguments], capture_output=True, text=True, check=True).stdout

    def named(self, kind: str) -> list[str]:
        """Ids of our containers or networks."""
        listing = ["container", "ls", "-aq"] if kind == "container" else ["network", "ls", "-q"]
        return self.docker(*listing, "--filter", f"label=stellarstack.node={self.node.node_id}").split()

    def inspected(self, kind: str) -> dict[str, dict[str, Any]]:
        """What Docker says of our containers or networks, by server. Two of one server would be a failure."""
        found: dict[str, dict[str, Any]] = {}
        for one in json.loads(self.docker(kind, "inspect", *self.named(kind))):
            labels = one["Config"]["Labels"] if kind == "container" else one["Labels"]
            self.assertNotIn(labels["stellarstack.server"], found)
            found[labels["stellarstack.server"]] = one
        return found

    def results(self, commands: list[str]) -> list[dict[str, Any]]:
        """The result of each, in order."""
        wanted = set(commands)

        def told() -> dict[str, dict[str, Any]]:
            return {e["commandId"]: e for e in self.node.events("command.result") if e["commandId"] in wanted}

        self.node.until(lambda: len(told()) == len(wanted), 240, f"{len(wanted)} results")
        found = told()
        return [found[command] for command in commands]

    def test_thirty_at_once(self) -> None:
        """Thirty creates in one breath: all run, each once, with its own /28, ports and limits; all can go again."""
        redis = RedisServer("appendonly yes")
        self.addCleanup(redis.stop)
        self.node = node = NodeProcess(redis.start())
        self.addCleanup(node.close)
        node.start()
        names = [f"srv_{number}" for number in range(MANY)]
        ports = dict(zip(names, free_ports(MANY), strict=True))
        memory = {name: 24 + number for number, name in enumerate(names)}
        sent = [
            node.send(
                "server.create", serverId=name, blueprint=blueprint(node.image),
                config={"ports": [ports[name]], "memory": memory[name], "cpu": 0.5, "pids": 32},
            )
            for name in names
        ]  # fmt: skip
        created = self.results(sent)
        self.assertEqual([one.get("error") for one in created if one["status"] != "succeeded"], [])
        self.assertEqual({one["result"]["status"] for one in created}, {"running"})
        containers, networks = self.inspected("container"), self.inspected("network")
        self.assertEqual((set(containers), set(networks)), (set(names), set(names)))
        subnets = [ip_network(one["IPAM"]["Config"][0]["Subnet"]) for one in networks.values()]
        self.assertEqual({subnet.prefixlen for subnet in subnets}, {28})
        self.assertEqual(len(set(subnets)), MANY)
        for name in names:
            self.check(containers[name], networks[name]["Name"], ports[name], memory[name])
        told = node.events("server.status", status="running")
        self.assertEqual(sorted(one["serverId"] for one in told), sorted(names), "each was told to run once")
        gone = self.results([node.send("server.delete", serverId=name) for name in names])
        self.assertEqual({one["status"] for one in gone}, {"succeeded"})
        self.assertEqual((self.named("container"), self.named("network")), ([], []))
        self.assertEqual(node.run("server.list"), {"servers": []})
        self.assertEqual([path.name for path in (node.state / "servers").iterdir()], [])
        seqs = [event["seq"] for event in node.events()]
        self.assertEqual(seqs, list(range(1, len(seqs) + 1)))

    def check(self, container: dict[str, Any], network: str, port: int, memory: int) -> None:
        """It runs, in its own network and no other, with the ports and limits that were asked for."""
        host = container["HostConfig"]
        self.assertTrue(container["State"]["Running"])
        self.assertEqual(list(container["NetworkSettings"]["Networks"]), [network])
        bound = {key: {one["HostPort"] for one in value} for key, value in host["PortBindings"].items()}
        self.assertEqual(bound, {f"{port}/tcp": {str(port)}, f"{port}/udp": {str(port)}})
        self.assertTrue(
            memory <= host["Memory"] / 2**20 <= 1.2 * memory + 1, host["Memory"]
        )  # a margin is configurable
        self.assertEqual((host["NanoCpus"], host["PidsLimit"]), (500_000_000, 32))
