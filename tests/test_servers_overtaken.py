"""Power actions that meet each other: none is lost, none is stuck, each has its one result."""

from __future__ import annotations

from dataclasses import replace

from tests.fake_container import Program
from tests.household import CONTAINER, NODE, PowerCase


class WaitingStartTests(PowerCase):
    """A start that only waits for its ready check."""

    def test_stop_ends_the_wait(self) -> None:
        """K05: server.stop does not wait for a ready line that never comes: the start is cancelled, the stop done."""
        self.made(Program(output="loading\n", replies={"stop": 0}), start=False)
        start = self.power("start")
        self.world.run(2)
        stop = self.power("stop")
        self.world.run(1)
        self.assertEqual(self.outcome(start), ("cancelled", "cancelled"))
        self.assertEqual(self.answer(stop), {"status": "stopped", "exitCode": 0, "forced": False})

    def test_restart_ends_the_wait(self) -> None:
        """server.restart ends it as well, and brings up another process."""
        self.made(Program(output="loading\n", replies={"stop": 0, "go": "Done\n"}), start=False)
        start = self.power("start")
        self.world.run(2)
        first = self.world.engine.get(CONTAINER).id
        self.power("restart")
        self.world.run(1)
        self.assertEqual(self.outcome(start), ("cancelled", "cancelled"))
        self.assertNotEqual(self.world.engine.get(CONTAINER).id, first)

    def test_stop_at_each_moment_of_a_start(self) -> None:
        """K05: a stop at any moment of a start, ready or not, is never lost: one result each, and nothing runs then."""
        for program in (
            Program(output="loading\n", replies={"stop": 0}),
            Program(output="Done\n", replies={"stop": 0}),
        ):
            self.made(program, start=False)
            for tenth in range(0, 45, 2):
                with self.subTest(tenths=tenth):
                    self.world.engine.faults.latency = lambda _: 0.3
                    start = self.power("start")
                    self.world.run(tenth / 10)
                    stop = self.power("stop")
                    self.world.run(40)
                    self.assertIn(self.outcome(start)[0], ("cancelled", "succeeded"))
                    self.assertEqual(self.outcome(stop), ("succeeded", None))
                    self.assertEqual((self.running(), self.world.status()), (False, "stopped"))
            self.world.engine.faults.latency = None
            self.power("delete")
            self.world.run(5)

    def test_a_stop_that_was_there_before(self) -> None:
        """K05: a stop sent while the container was being made ends the wait before it begins; the order holds."""
        self.made(Program(output="loading\n", replies={"stop": 0}), start=False)
        self.world.engine.faults.latency = lambda _: 0.2
        start, line, stop = self.power("start"), self.power("command", command="hello"), self.power("stop")
        self.world.run(10)
        self.assertEqual(self.outcome(start), ("cancelled", "cancelled"))
        self.assertEqual(self.outcome(line), ("succeeded", None))
        self.assertEqual(self.outcome(stop), ("succeeded", None))
        self.assertEqual(self.world.status(), "stopped")

    def test_an_expired_stop_ends_nothing(self) -> None:
        """A stop that came too late does not end the wait."""
        self.made(Program(output="loading\n"), start=False)
        start = self.power("start")
        self.world.run(2)
        stop = self.world.send_late("server.stop", serverId="srv_1")
        self.world.run(3)
        self.assertEqual(self.world.status(), "starting")
        self.world.run(120)
        self.assertEqual(self.outcome(start), ("failed", "timeout"))
        self.assertEqual(self.outcome(stop), ("expired", "expired"))

    def test_create_succeeds(self) -> None:
        """A create whose first start is ended has made its server all the same, and says what became of the start."""
        blueprint = self.image(Program(output="loading\n", replies={"stop": 0}))
        create = self.world.create(blueprint=blueprint)
        self.world.run(2)
        self.power("stop")
        self.world.run(1)
        self.assertEqual(self.outcome(create), ("succeeded", None))
        error = self.answer(create)["startError"]
        assert isinstance(error, dict)
        self.assertEqual(error["code"], "cancelled")

    def test_slots_are_for_others(self) -> None:
        """Starts that wait for ready lines do not keep other servers' commands waiting, however many they are."""
        blueprint = self.image(Program(output="loading\n"))
        for number in range(20):
            self.world.create(f"srv_{number + 10}", blueprint=blueprint)
        last = self.world.create("srv_1")
        self.world.run(2)
        self.assertEqual(self.outcome(last), ("succeeded", None))

    def test_no_timeout(self) -> None:
        """A ready check with timeout 0 waits as long as it takes."""
        ready = {"startup": {"command": "x", "readyCheck": {"type": "log", "pattern": "Done", "timeout": 0}}}
        command = self.world.create(blueprint={**self.image(Program(replies={"go": "Done\n"})), **ready})
        self.world.run(1000)
        self.world.send("server.command", serverId="srv_1", command="go")
        self.world.run(1)
        self.assertEqual(self.world.status(), "starting")  # the line waits behind the create
        self.world.engine.print(CONTAINER, "Done\n")
        self.world.run(1)
        self.assertEqual(self.answer(command)["status"], "running")


