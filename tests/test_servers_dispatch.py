"""From an accepted command to its one result, over a full lane, a closed daemon, a bug, and a death midway."""

from __future__ import annotations

from collections.abc import Mapping

from twisted.trial.unittest import SynchronousTestCase

from stellarstack.core.messages import Command, Json, Origin
from stellarstack.core.records import record_from
from stellarstack.core.requests import ListServers
from stellarstack.core.server_lifecycle import ServerLifecycle
from stellarstack.errors import InvalidState
from stellarstack.interfaces import JournalEntry
from stellarstack.servers.lane import Outcome, Step
from stellarstack.servers.resume import sort_out
from tests.fake_container import Program
from tests.household import CONTAINER, PowerCase


class DispatchTests(PowerCase):
    def test_full_lane(self) -> None:
        """The 65th command that waits for one server is rejected; a kill is taken all the same."""
        self.made()
        self.world.engine.faults.latency = lambda _: 1.0
        commands = [self.power("restart") for _ in range(66)]
        self.assertEqual(self.outcome(commands[-1]), ("rejected", "invalid_state"))
        kill = self.power("kill")
        self.world.run(30)
        self.assertEqual(self.outcome(kill), ("succeeded", None))

    def test_node_commands(self) -> None:
        """Commands of the node need no lane: they are answered while every server is busy."""
        info, revoke = self.world.send("node.info"), self.world.send("console.revoke", userId="u")
        self.assertEqual((self.answer(info), self.answer(revoke)), ({"nodeId": "node_test"}, {"closed": 0}))

    def test_expired_node_command(self) -> None:
        """A command of the node whose time is over is not run."""
        self.assertEqual(self.outcome(self.world.send_late("server.list")), ("expired", "expired"))

    def test_bug(self) -> None:
        """A fault of the daemon's own in a command of the node is its result."""

        def broken() -> None:
            raise RuntimeError("bug")

        self.world.household.listing = broken  # type: ignore[method-assign,assignment]
        self.assertEqual(self.outcome(self.world.send("server.list")), ("failed", "internal"))
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def test_early_and_late(self) -> None:
        """What comes before the household is true waits; opening twice changes nothing; a late one expires."""
        self.made()
        self.world.kill()
        self.world.build()
        early = self.world.send("server.list")
        late = self.world.send_late("server.kill", serverId="srv_1")
        self.assertNotIn(early, self.world.store.results)
        self.world.unfinished = ()
        self.world.dispatch.open(lambda: ())
        self.world.dispatch.open(lambda: [(Command("x", "server.list", {}, Origin.PUBSUB), ListServers(), False)])
        self.world.run(1)
        self.assertEqual(self.outcome(early), ("succeeded", None))
        self.assertEqual(self.outcome(late), ("expired", "expired"))
        self.assertTrue(self.running())

    def test_closed(self) -> None:
        """After the close nothing of the daemon's own is begun."""
        self.made()
        begun: list[str] = []

        async def work(_step: Step) -> Mapping[str, Json]:
            begun.append("work")
            return {}

        self.world.dispatch.close()
        self.world.dispatch.add_internal("srv_other", "work", work, lambda _: None)
        self.world.dispatch.add_internal("srv_1", "work", work, lambda _: None)
        self.assertEqual(begun, [])

    def test_shutdown_with_a_full_lane(self) -> None:
        """node.shutdown does not wait for a server whose lane is full."""
        self.made()
        self.world.engine.faults.latency = lambda _: 20.0
        for _ in range(66):
            self.power("restart")
        shutdown = self.world.send("node.shutdown", stopServers=True)
        self.assertEqual(self.outcome(shutdown), ("succeeded", None))

    def test_shutdown_does_not_wait_for_ready(self) -> None:
        """node.shutdown stops a server that would never be ready."""
        self.made(Program(output="loading\n", replies={"stop": 0}), start=False)
        self.power("start")
        self.world.run(1)
        shutdown = self.world.send("node.shutdown", stopServers=True)
        self.world.run(1)
        self.assertEqual((self.outcome(shutdown), self.running()), (("succeeded", None), False))


