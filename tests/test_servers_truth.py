"""An engine that stumbles, a daemon that dies, a database that is full: what is told is so, in the end."""

from __future__ import annotations

from typing import Any

from stellarstack.core.messages import Json
from stellarstack.errors import DockerUnavailable, EngineRefused, TimedOut
from tests.fake_container import Program
from tests.household import CONTAINER, PowerCase, done

LOST = DockerUnavailable("Docker does not answer (test)")


class FailingEngineTests(PowerCase):
    def test_start_that_came_all_the_same(self) -> None:
        """K02: a start whose answer was lost has failed, but the process it brought is told as running."""
        self.made(start=False)
        self.world.engine.faults.fail("start", TimedOut("no answer (test)"), effect=True)
        start = self.power("start")
        self.world.run(1)
        self.assertEqual(self.outcome(start)[0], "failed")
        self.assertEqual((self.running(), self.world.status(), self.told()[-1]), (True, "running", "running"))

    def test_start_refused(self) -> None:
        """A start that the engine refuses is `crashed`, and no crash policy tries it again."""
        self.made(start=False, blueprint={"crash": {"restart": True}})
        self.world.engine.faults.fail("start", EngineRefused("no such program (test)"))
        start = self.power("start")
        self.world.run(120)
        self.assertEqual(self.outcome(start), ("failed", "docker_unavailable"))
        self.assertEqual((self.world.status(), self.running()), ("crashed", False))
        self.assertEqual(self.world.store.events("node.alert", code="server_crashed"), [])

    def test_nobody_knows_at_first(self) -> None:
        """Where neither the start nor the question after it is answered, it is asked until the truth is known."""
        self.made(start=False)
        self.world.engine.faults.fail("start", LOST, effect=True)
        self.world.engine.faults.fail("inspect", LOST, times=3, after="start")
        self.power("start")
        self.world.run(20)
        self.assertEqual((self.running(), self.world.status()), (True, "running"))

    def test_after_the_start(self) -> None:
        """A stumble right after the process was started does not make it crashed."""
        self.made(start=False)
        self.world.engine.faults.fail("inspect", LOST, after="start")
        self.power("start")
        self.world.run(5)
        self.assertEqual((self.running(), self.world.status()), (True, "running"))

    def test_stop_that_fails(self) -> None:
        """A stop that the engine would not hear of leaves no server `stopping` for ever."""
        self.made(Program(output="Done\n", signals={}))
        self.world.engine.faults.fail("kill", LOST, times=2)
        stop = self.power("stop", timeout=1)
        self.world.run(30)
        self.assertEqual(self.outcome(stop), ("failed", "docker_unavailable"))
        self.assertEqual((self.running(), self.world.status(), self.told()[-1]), (True, "running", "running"))
        self.world.engine.crash(CONTAINER, 3)
        self.world.run(1)
        self.assertEqual(self.world.store.events("server.status")[-1]["reason"], "exit")

    def test_stop_goes_on_over_a_restart_of_dockerd(self) -> None:
        """K01: a stop under way survives a restart of dockerd."""
        self.made(Program(output="Done\n", signals={"SIGTERM": 143}))
        stop = self.power("stop", timeout=5)
        self.world.run(1)
        self.world.engine.go_down()
        self.world.run(2)
        self.world.engine.come_back()
        self.world.run(10)
        self.assertEqual(self.answer(stop), {"status": "stopped", "exitCode": 143, "forced": True})

    def test_dies_before_the_start_is_answered(self) -> None:
        """A process that ends at once is `crashed` with its status, and the start says so."""
        self.made(Program(output="oops\n", exit_after=0.0, exit_code=4), start=False)
        start = self.power("start")
        self.world.run(1)
        self.assertEqual(self.outcome(start), ("failed", "invalid_state"))
        self.assertEqual(self.world.store.events("server.status")[-1]["exitCode"], 4)

    def test_reconnect_during_a_start(self) -> None:
        """A container that is being started is not taken for one that ended."""
        self.made(start=False)
        self.world.engine.faults.latency = lambda name: 3.0 if name == "attach" else 0.1
        start = self.power("start")
        self.world.run(1.5)
        self.world.keeper._connected()
        self.world.run(10)
        self.assertEqual(self.outcome(start), ("succeeded", None))
        self.assertNotIn("crashed", self.told())

    def test_started_by_hand(self) -> None:
        """K04: a container that somebody starts by hand is told as running, with its console."""
        self.made()
        self.power("stop")
        self.world.run(1)
        done(self.world.engine.start(CONTAINER))
        self.world.run(1)
        self.assertEqual((self.world.status(), self.told()[-1]), ("running", "running"))
        self.assertTrue(self.world.consoles.open_ones["srv_1"].attached)

    def test_console_that_broke_off(self) -> None:
        """A terminal that breaks off under a running game is taken up again."""
        self.made()
        self.world.engine.get(CONTAINER).drop_attached()
        self.assertFalse(self.world.consoles.open_ones["srv_1"].attached)
        self.world.run(15)
        self.assertTrue(self.world.consoles.open_ones["srv_1"].attached)

    def test_unknown_at_boot(self) -> None:
        """With the engine away since the daemon's start, power actions are refused and all is told once."""
        self.made()
        self.world.kill()
        self.world.engine.go_down()
        self.world.build()
        sent = len(self.told())
        self.world.start()
        self.world.run(1)
        commands = [self.power(kind) for kind in ("start", "stop", "kill", "restart", "reinstall")]
        self.world.run(1)
        self.assertEqual({self.outcome(one) for one in commands}, {("rejected", "docker_unavailable")})
        self.assertEqual(self.told()[sent:], ["running"])
        self.world.engine.come_back()
        self.world.run(10)
        self.assertEqual((self.world.status(), self.told()[-1]), ("running", "running"))


