"""The embedded Redis: a real Valkey started, ended, taken over and brought back."""

from __future__ import annotations

import os
import shutil
import signal
import stat
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from twisted.internet import reactor
from twisted.internet.protocol import Factory
from twisted.trial.unittest import TestCase

from stellarstack.errors import ConfigError, RedisRefused
from stellarstack.redis.dial import Login, RedisDialer
from stellarstack.redis.embedded import EmbeddedRedis
from stellarstack.redis.valkey import ValkeyConfig, ValkeyProcess, alive
from tests.integration.redis_waiting import until
from tests.ports import free_port
from tests.redis_fakes import NODE
from tests.redis_server import Ask, RedisServer

clock: Any = reactor
TOKEN = 'strk_node_"quoted" \\ token#1'


class EmbeddedRedisTests(TestCase):
    """PROTOCOL 2, `embedded`."""

    timeout = 60

    def setUp(self) -> None:
        self.folder = Path(mkdtemp(prefix="stellar-embedded-"))
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        self.socket = self.folder / "redis.sock"
        self.port = free_port()

    def make(self, *, port: bool = False, token: str = TOKEN) -> EmbeddedRedis:
        embedded = EmbeddedRedis(
            reactor=clock, socket=self.socket, directory=self.folder / "redis",
            port=self.port if port else None, password=token,
        )  # fmt: skip
        self.addCleanup(embedded.stop)
        return embedded

    async def started(self, **how: Any) -> EmbeddedRedis:
        embedded = self.make(**how)
        embedded.start()
        await until(lambda: embedded.running, "the start of the embedded Redis")
        return embedded

    def ask(self) -> Ask:
        return Ask(str(self.socket))

    def pid(self) -> int:
        return int((self.folder / "redis" / "valkey.pid").read_text())

    async def left_behind(self, **config: Any) -> int:
        """A Valkey as a daemon that was killed leaves it: running, nobody's child that anybody watches."""
        directory = self.folder / "redis"
        directory.mkdir(exist_ok=True)
        child = ValkeyProcess.launch(clock, ValkeyConfig(config.pop("socket", self.socket), directory, **config))
        self.addCleanup(until, lambda: child.story, "the end of the one left behind")
        await until(lambda: (directory / "valkey.pid").exists(), "its pid file")
        await until(lambda: child.story or any(self.folder.glob("*.sock")), "its socket")
        return child.pid

    async def test_start_and_stop(self) -> None:
        """It answers on a socket of mode 0600, has its own process group, and is gone after stop."""
        embedded = await self.started()
        assert self.ask()("PING") == b"PONG"
        assert stat.S_IMODE(self.socket.stat().st_mode) == 0o600
        pid = self.pid()
        assert os.getpgid(pid) == pid != os.getpgrp()
        await embedded.stop()
        assert not alive(pid)

    async def test_keeps_what_it_has(self) -> None:
        """What was written before a stop is there after the next start."""
        embedded = await self.started()
        self.ask()("XADD", "s", "1-0", "a", "b")
        await embedded.stop()
        await self.started()
        assert self.ask()("XLEN", "s") == 1

    async def test_token_guards_the_port_and_stays_out_of_ps(self) -> None:
        """With a port the token is asked for, on the socket too, and stands in no argument list."""
        embedded = await self.started(port=True)
        tcp = Ask(("127.0.0.1", self.port))
        with self.assertRaisesRegex(RuntimeError, "NOAUTH"):
            tcp("PING")
        wire = await RedisDialer(reactor=clock, url=embedded.url, login=Login(NODE, TOKEN)).dial()
        assert await wire.call("PING") == b"PONG"
        wire.drop("done")
        assert TOKEN.encode() not in Path(f"/proc/{self.pid()}/cmdline").read_bytes()
        assert tcp("AUTH", TOKEN) == b"OK"

    async def test_without_a_port_there_is_no_password(self) -> None:
        """The socket alone is guarded by its mode: redis-cli needs no token, and nothing listens on TCP."""
        await self.started()
        assert self.ask()("CONFIG", "GET", "port") == [b"port", b"0"]

    async def test_killed_one_is_brought_back(self) -> None:
        """When it dies by itself it is started again."""
        embedded = await self.started()
        first = self.pid()
        os.kill(first, signal.SIGKILL)
        await until(lambda: not embedded.running, "noticing")
        await until(lambda: embedded.running, "the restart")
        assert self.pid() != first
        assert self.ask()("PING") == b"PONG"

    async def test_takeover(self) -> None:
        """One left behind by a kill -9 is taken over as it runs, gets today's settings, and ends at stop."""
        pid = await self.left_behind()
        self.ask()("SET", "k", "v")
        embedded = await self.started(port=True)
        assert self.pid() == pid
        assert Ask(("127.0.0.1", self.port), [TOKEN])("GET", "k") == b"v"
        await embedded.stop()
        assert not alive(pid)

    async def test_one_with_an_older_token_is_replaced(self) -> None:
        """One left behind whose token is no longer known is ended, and its data go on in a new one."""
        pid = await self.left_behind(port=free_port(), password="strk_node_old")
        Ask(str(self.socket), ["strk_node_old"])("SET", "k", "v")
        await self.started(port=True)
        assert not alive(pid)
        assert Ask(str(self.socket), [TOKEN])("GET", "k") == b"v"

    async def test_one_without_its_socket_is_ended_first(self) -> None:
        """One that works on the same files behind another socket is ended before a new one begins."""
        pid = await self.left_behind(socket=self.folder / "other.sock")
        await self.started()
        assert not alive(pid)

    async def test_someone_elses_redis_is_left_alone(self) -> None:
        """A socket on which another Redis listens is neither used nor its process ended."""
        other = RedisServer(f"unixsocket {self.socket}").start()
        self.addCleanup(other.stop)
        embedded = self.make()
        embedded.start()
        try:
            await until(lambda: embedded.running, "nothing", 1)
        except Exception as error:
            assert "did not end" in str(error)
        assert not embedded.running
        await embedded.stop()
        assert other.ask()("PING") == b"PONG"

    async def test_one_that_does_not_end_is_killed(self) -> None:
        """One that does not follow SIGTERM within 5 s is ended by SIGKILL."""
        embedded = await self.started()
        pid = self.pid()
        os.kill(pid, signal.SIGSTOP)
        await embedded.stop()
        assert not alive(pid)

    async def test_folder_that_cannot_be_made(self) -> None:
        """A folder that cannot be made is told in the log and tried again, until it can."""
        (self.folder / "redis").write_text("in the way")
        embedded = self.make()
        embedded.start()
        began = clock.seconds()
        await until(lambda: clock.seconds() > began + 0.5, "some attempts")
        assert not embedded.running
        (self.folder / "redis").unlink()
        await until(lambda: embedded.running, "the start")

    async def test_port_in_use(self) -> None:
        """A port that somebody holds is told in Valkey's own words, and it starts once the port is free."""
        port = clock.listenTCP(self.port, Factory(), interface="127.0.0.1")
        embedded = self.make(port=True)
        embedded.start()
        await until(lambda: embedded.problem, "the story")
        assert "has ended" in embedded.problem
        assert not embedded.running
        await port.stopListening()
        await until(lambda: embedded.running, "the start")
        assert embedded.problem == ""

    async def test_stop_before_it_answers(self) -> None:
        """A stop at any moment of the start leaves no process behind."""
        for moment in (0, 0.005, 0.02, 0.04, 0.08):
            embedded = self.make()
            embedded.start()
            began = clock.seconds()
            await until(lambda since=began + moment: clock.seconds() >= since, "the moment")  # type: ignore[misc]
            await embedded.stop()
            assert not alive(embedded._pid)
            assert ValkeyConfig(self.socket, self.folder / "redis").left_over() == 0

    async def test_wrong_token_is_refused(self) -> None:
        """Who speaks to it with another token is refused, never let in."""
        embedded = await self.started(port=True)
        dialer = RedisDialer(reactor=clock, url=embedded.url, login=Login(NODE, "strk_node_wrong"))
        with self.assertRaises(RedisRefused):
            await dialer.dial()

    def test_long_socket_path(self) -> None:
        """A socket path that the kernel cannot take is a config error."""
        with self.assertRaisesRegex(ConfigError, "embedded_socket"):
            EmbeddedRedis(reactor=clock, socket=Path("/" + "x" * 120), directory=self.folder)
