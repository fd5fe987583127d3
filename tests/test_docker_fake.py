"""The FakeEngine keeps the contract of the seam, and its faults are those of Docker."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from typing import Any, TypeVar

from twisted.internet.defer import CancelledError
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase, TestCase

from stellarstack.core.messages import Json
from stellarstack.errors import ContainerGone, DockerUnavailable, EngineRefused, PortInUse, TimedOut
from stellarstack.interfaces import ContainerState, EngineEvent, PullProgress
from tests.contracts import EngineContract
from tests.engine_ears import PROGRAMS, Recorder, deferred
from tests.fake_container import Program
from tests.fake_engine import FakeEngine

T = TypeVar("T")

IMAGE = "stellarstack-test/busybox:latest"


def program_of(body: Mapping[str, Any]) -> Program:
    return PROGRAMS[body["Cmd"][2]]


class FakeEngineContractTests(EngineContract, TestCase):
    """The contract on the fake."""

    label = "node_contract"
    image = IMAGE
    subnets = ("10.213.0.0/28", "10.213.0.16/28")
    port = 25565

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1_700_000_000)
        self.engine = self.fake = FakeEngine(clock=self.clock, images={IMAGE: program_of})

    def name(self, suffix: str) -> str:
        return f"contract-{suffix}"

    def pass_time(self) -> None:
        self.clock.advance(1)

    async def spare_image(self) -> str:
        self.fake.add_image("stellarstack-test/spare:1", Program())
        return "stellarstack-test/spare:1"


class Followed:
    """The feed of a FakeEngine, and how it ended."""

    def __init__(self, engine: FakeEngine) -> None:
        self.actions: list[str] = []
        self.ended = deferred(engine.follow_events(0.0, self._received, lambda: None))

    def _received(self, event: EngineEvent) -> None:
        self.actions.append(event.action)


class FakeEngineFaultTests(SynchronousTestCase):
    """What tests do to the fake."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.program = Program(output="ready\n", replies={"stop": 0}, delay=2.0)
        self.engine = FakeEngine(clock=self.clock, images={"game": self.program})

    def answer(self, work: Awaitable[T]) -> T:
        """What a call answers at once."""
        return self.successResultOf(deferred(work))

    def running(self, **more: Json) -> str:
        body: dict[str, Json] = {"Image": "game", "Tty": True, "OpenStdin": True, "Labels": {"stellarstack.node": "n"}}
        made = self.answer(self.engine.create_container("server", {**body, **more}))
        self.answer(self.engine.start(made))
        return made

    def state(self, container: str) -> ContainerState:
        return self.answer(self.engine.inspect(container))

    def test_restart_with_live_restore(self) -> None:
        """K01: feeds, attaches, waits and calls break; the container runs on, what it printed meanwhile is logged."""
        made, sink, feed = self.running(), Recorder(), Followed(self.engine)
        attachment = self.answer(self.engine.attach(made, sink))
        waiting = deferred(self.engine.wait(made))
        self.engine.go_down()
        self.failureResultOf(feed.ended, DockerUnavailable)
        self.failureResultOf(waiting, DockerUnavailable)
        self.failureResultOf(deferred(self.engine.inspect(made)), DockerUnavailable)
        self.engine.print(made, "alone\n")
        attachment.write(b"lost\r")
        self.engine.come_back()
        self.assertTrue(self.state(made).running)
        self.assertEqual((sink.data, sink.ends), (b"", 1))
        self.assertEqual(self.answer(self.engine.logs(made)), b"ready\r\nalone\r\n")

    def test_restart_without_live_restore(self) -> None:
        """K01: dockerd takes the containers along, and its memory of past events."""
        made = self.running()
        self.engine.live_restore = False
        self.engine.go_down()
        self.engine.come_back()
        state = self.state(made)
        self.assertEqual((state.running, state.status, state.exit_code), (False, "exited", 143))
        feed = Followed(self.engine)
        self.assertEqual(feed.actions, [])
        self.answer(self.engine.start(made))
        self.assertEqual(feed.actions, ["start"])

    def test_crash_while_down(self) -> None:
        """A program that ends while dockerd is away has ended when it is back, without an event."""
        made = self.running()
        self.engine.go_down()
        self.engine.print(made, "last words")
        self.engine.crash(made, 9)
        self.engine.come_back()
        self.assertEqual((self.state(made).status, self.state(made).exit_code), ("exited", 9))
        self.assertEqual(self.answer(self.engine.logs(made)), b"ready\r\nlast words\n")
        self.assertNotIn("die", Followed(self.engine).actions)

    def test_hang(self) -> None:
        """K02: a call that hangs ends with TimedOut, done or not as was said; the next one is answered."""
        made = self.running()
        self.engine.faults.hang(name="kill", effect=True)
        self.engine.faults.hang()
        work = [deferred(self.engine.kill(made, "SIGKILL")), deferred(self.engine.remove(made))]
        self.assertFalse(self.state(made).running)
        self.clock.advance(30)
        for one in work:
            self.failureResultOf(one, TimedOut)
        self.assertEqual(self.state(made).exit_code, 137)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_hang_until_down(self) -> None:
        """A call that hangs when dockerd goes down breaks with it."""
        self.engine.faults.hang()
        work = deferred(self.engine.version())
        self.engine.go_down()
        self.failureResultOf(work, DockerUnavailable)

    def test_fail(self) -> None:
        """A named call fails as often as was said, before its effect or after it."""
        made = self.running()
        self.engine.faults.fail("remove", DockerUnavailable("no"), times=2)
        self.engine.faults.fail("inspect", EngineRefused("no"), times=5)
        for _ in range(2):
            self.failureResultOf(deferred(self.engine.remove(made)), DockerUnavailable)
        self.failureResultOf(deferred(self.engine.inspect(made)), EngineRefused)
        self.engine.faults.mend()
        self.engine.faults.fail("remove", DockerUnavailable("lost"), effect=True)
        self.failureResultOf(deferred(self.engine.remove(made)), DockerUnavailable)
        self.failureResultOf(deferred(self.engine.inspect(made)), ContainerGone)

    def test_latency(self) -> None:
        """A call takes its time; one whose asker goes away half way is done all the same."""
        made = self.running()
        self.engine.faults.latency = {"kill": 4.0, "inspect": 0.0, "remove": 8.0}.__getitem__
        work = deferred(self.engine.kill(made, "SIGKILL"))
        work.addErrback(lambda failure: failure.trap(CancelledError))
        work.cancel()
        self.assertTrue(self.state(made).running)
        self.clock.advance(2)
        self.assertFalse(self.state(made).running)
        removing = deferred(self.engine.remove(made))
        self.clock.advance(4)
        self.assertNoResult(removing)
        self.clock.advance(4)
        self.successResultOf(removing)
        self.failureResultOf(deferred(self.engine.inspect(made)), ContainerGone)

    def test_down_on_the_way(self) -> None:
        """A call that was under way when dockerd went down is not done."""
        made = self.running()
        self.engine.faults.latency = lambda _: 2.0
        work = deferred(self.engine.kill(made, "SIGKILL"))
        self.engine.go_down()
        self.clock.advance(1)
        self.failureResultOf(work, DockerUnavailable)
        self.assertTrue(self.engine.get(made).running)

    def test_vanish(self) -> None:
        """K03: a container removed behind us is told like any removal, and is gone."""
        made, feed = self.running(), Followed(self.engine)
        waiting = deferred(self.engine.wait(made))
        self.engine.vanish(made)
        self.assertEqual(self.successResultOf(waiting), 137)
        self.assertEqual(feed.actions, ["create", "start", "kill", "die", "destroy"])
        self.failureResultOf(deferred(self.engine.inspect("server")), ContainerGone)

    def test_oom(self) -> None:
        """The kernel's kill is told as Docker tells it."""
        made, feed = self.running(), Followed(self.engine)
        self.engine.oom(made)
        state = self.state(made)
        self.assertEqual((state.exit_code, state.oom_killed), (137, True))
        self.assertEqual(feed.actions[-2:], ["oom", "die"])
        self.answer(self.engine.start(made))
        self.assertFalse(self.state(made).oom_killed)

    def test_slow_end(self) -> None:
        """A program takes its time to end; a kill meanwhile is final and its late end is nothing."""
        made = self.running()
        attachment = self.answer(self.engine.attach(made, Recorder()))
        attachment.write(b"stop\r")
        self.answer(self.engine.kill(made, "TERM"))
        self.clock.advance(1.9)
        self.assertTrue(self.state(made).running)
        self.answer(self.engine.kill(made, "9"))
        self.assertEqual((self.state(made).exit_code, self.clock.getDelayedCalls()), (137, []))

    def test_ends_by_itself(self) -> None:
        """A program with a lifetime ends after it; with AutoRemove nothing is left."""
        self.engine.add_image("game", lambda _: Program(exit_after=5.0, exit_code=4))
        made = self.running(HostConfig={"AutoRemove": True})
        waiting = deferred(self.engine.wait(made))
        self.clock.advance(5)
        self.assertEqual(self.successResultOf(waiting), 4)
        self.failureResultOf(deferred(self.engine.inspect(made)), ContainerGone)

    def test_terminal(self) -> None:
        """The terminal echoes, edits, and turns Ctrl-C into SIGINT."""
        self.program.delay = 0.0
        made, sink = self.running(), Recorder()
        attachment = self.answer(self.engine.attach(made, sink))
        attachment.write(b"\x7fab\x08\x1b\t\x01")
        self.assertEqual(sink.data, b"ab\b \b^[\t^A")
        attachment.write(b"\x03")
        self.assertEqual(self.state(made).exit_code, 130)
        self.assertTrue(sink.data.endswith(b"^C"))

    def test_pull(self) -> None:
        """What the registry has can be pulled, with progress, and is here then."""
        told: list[PullProgress] = []
        self.engine.registry["a/b:1"] = self.program
        self.answer(self.engine.pull("a/b:1", None, told.append))
        self.assertEqual([one.percent for one in told], [0, 50, 100])
        self.assertTrue(self.answer(self.engine.has_image("a/b:1")))

    def test_port_of_a_stranger(self) -> None:
        """A port bound outside Docker is PortInUse until it is free, per address and protocol."""
        bindings: dict[str, Json] = {"PortBindings": {"1/udp": [{"HostPort": "53"}], "1/tcp": [{"HostPort": "54"}]}}
        self.engine.bridges.taken.add((53, "udp"))
        body: dict[str, Json] = {"Image": "game", "HostConfig": bindings}
        made = self.answer(self.engine.create_container("dns", body))
        self.failureResultOf(deferred(self.engine.start(made)), PortInUse)
        self.assertIn("53", self.state(made).error)
        self.engine.bridges.taken = {(53, "tcp"), (54, "udp")}
        self.answer(self.engine.start(made))

    def test_full_network(self) -> None:
        """A /30 has one address beside the gateway's."""
        self.answer(self.engine.create_network("tiny", "10.0.0.0/30", {}))
        host: dict[str, Json] = {"NetworkMode": "tiny"}
        first = self.running(HostConfig=host)
        self.assertEqual(self.state(first).addresses, {"tiny": "10.0.0.2"})
        second = self.answer(self.engine.create_container("two", {"Image": "game", "HostConfig": host}))
        self.failureResultOf(deferred(self.engine.start(second)), EngineRefused)

    def test_listener_that_raises(self) -> None:
        """An error of who listens to the feed ends that feed with it, and no other."""

        def received(_: EngineEvent) -> None:
            raise KeyError("bug")

        broken = deferred(self.engine.follow_events(0.0, received, lambda: None))
        feed = Followed(self.engine)
        self.running()
        self.failureResultOf(broken, KeyError)
        self.assertEqual(feed.actions, ["create", "start"])