class HungEngineTests(PowerCase):
    """An engine that takes every question and answers none."""

    def test_stop(self) -> None:
        """K02: a stop fails within 30 s of its own timeout, whatever its way, and its lane is free then."""
        for way in ("stop", "SIGINT", "^C"):
            with self.subTest(way=way):
                docker: Json = {"image": "test/deaf:1", "stop_command": way, "stop_timeout": 10}
                self.world.engine.add_image("test/deaf:1", Program(output="Done\n", signals={}))
                self.made(blueprint={"docker": docker})
                self.world.engine.faults.hang(10_000)
                stop = self.power("stop", timeout=10)
                self.world.run(39.9)
                self.assertEqual(self.outcome(stop), ("failed", "timeout"))
                self.world.engine.faults.mend()
                self.world.run(60)
                self.assertEqual(self.world.status(), "running")
                delete = self.power("delete")
                self.world.run(1)
                self.assertEqual(self.outcome(delete), ("succeeded", None))

    def test_the_others(self) -> None:
        """K02: a kill and a restart fail as soon; what comes after them has its turn."""
        self.made(Program(output="Done\n", signals={}))
        self.world.engine.faults.hang(10_000)
        kill = self.power("kill")
        self.world.run(15)
        self.assertEqual(self.outcome(kill), ("failed", "timeout"))
        restart = self.power("restart", timeout=1)
        self.world.run(31)
        self.assertEqual(self.outcome(restart), ("failed", "timeout"))


