"""A test case with a DockerEngine on a scripted dockerd."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from pathlib import Path

from twisted.internet import reactor
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from stellarstack.config import DockerConfig
from stellarstack.core.records import PtySize
from stellarstack.docker.engine import DockerEngine
from tests.engine_ears import Recorder
from tests.fake_dockerd import Asked, Connection, FakeDockerd

TTY = {"Id": "c", "Config": {"Tty": True}}


def write_raw(raw: bytes, connection: Connection, _: Asked, drop: bool = False) -> None:
    """A script that answers with these bytes and nothing else."""
    connection.write(raw)
    if drop:
        connection.drop()


class DockerdCase(TestCase):
    """A DockerEngine on a scripted dockerd; the clock is the test's."""

    timeout = 30

    def setUp(self) -> None:
        self.clock = Clock()
        self.dockerd = FakeDockerd(reactor, Path(self.mktemp()).absolute().parent / "d.sock")
        if len(str(self.dockerd.socket)) > 100:
            self.dockerd.socket = Path(f"/tmp/stellarstack-test-{os.getpid()}.sock")
        self.dockerd.socket.parent.mkdir(parents=True, exist_ok=True)
        self.dockerd.listen()
        self.addCleanup(self.dockerd.stop)
        self.engine = self.engine_with()

    def engine_with(self, **config: object) -> DockerEngine:
        settings = DockerConfig(socket=self.dockerd.socket, **config)  # type: ignore[arg-type]
        return DockerEngine(reactor=reactor, clock=self.clock, config=settings)

    def tearDown(self) -> None:
        self.assertEqual(self.dockerd.forbidden, [])
        self.assertEqual(self.clock.getDelayedCalls(), [], "a timer was left behind")

    async def refused(self, kind: type[Exception], work: Awaitable[object]) -> str:
        """The text of the error that `work` must end with."""
        try:
            await work
        except kind as error:
            self.assertIs(type(error), kind)
            return str(error)
        raise self.failureException(f"no {kind.__name__}")

    def calls(self) -> dict[str, Callable[[], Awaitable[object]]]:
        """Each call of the seam, by the path that it asks first."""
        engine = self.engine
        return {
            "/version": engine.version,
            "/containers/create": lambda: engine.create_container("c", {"Image": "x"}),
            "/containers/c/start": lambda: engine.start("c"),
            "/containers/c/kill": lambda: engine.kill("c", "SIGKILL"),
            "/containers/c": lambda: engine.remove("c"),
            "/containers/c/json": lambda: engine.inspect("c"),
            "/containers/json": lambda: engine.containers({"a": "b"}),
            "/containers/c/wait": lambda: engine.wait("c"),
            "/containers/c/resize": lambda: engine.resize("c", PtySize()),
            "/containers/d/json": lambda: engine.attach("d", Recorder()),
            "/containers/e/json": lambda: engine.logs("e"),
            "/containers/c/stats": lambda: engine.stats("c"),
            "/images/x:latest/json": lambda: engine.has_image("x"),
            "/images/create": lambda: engine.pull("x", None, lambda _: None),
            "/networks/create": lambda: engine.create_network("n", "10.0.0.0/28", {}),
            "/networks/n": lambda: engine.remove_network("n"),
            "/networks": lambda: engine.networks({}),
            "/events": lambda: engine.follow_events(0, lambda _: None, lambda: None),
        }
