"""From Redis and Docker to the node's state: the time to connect, refusals, new attempts."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from stellarstack.config import HeartbeatConfig
from stellarstack.connectivity import Connectivity
from stellarstack.core.node_lifecycle import NodeLifecycle, NodeState
from stellarstack.errors import DockerUnavailable, EngineTooOld, RedisRefused, RedisUnavailable


class ConnectivityTests(SynchronousTestCase):
    """A node whose links the test moves. A greeting gets out where Redis is connected."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.moves: list[tuple[float, str, str]] = []
        self.retries: list[tuple[float, str]] = []
        self.buggy = False
        self._build(draining=False)
        self.addCleanup(lambda: self.assertEqual(self.clock.getDelayedCalls(), []))
        self.addCleanup(lambda: self.links.stop())

    def _build(self, draining: bool) -> None:
        self.node = NodeLifecycle(draining=draining)
        self.node.listen(
            lambda _previous, state, reason: self.moves.append((self.clock.seconds(), state.value, reason))
        )
        self.links = Connectivity(
            lifecycle=self.node,
            greet=self._greet,
            retry_redis=self._retry_redis,
            retry_docker=lambda: self.retries.append((self.clock.seconds(), "docker")),
            config=HeartbeatConfig(),
            clock=self.clock,
        )

    def _retry_redis(self) -> None:
        self.retries.append((self.clock.seconds(), "redis"))
        if self.buggy:
            raise ZeroDivisionError

    def _greet(self) -> None:
        if self.links.redis_connected:
            self.node.heartbeat_out()

    def test_comes_up(self) -> None:
        """With both connected and the first heartbeat out the node is ONLINE, and no timer is left."""
        self.links.start()
        self.links.redis_changed(True)
        self.assertIs(self.node.state, NodeState.STARTING)
        self.links.docker_changed(True)
        self.assertIs(self.node.state, NodeState.ONLINE)
        self.assertTrue(self.links.redis_connected and self.links.docker_connected)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_reported_before_start(self) -> None:
        """What was connected before the node is registered counts once it is."""
        self.links.redis_changed(True)
        self.links.docker_changed(True)
        self.assertIs(self.node.state, NodeState.OFFLINE)
        self.links.start()
        self.assertEqual([state for _, state, _ in self.moves], ["STARTING", "ONLINE"])

    def test_not_in_time(self) -> None:
        """Without Docker the node is UNHEALTHY after 60 s, asks every 30 s, and is ONLINE when it is there (K01)."""
        self.links.start()
        self.links.redis_changed(True)
        self.clock.pump([1.0] * 95)
        self.assertEqual(self.moves[1:], [(60.0, "UNHEALTHY", "not connected within 60 s")])
        self.assertEqual(self.retries, [(30.0, "docker"), (60.0, "docker"), (90.0, "docker")])
        self.links.docker_changed(True)
        self.assertIs(self.node.state, NodeState.ONLINE)

    def test_no_redis_at_boot(self) -> None:
        """Without Redis the process stays and tries again (K08)."""
        self.links.start()
        self.links.docker_changed(True)
        self.links.redis_changed(False, RedisUnavailable("connection refused"))
        self.clock.pump([1.0] * 601)
        self.assertIs(self.node.state, NodeState.UNHEALTHY)
        self.assertEqual(len(self.retries), 20)

    def test_refused(self) -> None:
        """Refused credentials are ERROR at once, with the reason; it tries again every 30 s until they are mended."""
        self.links.start()
        self.links.docker_changed(True)
        self.clock.advance(1)
        for _ in range(3):
            self.links.redis_changed(False, RedisRefused("WRONGPASS"))
        self.assertEqual(self.moves[1:], [(1.0, "ERROR", "Redis: WRONGPASS")])
        self.clock.pump([1.0] * 99)
        self.assertEqual([at for at, _ in self.retries], [30.0, 60.0, 90.0])
        self.links.redis_changed(True)
        self.assertIs(self.node.state, NodeState.ONLINE)

    def test_docker_too_old(self) -> None:
        """A Docker whose API is too old is ERROR, also while Redis is connected."""
        self.links.start()
        self.links.redis_changed(True)
        self.links.docker_changed(False, EngineTooOld("API 1.24, 1.41 is needed"))
        self.assertEqual(self.moves[-1][1:], ("ERROR", "Docker: API 1.24, 1.41 is needed"))

    def test_docker_away_while_online(self) -> None:
        """A Docker that goes away leaves the node ONLINE: its heartbeats say degraded (K01)."""
        self.test_comes_up()
        self.links.docker_changed(False, DockerUnavailable("gone"))
        self.clock.pump([1.0] * 300)
        self.assertIs(self.node.state, NodeState.ONLINE)
        self.assertFalse(self.links.docker_connected)
        self.assertEqual(len(self.retries), 10)

    def test_failing_retry(self) -> None:
        """An attempt that fails with a bug is logged and does not end the attempts."""
        self.links.start()
        self.links.docker_changed(True)
        self.buggy = True
        self.clock.pump([30.0] * 3)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 3)

    def test_stop(self) -> None:
        """After the stop nothing reaches the lifecycle and no timer runs."""
        self.links.start()
        self.links.stop()
        self.links.redis_changed(True)
        self.links.docker_changed(True)
        self.clock.advance(600)
        self.assertIs(self.node.state, NodeState.STARTING)

    def test_draining(self) -> None:
        """A node that drains on after a restart has no time to connect, and stays DRAINING when it is connected."""
        self._build(draining=True)
        self.links.start()
        self.clock.pump([1.0] * 61)
        self.links.redis_changed(True)
        self.links.docker_changed(True)
        self.assertEqual([state for _, state, _ in self.moves], ["DRAINING"])