class ManyTests(PowerCase):
    """Many servers at once, on an engine that does one thing at a time."""

    def many(self, count: int) -> list[str]:
        servers = [f"srv_{number}" for number in range(count)]
        for server in servers:
            self.world.create(server)
        self.world.run(5)
        self.assertEqual({self.world.status(server) for server in servers}, {"running"})
        return servers

    def in_turn(self, seconds: float, *names: str) -> None:
        """From now on these calls take so long, one after the other."""
        free = self.world.clock.seconds()

        def latency(name: str) -> float:
            nonlocal free
            if name not in names:
                return 0.0
            now = self.world.clock.seconds()
            free = max(free, now) + seconds
            return free - now

        self.world.engine.faults.latency = latency

    def test_a_hundred_deletes(self) -> None:
        """A hundred deletes at once all succeed, though the engine takes a minute for them and answers late."""
        servers = self.many(100)
        self.in_turn(0.4, "kill", "remove", "remove_network")
        deletes = [self.world.send("server.delete", serverId=server) for server in servers]
        self.world.run(300)
        self.assertEqual({self.outcome(delete) for delete in deletes}, {("succeeded", None)})
        self.assertEqual((list(self.world.engine.all()), self.world.store.documents), ([], {}))

    def test_a_late_kill(self) -> None:
        """A kill whose end a busy engine tells late has succeeded."""
        self.made()
        self.world.engine.faults.latency = lambda name: 80.0 if name == "kill" else 0.0
        kill = self.power("kill")
        self.world.run(60)
        self.assertEqual(self.answer(kill), {"status": "stopped", "exitCode": 137})

    def test_reconciled_side_by_side(self) -> None:
        """After a restart each server's state is told when its own container was looked at, sixteen at a time."""
        self.many(48)
        self.world.kill()
        sent = len(self.world.store.events("server.status"))
        self.world.engine.faults.latency = lambda name: 1.0 if name in ("inspect", "attach") else 0.0
        self.world.build()
        self.world.start()
        self.world.run(7)
        self.assertEqual(len(self.world.store.events("server.status")) - sent, 48)
        self.assertEqual(self.world.links[-1], (True, None))

    def test_one_that_stumbles(self) -> None:
        """A fault of our own at one server does not keep the others, or the lanes, from opening."""
        self.many(3)
        self.world.kill()
        self.world.engine.faults.fail("inspect", ValueError("a fault (test)"))
        self.world.build()
        self.world.start()
        self.world.run(1)
        self.assertEqual(self.world.links[-1], (True, None))
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)


class TakenUpTests(PowerCase):
    """A server that was starting when the daemon died goes on starting under the next one."""

    def dies_while_starting(self, meanwhile: str = "", seconds: float = 0.0, **more: Any) -> str:
        """The start's command; `meanwhile` is printed, and `seconds` pass, before the next daemon is there."""
        self.made(Program(output="loading\n"), start=False, **more)
        start = self.power("start")
        self.world.run(10)
        self.world.kill()
        self.world.engine.print(CONTAINER, meanwhile)
        self.world.clock.advance(seconds)
        self.world.build()
        self.world.start()
        self.world.run(1)
        return start

    def test_goes_on_starting(self) -> None:
        """It is told `starting`, and becomes ready by its line, not by the restart."""
        start = self.dies_while_starting()
        self.assertEqual(self.told()[-2:], ["starting", "starting"])
        self.world.engine.print(CONTAINER, "Done\n")
        self.world.run(1)
        self.assertEqual((self.told()[-1], self.outcome(start)), ("running", ("succeeded", None)))

    def test_ready_meanwhile(self) -> None:
        """A line printed while no daemon was there counts; it stands in the engine's log."""
        start = self.dies_while_starting("Done\n")
        self.assertEqual((self.told()[-1], self.outcome(start)), ("running", ("succeeded", None)))

    def test_time_counts_from_the_start(self) -> None:
        """The check has what is left of its time; it is told overdue once, and a late line still counts."""
        start = self.dies_while_starting(seconds=20)
        self.world.run(28)  # of 60 s, 10 and 20 and 1 were over
        self.assertEqual((self.world.status(), self.told()[-1]), ("starting", "starting"))
        self.world.run(2)
        self.assertEqual(self.outcome(start), ("failed", "timeout"))
        self.assertEqual(len(self.world.store.events("node.alert", code="ready_timeout")), 1)
        self.world.engine.print(CONTAINER, "Done\n")
        self.world.run(1)
        self.assertEqual(self.told()[-1], "running")

    def test_time_over_meanwhile(self) -> None:
        """Where all of its time passed without a daemon, it still has a moment."""
        self.dies_while_starting(seconds=500)
        self.world.engine.print(CONTAINER, "Done\n")
        self.world.run(1)
        self.assertEqual(self.world.status(), "running")
        self.assertEqual(self.world.store.events("node.alert", code="ready_timeout"), [])

    def test_without_a_command(self) -> None:
        """A crash restart that nobody waits for is overdue all the same, and told once."""
        self.made(Program(output="Done\n"), blueprint={"crash": {"restart": True}})
        self.world.engine.add_image("test/other:1", Program(output="loading\n"))
        self.world.engine.crash(CONTAINER, 1)
        self.world.run(5)
        self.world.restart()
        self.world.run(70)
        self.assertEqual(self.world.status(), "starting")
        self.assertEqual(len(self.world.store.events("node.alert", code="ready_timeout")), 1)
        self.world.restart()
        self.world.run(70)
        self.assertEqual(len(self.world.store.events("node.alert", code="ready_timeout")), 1)

    def test_dies_then(self) -> None:
        """One that ends before it is ready has crashed, as without a restart between."""
        start = self.dies_while_starting()
        self.world.engine.crash(CONTAINER, 3)
        self.world.run(1)
        self.assertEqual((self.told()[-1], self.outcome(start)), ("crashed", ("failed", "invalid_state")))

    def test_no_check(self) -> None:
        """Without a ready check it runs."""
        self.dies_while_starting(blueprint={"startup": {"command": "x", "readyCheck": {"type": "none"}}})
        self.assertEqual(self.world.status(), "running")