class ResumeTests(PowerCase):
    def sorted(self, kind: str, begun: float | None, **payload: Json) -> tuple[list[str], list[str]]:
        """Names of the requests to be done again; codes of those that are lost."""
        command = Command("c1", kind, {"serverId": "srv_1", **payload}, Origin.QUEUE, expires_at=1.0)
        found = sort_out([JournalEntry(command, 0.0, begun)], self.world.household)
        return [type(request).__name__ for _, request, _ in found.again], [error.code for _, error in found.lost]

    def test_k07_each_kind(self) -> None:
        """K07: what had not begun is done; what had begun is done again only where nobody feels it."""
        rows = [
            ("server.command", {"command": "x"}, None, (["TypeLine"], [])),
            ("server.command", {"command": "x"}, 1.0, ([], ["interrupted"])),
            ("server.reinstall", {}, 1.0, ([], ["interrupted"])),
            ("node.shutdown", {}, 1.0, ([], ["interrupted"])),
            ("server.start", {}, 1.0, (["StartServer"], [])),
            ("server.restart", {}, 1.0, (["RestartServer"], [])),
            ("server.fly", {}, None, ([], ["unknown_command"])),
        ]
        for kind, payload, begun, expected in rows:
            with self.subTest(kind=kind, begun=begun):
                self.assertEqual(self.sorted(kind, begun, **payload), expected)

    def test_restart_that_was_nearly_done(self) -> None:
        """A restart whose new process runs already is not done twice."""
        self.made()
        self.assertEqual(self.sorted("server.restart", self.world.clock.seconds() - 10.0), (["StartServer"], []))
        self.assertEqual(self.sorted("server.restart", self.world.clock.seconds() + 10.0), (["RestartServer"], []))

    def test_interrupted_is_told(self) -> None:
        """K07: a reinstall that the daemon's death broke off is answered `failed`, `interrupted`, once."""
        self.world.engine.add_image("test/installer:1", Program(exit_after=5.0))
        install: dict[str, Json] = {"image": "test/installer:1", "entrypoint": "sh", "script": "x", "timeout": 60}
        self.world.create(blueprint={"install": install}, start=False)
        self.world.run(6)
        command = self.power("reinstall")
        self.world.run(1)
        self.world.restart()
        self.world.run(1)
        self.assertEqual(self.outcome(command), ("failed", "interrupted"))
        self.assertEqual((self.world.status(), list(self.world.engine.all())), ("stopped", []))


class LifecycleTests(SynchronousTestCase):
    def test_refusal_tells_its_story(self) -> None:
        """An input that the state refuses says how the server came there, and changes nothing."""
        lifecycle = ServerLifecycle("srv_1")
        lifecycle.start_began()
        lifecycle.became_ready()
        error = self.assertRaises(InvalidState, lifecycle.start_began)
        self.assertIn("stopped > start_began=starting > became_ready=running", str(error))
        self.assertEqual(lifecycle.status.value, "running")

    def test_unreadable_record(self) -> None:
        """A record without its spec is refused."""
        document = {"spec": None, "reason": None, "exitCode": None, "containerId": None}
        self.assertRaises(ValueError, record_from, document)


class KeeperTests(PowerCase):
    def test_bug_in_the_watch(self) -> None:
        """A fault of the daemon's own does not end the watch over the engine."""
        self.world.engine.faults.fail("version", RuntimeError("bug"))
        self.world.restart()
        self.world.run(5)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
        self.assertEqual([up for up, _ in self.world.links], [False, True])
        self.made()

    def test_hurry(self) -> None:
        """The engine is tried at once when somebody asks for it, however long the wait would be."""
        self.world.engine.go_down()
        self.world.run(60)
        self.world.engine.come_back()
        before = len(self.world.links)
        self.world.keeper.hurry()
        self.world.run(0)
        self.assertEqual(self.world.links[before:], [(True, None)])
        self.world.keeper.hurry()

    def test_stranger(self) -> None:
        """A game with this node's label and no record is left alone, and told."""
        self.made()
        self.world.kill()
        self.world.store.documents.clear()
        self.world.build()
        self.world.start()
        self.world.run(1)
        self.assertTrue(self.running())
        alerts = self.world.store.events("node.alert", code="container_without_record")
        self.assertEqual([alert["serverId"] for alert in alerts], ["srv_1"])

    def test_strangers_cannot_be_asked_for(self) -> None:
        """A question about other containers that fails does not keep the node from its work."""
        self.world.engine.faults.fail("containers", InvalidState("no (test)"))
        self.world.restart()
        self.made()

    def test_internal_outcome(self) -> None:
        """What the daemon does by itself answers whoever asked for it."""
        self.made()
        outcomes: list[Outcome] = []

        async def work(_step: Step) -> Mapping[str, Json]:
            return {"done": True}

        self.world.dispatch.add_internal("srv_1", "work", work, outcomes.append)
        self.assertEqual(outcomes, [Outcome({"done": True}, None, False)])
        self.assertTrue(self.world.engine.get(CONTAINER).running)
