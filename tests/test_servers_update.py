"""server.update: what holds at once, what waits, and that a refusal changes nothing."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from stellarstack.core.messages import Json
from stellarstack.core.ports import PortMapping
from stellarstack.core.spec import ServerSpec
from stellarstack.errors import (
    Cancelled,
    ContainerGone,
    DockerUnavailable,
    EngineRefused,
    InvalidPayload,
    PortInUse,
    StellarError,
)
from stellarstack.servers.lane import Outcome, Step
from stellarstack.servers.neighbours import added_ports, refuse_clash
from stellarstack.servers.server import Server
from stellarstack.servers.update import update
from tests.household import HouseholdCase, done

MB = 1 << 20


class UpdateTests(HouseholdCase):
    """`update` in a server's lane."""

    def setUp(self) -> None:
        super().setUp()
        self.outcomes: list[Outcome] = []
        self.fenced: list[int] = []
        self.held: list[ServerSpec] = []

    def running(self, server_id: str = "srv_1", **more: Any) -> Server:
        self.world.create(server_id, **more)
        self.world.settle(1)
        return self.world.household.get(server_id)

    @contextmanager
    def room(self, spec: ServerSpec) -> Iterator[None]:
        refuse_clash(spec, [server.spec for server in self.world.household.all()])
        self.held.append(spec)
        try:
            yield
        finally:
            self.held.remove(spec)

    def begin(self, server: Server, config: Mapping[str, Json], fenced: bool = False) -> None:
        async def fence(one: Server) -> None:
            self.fenced.append(one.spec.disk_mb)

        async def work(step: Step) -> Mapping[str, Json]:
            return await update(server, config, step, room=self.room, fence=fence if fenced else None)

        self.world.dispatch.add_internal(server.id, "update", work, self.outcomes.append)

    def update(self, server: Server, fenced: bool = False, **config: Any) -> dict[str, Json]:
        self.begin(server, config, fenced)
        outcome = self.outcomes.pop()
        if outcome.error is not None:
            raise outcome.error
        assert outcome.result is not None
        return dict(outcome.result)

    def refused(self, kind: type[StellarError], server: Server, **config: Any) -> StellarError:
        """An update that must fail and change nothing."""
        before, document = server.record, dict(self.world.store.documents[server.id])
        with self.assertRaises(kind) as caught:
            self.update(server, **config)
        self.assertEqual((server.record, dict(self.world.store.documents[server.id])), (before, document))
        self.assertEqual(self.held, [])
        return caught.exception  # type: ignore[no-any-return]

    def host(self) -> Mapping[str, Any]:
        return self.world.engine.all()[0].host

    def kept(self) -> Any:
        return self.world.store.documents["srv_1"]["spec"]

    def test_live(self) -> None:
        """Memory, CPU and processes of a running server change at once, the process goes on, the record is kept."""
        server = self.running()
        container = server.record.container_id
        answer = self.update(server, memory=128, cpu=1, pids=32)
        self.assertEqual(answer, {"applied": ["memory", "cpu", "pids"], "pending": []})
        self.assertEqual((self.host()["Memory"], self.host()["NanoCpus"]), (128 * MB, 10**9))
        self.assertEqual(self.world.status(), "running")
        self.assertEqual(server.record.container_id, container)
        self.assertEqual(self.kept()["memory_mb"], 128)

    def test_waits_for_a_start(self) -> None:
        """Ports, variables and disk hold from the next start on, and then they do."""
        server = self.running(config={"ports": [21000]})
        answer = self.update(server, ports=[21001], env={"NEW": "x"}, disk=128, memory=96)
        self.assertEqual(answer, {"applied": ["memory"], "pending": ["disk", "ports", "env"]})
        self.assertIn("21000", str(self.host()["PortBindings"]))
        self.world.send("server.restart", serverId="srv_1")
        self.world.settle(1)
        self.assertIn("21001", str(self.host()["PortBindings"]))
        self.assertIn("NEW=x", self.world.engine.all()[0].body["Env"])

    def test_disk_behind_a_fence(self) -> None:
        """Where the disk's limit can be put in force at once it does not wait."""
        server = self.running()
        self.assertEqual(self.update(server, fenced=True, disk=128), {"applied": ["disk"], "pending": []})
        self.assertEqual(self.fenced, [128])
        self.assertEqual(self.update(server, fenced=True, pids=9), {"applied": ["pids"], "pending": []})
        self.assertEqual(self.fenced, [128])

    def test_stopped(self) -> None:
        """Of a server that does not run everything is applied: its next container is made so."""
        server = self.running(start=False)
        answer = self.update(server, memory=128, ports=[21002])
        self.assertEqual(answer, {"applied": ["memory", "ports"], "pending": []})
        self.assertNotIn("update_container", [name for name, _ in self.world.engine.faults.made])
        self.world.send("server.start", serverId="srv_1")
        self.world.settle(1)
        self.assertEqual(self.host()["Memory"], 128 * MB)

    def test_nothing_changes(self) -> None:
        """What is so already is neither applied nor pending, and nobody is asked."""
        server = self.running()
        self.assertEqual(self.update(server, memory=64), {"applied": [], "pending": []})
        self.assertNotIn("update_container", [name for name, _ in self.world.engine.faults.made])

    def test_engine_refuses(self) -> None:
        """A limit that the engine does not take is told with its words, and the record stays as it was."""
        server = self.running()
        self.world.engine.faults.fail("update_container", EngineRefused("Docker: memory is in use"))
        error = self.refused(EngineRefused, server, memory=32, ports=[21003])
        self.assertIn("memory is in use", str(error))
        self.world.engine.faults.fail("update_container", DockerUnavailable("Docker does not answer"))
        self.refused(DockerUnavailable, server, memory=32)
        self.assertEqual(self.host()["Memory"], 64 * MB)

    def test_bad_config(self) -> None:
        """A config that cannot be is refused before anything is done."""
        server = self.running()
        self.refused(InvalidPayload, server, memory=0)
        self.refused(InvalidPayload, server, cpu="much")

    def test_port_of_another_server(self) -> None:
        """A port that another server holds is refused, naming it; its own ports are no obstacle."""
        self.running("srv_2", config={"ports": [21004]})
        server = self.running("srv_1", config={"ports": [21005]})
        self.assertIn("srv_2", str(self.refused(PortInUse, server, ports=[21005, 21004])))
        self.assertEqual(self.update(server, ports=[21005, 21006])["pending"], ["ports"])
        self.assertEqual(self.held, [])

    def test_ports_that_wait(self) -> None:
        """The list tells the ports that are bound, and apart those that wait; both are the server's own, over a restart
        of the daemon too.
        """
        server = self.running(config={"ports": [21015]})
        self.update(server, ports=[21016])
        self.world.restart()
        self.world.settle(1)
        server = self.world.household.get("srv_1")
        row: Any = server.row()
        self.assertEqual([port["host"] for port in row["ports"]], [21015])
        self.assertEqual([port["host"] for port in row["pendingPorts"]], [21016])
        others = [self.world.create("srv_2", config={"ports": [port]}) for port in (21015, 21016)]
        self.world.settle(1)
        self.assertEqual({self.world.result(one)["error"]["code"] for one in others}, {"port_in_use"})  # type: ignore[index,call-overload]
        self.world.send("server.restart", serverId="srv_1")
        self.world.settle(1)
        row = server.row()
        self.assertEqual(([port["host"] for port in row["ports"]], "pendingPorts" in row), ([21016], False))

    def test_ports_taken_back(self) -> None:
        """Ports that the server's own container still holds can be had back before the next start."""
        with socket.socket() as holder:  # stands for the container's
            holder.bind(("127.0.0.1", 0))
            port = holder.getsockname()[1]
            server = self.running(config={"ports": []})
            server.keep(replace(server.record, bound=(PortMapping(port, port),)))
            self.assertEqual(self.update(server, ports=[port])["pending"], ["ports"])
            self.assertNotIn("pendingPorts", server.row())

    def test_port_of_a_program(self) -> None:
        """A port that a program outside of Docker holds is refused; what the server holds itself is not tried."""
        server = self.running()
        with socket.socket() as holder:
            holder.bind(("127.0.0.1", 0))
            port = holder.getsockname()[1]
            self.assertIn("another program", str(self.refused(PortInUse, server, ports=[port])))
        self.assertEqual(self.update(server, ports=[port])["pending"], ["ports"])

    def test_added_ports(self) -> None:
        """Only what is new is tried: one protocol more on a number that the server has is that protocol alone."""
        old = [PortMapping(1, 1, "tcp"), PortMapping(2, 2)]
        new = [PortMapping(1, 5), PortMapping(2, 2, "udp"), PortMapping(3, 3, "both", "::1")]
        found = [(port.host, port.protocol, port.ip) for port in added_ports(new, old)]
        self.assertEqual(found, [(1, "udp", ""), (3, "tcp", "::1"), (3, "udp", "::1")])

    def test_container_gone_meanwhile(self) -> None:
        """A process that ends while it is changed is no failure: the next container is made with the new config."""
        server = self.running()
        self.world.engine.faults.fail("update_container", ContainerGone("Docker: No such container"))
        self.assertEqual(self.update(server, memory=128), {"applied": ["memory"], "pending": []})
        self.assertEqual(server.spec.memory_mb, 128)

    def test_gauges_cannot_look(self) -> None:
        """An engine that stumbles right after the change does not undo it."""
        server = self.running()
        self.world.engine.faults.fail("inspect", DockerUnavailable("Docker does not answer"))
        self.assertEqual(self.update(server, memory=128)["applied"], ["memory"])

    def test_warnings(self) -> None:
        """What the engine could not do in full is told."""
        server = self.running()
        self.world.engine.get("node_test.srv_1").update = lambda body: ["Weight discarded."]  # type: ignore[method-assign]
        answer = self.update(server, blkioWeight=300)
        self.assertEqual(answer, {"applied": ["blkioWeight"], "pending": [], "warnings": ["Weight discarded."]})

    def test_overtaken_by_a_kill(self) -> None:
        """server.kill ends an update that hangs; record and next container stay with the old config."""
        server = self.running()
        self.world.engine.faults.latency = lambda name: 3.0 if name == "update_container" else 0.0
        self.begin(server, {"memory": 128})
        self.world.settle(0.5)
        kill = self.world.send("server.kill", serverId="srv_1")
        self.world.settle(5)
        self.assertIsInstance(self.outcomes.pop().error, Cancelled)
        self.assertEqual(self.world.result(kill)["status"], "succeeded")
        self.assertEqual(server.spec.memory_mb, 64)
        self.assertEqual(self.held, [])

    def test_after_a_restart_of_the_daemon(self) -> None:
        """K20: the new config is there after the daemon died."""
        self.update(self.running(), memory=128, ports=[21007])
        self.world.restart()
        spec = self.world.household.get("srv_1").spec
        self.assertEqual((spec.memory_mb, spec.ports[0].host), (128, 21007))

    def test_the_gauges_know(self) -> None:
        """The limit that metrics tell is the new one."""
        server = self.running()
        limits: list[int] = []
        track = self.world.gauges.track

        def tracked(server_id: str, **more: Any) -> None:
            limits.append(more["memory_limit"])
            track(server_id, **more)

        self.world.gauges.track = tracked  # type: ignore[method-assign]
        self.update(server, memory=128)
        self.assertEqual(limits, [128 * MB])
        done(self.world.engine.inspect("node_test.srv_1"))