class OneRunTests(PowerCase):
    def test_stop_of_a_run_that_is_over(self) -> None:
        """A stop is over with the run it was sent for: one that somebody starts by hand meanwhile is left alone."""
        self.made(Program(output="Done\n", signals={}))
        self.world.engine.faults.hang(1, name="inspect")
        stop = self.power("stop")
        self.world.run(2)
        self.world.engine.crash(CONTAINER, 3)
        self.world.run(1)
        self.assertEqual(self.told()[-1], "stopped")
        done(self.world.engine.start(CONTAINER))
        self.world.run(60)
        self.assertEqual(self.answer(stop)["status"], "stopped")
        self.assertEqual((self.told()[-1], self.running()), ("running", True))

    def test_kill_of_a_run_that_is_over(self) -> None:
        """The same of a kill that the engine answers late."""
        self.made(Program(output="Done\n"))
        self.world.engine.faults.hang(1, name="kill")
        kill = self.power("kill")
        self.world.run(1)
        self.world.engine.crash(CONTAINER, 137)
        self.world.run(1)
        done(self.world.engine.start(CONTAINER))
        self.world.run(60)
        self.assertEqual(self.answer(kill)["status"], "stopped")
        self.assertTrue(self.running())


class TypedStopTests(PowerCase):
    def test_while_starting(self) -> None:
        """A stop typed while it starts, and not obeyed, leaves it starting; its line still makes it run."""
        self.made(Program(output="loading\n"), start=False)
        self.power("start")
        self.world.run(1)
        self.world.household.line_typed("srv_1", "stop")
        self.world.run(31)
        self.assertEqual(self.told()[-3:], ["starting", "stopping", "starting"])
        self.world.engine.print(CONTAINER, "Done\n")
        self.world.run(1)
        self.assertEqual(self.told()[-1], "running")

    def test_forgotten_by_a_restart(self) -> None:
        """K07: a typed stop that was not obeyed before the daemon died is forgotten: a later crash is one."""
        self.made(Program(output="Done\n"), blueprint={"crash": {"restart": True}})
        self.world.household.line_typed("srv_1", "stop")
        self.world.run(1)
        self.world.restart()
        self.world.run(1)
        self.world.engine.crash(CONTAINER, 1)
        self.world.run(5)
        self.assertEqual(self.told()[-3:], ["crashed", "starting", "running"])

    def test_too_late(self) -> None:
        """An end after the stop's time is no longer by the typed line: a clean one is an end by itself."""
        self.made(Program(output="Done\n"))
        self.world.household.line_typed("srv_1", "stop")
        self.world.run(31)
        self.world.engine.crash(CONTAINER, 0)
        self.world.run(1)
        last = self.world.store.events("server.status")[-1]
        self.assertEqual((last["status"], last["reason"]), ("stopped", "exit"))

    def test_in_time(self) -> None:
        """An end within the stop's time is the user's."""
        self.made(Program(output="Done\n"))
        self.world.household.line_typed("srv_1", " stop ")
        self.world.run(29)
        self.world.engine.crash(CONTAINER, 0)
        self.world.run(1)
        last = self.world.store.events("server.status")[-1]
        self.assertEqual((last["status"], last["reason"]), ("stopped", "user"))

    def test_counts_as_a_stop(self) -> None:
        """The stop command typed into the console is a stop: no crash follows, whatever the exit status."""
        self.made(Program(output="Done\n", replies={"stop": 7}), blueprint={"crash": {"restart": True}})
        self.power("command", command="stop")
        self.world.run(120)
        self.assertEqual(self.world.status(), "stopped")
        self.assertEqual(self.told()[-2:], ["stopping", "stopped"])

    def test_that_ends_nothing(self) -> None:
        """Where the game goes on after it, it is running again, and a later crash is one."""
        self.made(Program(output="Done\n"), blueprint={"crash": {"restart": True}})
        self.world.household.line_typed("srv_1", "stop")
        self.world.run(40)
        self.assertEqual(self.told()[-2:], ["stopping", "running"])
        self.world.engine.crash(CONTAINER, 1)
        self.world.run(5)
        self.assertEqual(self.told()[-3:], ["crashed", "starting", "running"])

    def test_of_a_run_that_is_over(self) -> None:
        """A typed stop is over with the run it was typed in, though a look at it hangs: the next run has its own."""
        self.made(Program(output="Done\n", replies={"stop": 7}, delay=2.0), blueprint={"crash": {"restart": True}})
        self.world.engine.faults.hang(1, name="inspect")
        self.power("command", command="stop")
        self.world.run(3)
        self.assertEqual(self.told()[-1], "stopped")
        start = self.power("start")
        self.world.run(8)
        self.assertEqual(self.outcome(start), ("succeeded", None))
        self.power("command", command="stop")
        self.world.run(60)
        self.assertEqual(self.told()[-3:], ["running", "stopping", "stopped"])

    def test_other_lines(self) -> None:
        """Other lines, and lines for servers that are not here, change nothing."""
        self.made()
        self.world.household.line_typed("srv_1", "stop it")
        self.world.household.line_typed("srv_9", "stop")
        self.world.run(1)
        self.assertEqual(self.world.status(), "running")


