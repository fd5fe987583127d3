"""Sentinel on loopback: finding the primary, and going on after a failover (K10)."""

from __future__ import annotations

from stellarstack.core.messages import commands_queue, events_log
from stellarstack.redis.dial import Login
from tests.integration.redis_waiting import until
from tests.integration.test_redis_link import LinkCase
from tests.ports import free_port
from tests.redis_fakes import NODE
from tests.redis_server import RedisServer, missing

PASSWORD = "sentinel pass"


class SentinelTests(LinkCase):
    """One primary, one replica, three sentinels with a password."""

    skip = missing() or missing("redis-sentinel")
    config = ("repl-diskless-sync-delay 0", "repl-ping-replica-period 1")

    def setUp(self) -> None:
        super().setUp()
        self.replica = RedisServer(*self.config, f"replicaof 127.0.0.1 {self.redis.port}").start()
        self.addCleanup(self.replica.stop)
        self.sentinels = [self._sentinel() for _ in range(3)]

    def _sentinel(self) -> RedisServer:
        sentinel = RedisServer(
            f"sentinel monitor games 127.0.0.1 {self.redis.port} 2",
            "sentinel down-after-milliseconds games 1000",
            "sentinel failover-timeout games 5000",
            f'requirepass "{PASSWORD}"',
            f'sentinel sentinel-pass "{PASSWORD}"',
            program="redis-sentinel",
        ).start()
        self.addCleanup(sentinel.stop)
        return sentinel

    def _knows_all(self, sentinel: RedisServer) -> bool:
        ask = sentinel.ask(PASSWORD)
        try:
            state = ask("SENTINEL", "MASTER", "games")
            facts = dict(zip(state[::2], state[1::2], strict=True))
            return bool(facts[b"num-slaves"] == b"1" and facts[b"num-other-sentinels"] == b"2")
        finally:
            ask.close()

    @property
    def url(self) -> str:
        hosts = ",".join(f"127.0.0.1:{port}" for port in (free_port(), *(one.port for one in self.sentinels)))
        return f"redis+sentinel://{hosts}/games?sentinel_password=sentinel%20pass"

    async def test_k10_failover(self) -> None:
        """K10: after the primary's death events go on at the new one, each once and in order, and its queue is read."""
        await until(lambda: all(map(self._knows_all, self.sentinels)), "the sentinels' finding one another", 40)
        link = await self.connected(self.url, sentinel=True)
        self.store.add(300)
        self.publisher.wake()
        assert await self.publisher.drained(10)
        self.redis.kill()
        self.store.add(300)
        self.publisher.wake()
        await until(lambda: not link.connected, "noticing")
        await until(lambda: link.connected, "the failover", 30)
        self.store.add(100)
        self.publisher.wake()
        assert await self.publisher.drained(15)
        entries = self.replica.ask()("XRANGE", events_log(NODE), "-", "+")
        assert [entry[0] for entry in entries] == [b"%d-0" % seq for seq in range(1, 701)]
        self.replica.ask()("XADD", commands_queue(NODE), "*", "command", "x")
        await until(lambda: self.intake.bodies == [b"x"], "the command")

    async def test_unknown_service(self) -> None:
        """A name that no sentinel watches is told as such, with each sentinel's story."""
        link = self.make(self.url.replace("/games", "/other"))
        link.start()
        await until(lambda: link.error, "the report")
        assert "no sentinel names a primary for 'other'" in str(link.error)
        assert "knows no such primary" in str(link.error)

    async def test_wrong_sentinel_password(self) -> None:
        """A refused sentinel password is told, and never shown."""
        link = self.make(self.url.replace("sentinel%20pass", "wrongpw"))
        link.start()
        await until(lambda: link.error, "the report")
        assert "WRONGPASS" in str(link.error)
        assert "wrongpw" not in str(link.error)

    async def test_replica_is_not_used(self) -> None:
        """A plain URL that leads to a replica is told so, instead of events being lost there."""
        link = self.make(self.replica.url, login=Login(NODE, None))
        link.start()
        await until(lambda: link.error, "the report")
        assert "replica" in str(link.error)