class KillTests(PowerCase):
    def test_at_each_moment_of_a_start(self) -> None:
        """K05: a kill at any moment of a start wins: one result each, nothing runs, the state is `stopped`."""
        self.made(start=False)
        for tenth in range(40):
            with self.subTest(tenths=tenth):
                self.world.engine.faults.latency = lambda _: 0.3
                start = self.power("start")
                self.world.run(tenth / 10)
                kill = self.power("kill")
                self.world.run(5)
                self.assertIn(self.outcome(start)[0], ("cancelled", "succeeded"))
                self.assertEqual(self.outcome(kill), ("succeeded", None))
                self.assertFalse(self.running())
                self.assertEqual(self.world.status(), "stopped")

    def test_during_a_pull(self) -> None:
        """A kill breaks off the fetching of an image; the exit status of an earlier run is not told as this one's."""
        self.made()
        self.world.engine.crash(CONTAINER, 9)
        self.world.engine.registry["test/far:1"] = Program(output="Done\n")
        server = self.world.household.get("srv_1")
        server.keep(replace(server.record, spec=replace(server.spec, image="test/far:1")))
        self.world.engine.faults.latency = lambda name: 100.0 if name == "pull" else 0.0
        self.world.engine.faults.request_timeout = 1000.0
        start = self.power("start")
        self.world.run(5)
        kill = self.power("kill")
        self.world.run(1)
        self.assertEqual(self.outcome(start), ("cancelled", "cancelled"))
        self.assertIsNone(self.answer(kill)["exitCode"])
        self.assertEqual((self.world.status(), self.told()[-1]), ("stopped", "stopped"))

    def test_waiting_line(self) -> None:
        """A line that waits in the lane is cancelled by a kill like all else, not typed into the next run."""
        self.made(Program(output="loading\n"), start=False)
        self.power("start")
        line = self.power("command", command="hello")
        kill = self.power("kill")
        self.world.run(5)
        self.assertEqual(self.outcome(line), ("cancelled", "cancelled"))
        self.assertEqual(self.outcome(kill), ("succeeded", None))

    def test_expired_kill(self) -> None:
        """A kill whose time is over ends nothing."""
        self.made()
        kill = self.world.send_late("server.kill", serverId="srv_1")
        self.world.run(1)
        self.assertEqual(self.outcome(kill), ("expired", "expired"))
        self.assertTrue(self.running())

    def test_in_order_of_arrival(self) -> None:
        """Two kills and a delete that wait together are done in their order."""
        self.made()
        self.world.engine.faults.latency = lambda _: 0.5
        commands = [self.power("stop"), self.power("kill"), self.power("kill"), self.power("delete")]
        self.world.run(20)
        self.assertEqual([self.outcome(one)[0] for one in commands], ["cancelled", *["succeeded"] * 3])
        self.assertIsNone(self.world.status())