class CrashTests(PowerCase):
    def test_outlives_the_daemon(self) -> None:
        """K07: a restart that was waiting when the daemon died is done by the next one."""
        self.made(blueprint={"crash": {"restart": True}})
        self.world.engine.crash(CONTAINER, 1)
        self.world.run(0.1)
        self.world.restart()
        self.world.run(5)
        self.assertEqual(self.world.status(), "running")

    def test_restart_that_fails_counts(self) -> None:
        """K20: a restart that the engine refuses counts like a crash: it is tried again, and not for ever."""
        self.made(blueprint={"crash": {"restart": True, "limit": 3, "window": 600}})
        self.world.engine.faults.fail("create_container", EngineRefused("no (test)"), times=2)
        self.world.engine.crash(CONTAINER, 1)
        self.world.run(60)
        self.assertEqual(self.world.status(), "running")

    def test_full_lane(self) -> None:
        """A crash restart that finds its lane full is left out, and nothing breaks."""
        self.made(blueprint={"crash": {"restart": True}})
        self.world.engine.faults.latency = lambda _: 50.0
        self.world.engine.crash(CONTAINER, 1)
        for _ in range(66):
            self.power("reinstall")
        self.world.run(3)
        self.assertEqual(self.world.tasks.names().count("crash restart"), 0)


class DatabaseTests(PowerCase):
    def test_newest_record_is_written_again(self) -> None:
        """K14: a record that could not be written is written when the database works again, the newest one."""
        self.made()
        self.world.store.broken = True
        self.world.engine.crash(CONTAINER, 5)
        self.world.run(3)
        self.assertEqual(self.world.store.documents["srv_1"]["status"], "running")
        self.world.store.broken = False
        self.world.run(10)
        self.assertEqual(self.world.store.documents["srv_1"]["exitCode"], 5)
        self.assertEqual(self.told()[-1], "crashed")
