"""A Redis of the daemon's own: started with it, ended with it, found again after a kill -9 (PROTOCOL 2, `embedded`)."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from random import random
from typing import Any

from twisted.internet.endpoints import UNIXClientEndpoint
from twisted.logger import Logger

from stellarstack.core.redis_url import RedisUrl, unix_url
from stellarstack.errors import ConfigError, RedisRefused, RedisUnavailable, StellarError
from stellarstack.redis.connection import delay_before
from stellarstack.redis.dial import CONNECT_TIMEOUT, GREET_TIMEOUT, Login, greet, reach
from stellarstack.redis.valkey import ValkeyConfig, ValkeyProcess, alive, peer_pid, send_signal, works_in
from stellarstack.redis.wire import Wire
from stellarstack.tasks import Tasks, sleep, within

START_TIMEOUT = 30.0
STOP_TIMEOUT = 5.0
POLL = 0.05
STEADY_AFTER = 10.0
# What bind() takes in a UNIX address.
LONGEST_SOCKET = 107


class EmbeddedRedis:
    """Keeps one Valkey running until `stop`. `url` is what the link dials; it is there a moment after `start`.

    `running`: it answers; else `problem` says why not, in one line.

    `password` is asked of everybody where a `port` is open; with the socket alone its mode 0600 is the guard.
    """

    _log = Logger()

    def __init__(
        self, *, reactor: Any, socket: Path, directory: Path, port: int | None = None, password: str | None = None,
        jitter: Callable[[], float] = random,
    ) -> None:  # fmt: skip
        if len(os.fsencode(socket)) > LONGEST_SOCKET:
            raise ConfigError(f"[redis] embedded_socket: {socket} is longer than {LONGEST_SOCKET} bytes")
        self._reactor = reactor
        self._config = ValkeyConfig(socket.absolute(), directory.absolute(), port, password if port else None)
        self._login = Login(None, self._config.password)
        self._jitter = jitter
        self._tasks = Tasks()
        self._child: ValkeyProcess | None = None
        self._pid = 0
        self.running = False
        self.problem = ""

    @property
    def url(self) -> RedisUrl:
        """Where it listens, for RedisDialer. Node id and token log in there by the ordinary rules."""
        return unix_url(str(self._config.socket))

    def start(self) -> None:
        """Begins to find or start it; never waits."""
        self._tasks.spawn("the embedded Redis", self._run())

    async def settle(self, seconds: float) -> None:
        """Waits until it answers or is known not to, `seconds` at most."""
        until = self._reactor.seconds() + seconds
        while not self.running and not self.problem and self._reactor.seconds() < until:
            await sleep(self._reactor, POLL)

    async def stop(self) -> None:
        """Ends it with SIGTERM, after 5 s with SIGKILL."""
        await self._tasks.cancel_all()
        if self._pid:
            await self._end(self._pid)
        until = self._reactor.seconds() + STOP_TIMEOUT
        while self._child is not None and not self._child.story and self._reactor.seconds() < until:
            await sleep(self._reactor, POLL)  # it is gone; its last words are still read

    async def _run(self) -> None:
        failures = 0
        while True:
            began = self._reactor.seconds()
            try:
                reason = await self._once()
            except (StellarError, OSError) as error:
                reason = f"no embedded Redis: {error}"
            if self._child is not None and self._child.story:
                reason = self._child.story
            self.running = False
            self.problem = reason
            failures = 1 if self._reactor.seconds() - began > STEADY_AFTER else failures + 1
            delay = delay_before(failures, self._jitter())
            self._log.warn("{reason}; again in {delay:.1f} s", reason=reason, delay=delay)
            await sleep(self._reactor, delay)

    async def _once(self) -> str:
        """Finds or starts it and watches it over one connection; answers why that ended."""
        wire = await self._reach()
        try:
            await within(self._reactor, GREET_TIMEOUT, "comparing its settings", self._align(wire))
            self.running, self.problem = True, ""
            self._log.info("the embedded Redis runs as process {pid}", pid=self._pid)
            return str(await wire.when_lost())
        finally:
            wire.drop("no longer watched")

    async def _reach(self) -> Wire:
        """A connection to the one that runs, be it left over from a daemon that was killed, or to a new one."""
        wire = await self._connect()
        if wire is not None and await self._usable(wire):
            return wire
        if self._child is None or self._child.story:
            await self._launch()
        return await within(self._reactor, START_TIMEOUT, "starting the embedded Redis", self._started())

    async def _usable(self, wire: Wire) -> bool:
        """Whether what listens is ours and knows our password. One with an older password is ended."""
        pid = peer_pid(wire.transport.getHandle())
        if not works_in(pid, self._config.directory):
            wire.drop("not ours")
            raise RedisUnavailable(f"another process ({pid}) listens on {self._config.socket}")
        self._pid = pid
        try:
            await within(self._reactor, GREET_TIMEOUT, "the greeting", greet(wire, self.url, self._login))
        except RedisRefused:
            wire.drop("another password")
            await self._end(pid)
            return False
        except BaseException:
            wire.drop("no greeting")
            raise
        return True

    async def _launch(self) -> None:
        """Two on the same files would spoil them: one that lost its socket is ended first."""
        self._config.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        left = self._config.left_over()
        if left:
            await self._end(left)
        self._child = ValkeyProcess.launch(self._reactor, self._config)
        self._pid = self._child.pid

    async def _started(self) -> Wire:
        while self._child is not None and not self._child.story:
            wire = await self._connect()
            if wire is not None and await self._usable(wire):
                return wire
            await sleep(self._reactor, POLL)
        raise RedisUnavailable(self._child.story if self._child else "the embedded Redis was not started")

    async def _connect(self) -> Wire | None:
        endpoint = UNIXClientEndpoint(self._reactor, str(self._config.socket), timeout=CONNECT_TIMEOUT)
        try:
            return await reach(self._reactor, endpoint)
        except RedisUnavailable:
            return None

    async def _align(self, wire: Wire) -> None:
        """One that was left over may have been started with other settings."""
        for key, wanted in self._config.changeable():
            told = await wire.call("CONFIG", "GET", key)
            if told[1:2] != [wanted.encode()]:
                await wire.call("CONFIG", "SET", key, wanted)

    async def _end(self, pid: int) -> None:
        for number in (signal.SIGTERM, signal.SIGKILL):
            if works_in(pid, self._config.directory):
                send_signal(pid, number)
            if await self._gone(pid):
                return
        self._log.error("the embedded Redis, process {pid}, does not end", pid=pid)

    async def _gone(self, pid: int) -> bool:
        until = self._reactor.seconds() + STOP_TIMEOUT
        while alive(pid):
            if self._reactor.seconds() >= until:
                return False
            await sleep(self._reactor, POLL)
        return True