class DeleteTests(PowerCase):
    def test_at_each_moment_of_an_install(self) -> None:
        """K06: a delete at any moment of a create leaves no container, network, folder, record, wait or task."""
        install = {"image": "test/installer:1", "entrypoint": "sh", "script": "x", "timeout": 60}
        self.world.engine.add_image("test/installer:1", Program(output="fetching\n", exit_after=2.0))
        for step in range(20):
            with self.subTest(step=step):
                self.world.engine.faults.latency = lambda _: 0.2
                create = self.world.create(blueprint={"install": install}, start=False)
                self.world.run(step * 0.3)
                delete = self.power("delete")
                self.world.run(20)
                self.assertIn(self.outcome(create)[0], ("cancelled", "succeeded"))
                self.assertEqual(self.outcome(delete), ("succeeded", None))
                self.assertEqual(self.answer(delete), {})
                self.assert_nothing_left()

    def test_kill_at_each_moment_of_an_install(self) -> None:
        """K05: a kill of a server that is being installed succeeds: the create is cancelled, nothing is left."""
        install = {"image": "test/installer:1", "entrypoint": "sh", "script": "x", "timeout": 60}
        self.world.engine.add_image("test/installer:1", Program(output="fetching\n", exit_after=20.0))
        for step in range(12):
            with self.subTest(step=step):
                self.world.engine.faults.latency = lambda _: 0.2
                create = self.world.create(blueprint={"install": install}, start=False)
                self.world.run(step * 0.3)
                kill = self.power("kill")
                self.world.run(20)
                self.assertEqual(self.outcome(create), ("cancelled", "cancelled"))
                self.assertEqual(self.answer(kill), {"status": "stopped", "exitCode": None})
                self.assert_nothing_left()

    def test_waiting_create(self) -> None:
        """A create that waits for a slot is cancelled by a delete, which succeeds; a second delete finds nothing."""
        self.world.engine.faults.latency = lambda _: 5.0
        for number in range(16):
            self.world.create(f"srv_{number + 10}")
        create, delete, again = self.world.create(), self.power("delete"), self.power("delete")
        self.world.run(1)
        self.assertEqual(self.outcome(create), ("cancelled", "cancelled"))
        self.assertEqual(self.outcome(delete), ("succeeded", None))
        self.assertEqual(self.outcome(again), ("rejected", "server_not_found"))

    def assert_nothing_left(self) -> None:
        world = self.world
        self.assertEqual((list(world.engine.all()), world.store.documents), ([], {}))
        self.assertEqual(world.engine.bridges.list({"stellarstack.node": NODE}), {})
        self.assertEqual([path.name for path in (world.root / "servers").glob("*")], [])
        self.assertEqual([path.name for path in (world.root / "install").glob("srv*/*") if path.is_dir()], [])
        self.assertEqual(world.tasks.names(), ["engine watch"])
        self.assertEqual(len(world.clock.getDelayedCalls()), 1)
        self.assertEqual(world.subnets_given(), [])

    def test_calls_off_a_crash_restart(self) -> None:
        """A deleted server is not brought back by a restart that was waiting, and nothing waits any more."""
        self.made(blueprint={"crash": {"restart": True}})
        self.world.engine.crash(CONTAINER, 1)
        self.power("delete")
        self.world.run(0.1)
        self.assert_nothing_left()
        self.world.run(120)
        self.assert_nothing_left()

    def test_engine_away(self) -> None:
        """A delete that cannot reach the engine fails, and the server is here for another try."""
        self.made()
        self.world.engine.go_down()
        self.world.run(1)
        delete = self.power("delete")
        self.world.run(1)
        self.assertEqual(self.outcome(delete), ("failed", "docker_unavailable"))
        self.world.engine.come_back()
        self.world.run(20)
        self.assertEqual((self.world.status(), self.running()), ("running", True))
        again = self.power("delete")
        self.world.run(1)
        self.assertEqual(self.outcome(again), ("succeeded", None))
        self.assert_nothing_left()

    def test_database_broken(self) -> None:
        """A record that cannot be removed keeps its server, which is written down again."""
        self.made(start=False)
        self.world.engine.faults.latency = lambda _: 0.3
        delete = self.power("delete")
        self.world.run(0.7)
        self.world.store.broken = True
        self.world.run(2)
        self.world.store.broken = False
        self.world.run(10)
        self.assertEqual(self.outcome(delete), ("failed", "internal"))
        self.assertEqual(sorted(self.world.store.documents), ["srv_1"])
        self.power("delete")
        self.world.run(10)
        self.assert_nothing_left()

    def test_died_right_after_it_was_gone(self) -> None:
        """K07: a delete that had done its work when the daemon died succeeds after the restart."""
        self.made()
        self.world.commit_delay = lambda name: 5.0 if name == "finish" else 0.0
        self.world.restart()
        delete = self.power("delete")
        self.world.run(1)
        self.assertIsNone(self.world.status())
        self.world.commit_delay = None
        self.world.restart()
        self.world.run(1)
        self.assertEqual(self.outcome(delete), ("succeeded", None))
