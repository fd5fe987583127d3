"""Keeps one connection to Redis up: dials, prepares, serves, and dials again with growing, jittered delays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from stellarstack.errors import RedisRefused, RedisUnavailable, StellarError
from stellarstack.redis.dial import Dialer, OnMessage
from stellarstack.redis.wire import Wire
from stellarstack.tasks import sleep, within

FIRST_DELAY = 0.1
LAST_DELAY = 30.0
# Gentle on purpose: after an outage of 30 s the next attempt is less than 6 s away.
GROWTH = 1.15
REFUSED_DELAY = 30.0
PREPARE_TIMEOUT = 30.0
STEADY_AFTER = 5.0


class Line(Protocol):
    """What a connection is for."""

    name: str
    on_message: OnMessage | None

    async def prepare(self, wire: Wire) -> None:
        """Before the connection counts as up, as SUBSCRIBE. A StellarError raised here fails the attempt."""

    async def serve(self, wire: Wire) -> None:
        """Runs while it is up; cancelled when it breaks. A StellarError raised here drops it."""


def delay_before(attempt: int, jitter: float) -> float:
    """Seconds to wait after the `attempt`th failure in a row (from 1); `jitter` in [0, 1) takes away up to half."""
    # 200 attempts are far beyond the cap, and a float's power never overflows there
    return min(LAST_DELAY, FIRST_DELAY * GROWTH ** min(attempt - 1, 200)) * (1 - jitter / 2)


class Connection:
    """One connection and its line. `on_change(self)` is called whenever `up` or `error` may have changed."""

    _log = Logger()

    def __init__(
        self,
        *,
        clock: IReactorTime,
        dialer: Dialer,
        line: Line,
        jitter: Callable[[], float],
        on_change: Callable[[Connection], None],
    ) -> None:
        self._clock = clock
        self._dialer = dialer
        self._line = line
        self._jitter = jitter
        self._on_change = on_change
        self._pause: Deferred[None] | None = None
        self._stopped = False
        self._hurried = False
        self.up = False
        self.error: StellarError | None = None

    def hurry(self) -> None:
        """Redis is there again, as another connection has seen: no need to wait out the delay.

        Heard once until the connection has been steady: two that come up and break would else spur each other on.
        """
        if not self._hurried and not isinstance(self.error, RedisRefused):
            self._hurried = self._pause is not None
            self.retry()

    def retry(self) -> None:
        """Begins a new attempt at once where one is waited for."""
        if self._pause is not None:
            pause, self._pause = self._pause, None
            pause.cancel()

    def stop(self) -> None:
        """`run` starts nothing new from now on. Whoever runs it cancels it next."""
        self._stopped = True

    async def run(self) -> None:
        """Runs until it is stopped and cancelled."""
        try:
            await self._keep_up()
        finally:
            self.up = False

    async def _keep_up(self) -> None:
        failures = 0
        while not self._stopped:
            began = self._clock.seconds()
            error = await self._once()
            if self._stopped:
                return  # the stop's cancellation may have looked like a failure to connect
            steady = self.up and self._clock.seconds() - began >= STEADY_AFTER
            if steady:
                failures, self._hurried = 0, False
            failures += 1
            self._set(False, error)
            delay = REFUSED_DELAY if isinstance(error, RedisRefused) else delay_before(failures, self._jitter())
            self._tell(error, failures, delay)
            await self._rest(delay)

    async def _once(self) -> StellarError:
        """One connection from dialling to its end; answers why it ended."""
        wire: Wire | None = None
        try:
            wire = await self._dialer.dial(self._line.on_message)
            await within(self._clock, PREPARE_TIMEOUT, f"preparing the {self._line.name}", self._line.prepare(wire))
            self._set(True, None)
            self._log.info("connected to Redis as {line}", line=self._line.name)
            return await self._serve(wire)
        except StellarError as error:
            return error
        except CancelledError:
            raise
        except Exception:
            # a bug must not leave the node deaf for good
            self._log.failure("the {line} to Redis failed", line=self._line.name)
            return RedisUnavailable(f"the {self._line.name} failed; the log tells where")
        finally:
            if wire is not None:
                wire.drop("no longer needed")
                await wire.when_lost()

    async def _serve(self, wire: Wire) -> StellarError:
        """Lets the line work until the wire breaks or the line gives up."""
        serving = Deferred.fromCoroutine(self._line.serve(wire))
        wire.when_lost().addCallback(lambda _: serving.cancel())
        try:
            await serving
        except CancelledError:
            if not wire.lost:
                raise
        return wire.reason or RedisUnavailable(f"the {self._line.name} has ended")

    async def _rest(self, delay: float) -> None:
        pause = self._pause = sleep(self._clock, delay)
        try:
            await pause
        except CancelledError:
            if self._pause is pause:
                raise  # the stop, not `hurry`
        finally:
            self._pause = None

    def _set(self, up: bool, error: StellarError | None) -> None:
        self.up = up
        self.error = error
        self._on_change(self)

    def _tell(self, error: StellarError, failures: int, delay: float) -> None:
        say = self._log.warn if failures == 1 or delay >= 1 else self._log.debug
        say(
            "no {line} to Redis: {reason}; attempt {attempt} follows in {delay:.1f} s",
            line=self._line.name, reason=str(error), attempt=failures + 1, delay=delay,
        )  # fmt: skip
