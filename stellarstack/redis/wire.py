"""One connection to Redis: txredisapi's parser underneath, with batches, a pulse and a size limit on top.

A reply belongs to the oldest batch that waits. A connection from which nothing came for SILENCE seconds is dropped: it
is PINGed where nothing else is asked, so each call ends within that time, answered or broken (PROTOCOL 3).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import txredisapi
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from stellarstack.errors import RedisRefused, RedisUnavailable

# What Redis answers: bytes, int, None, lists of these, and ReplyError inside of batches.
Reply: TypeAlias = Any
Argument: TypeAlias = "bytes | str | int"

PING_EVERY = 4.0
SILENCE = 10.0
TICK = 1.0
# Redis itself cuts a subscriber at 32 MB; a batch of queue entries is asked for so that it fits.
REPLY_LIMIT = 32 * 2**20
_REFUSALS = ("NOAUTH", "WRONGPASS", "NOPERM")


class ReplyError(RedisUnavailable):
    """Redis answered with an error; `word` is its first word, as NOGROUP or BUSYGROUP."""

    def __init__(self, text: str) -> None:
        super().__init__(f"Redis answers: {text[:200]}")
        self.text = text
        self.word = text.partition(" ")[0]


class _Batch:
    __slots__ = ("answered", "left", "replies")

    def __init__(self, size: int) -> None:
        self.left = size
        self.replies: list[Reply] = []
        self.answered: Deferred[list[Reply]] = Deferred(self._let_go)

    def _let_go(self, _: Deferred[list[Reply]]) -> None:
        """Cancelled: the replies still come and are thrown away, so the order holds."""


class Wire(txredisapi.RedisProtocol):
    """One open connection. Calls go out at once and are answered in order.

    `on_message` gets the body of each pub/sub message. `reason` says why it broke, None before;
    `overfull`: over REPLY_LIMIT bytes came at once.
    """

    def __init__(self, clock: IReactorTime, *, on_message: Callable[[bytes], None] | None = None) -> None:
        super().__init__(charset=None, convertNumbers=False)
        self.lost = False
        self._mourners: list[Deferred[RedisUnavailable]] = []
        self._clock = clock
        self._on_message = on_message
        self._waiting: deque[_Batch] = deque()
        self._last_heard = self._last_said = clock.seconds()
        self.overfull = False
        self._unparsed = 0
        self._paused = False
        self.reason: RedisUnavailable | None = None
        self._ticking: Any = None

    # -------------------------------------------------------------- what the daemon asks

    @property
    def open(self) -> bool:
        return bool(self.connected) and self.reason is None

    async def call(self, *arguments: Argument) -> Reply:
        """One command. ReplyError: Redis says no; RedisRefused: not with these credentials; else RedisUnavailable."""
        (reply,) = await self.batch([arguments])
        return checked(reply)

    def batch(self, commands: Sequence[Sequence[Argument]]) -> Deferred[list[Reply]]:
        """Sends all in one write; answers the replies in order, errors among them as ReplyError or RedisRefused."""
        if not commands:
            return succeed([])
        pending = _Batch(len(commands))
        if not self.open:
            pending.answered.errback(self.reason or RedisUnavailable("not connected to Redis"))
            return pending.answered
        self._waiting.append(pending)
        self._last_said = self._clock.seconds()
        self.transport.write(b"".join(map(encode, commands)))
        return pending.answered

    def when_lost(self) -> Deferred[RedisUnavailable]:
        """Fires with the reason once the connection is gone. Each call has a Deferred of its own."""
        if self.lost and self.reason is not None:
            return succeed(self.reason)
        mourner: Deferred[RedisUnavailable] = Deferred(self._mourners.remove)
        self._mourners.append(mourner)
        return mourner

    def pause(self) -> None:
        """Stops reading: what comes waits in the kernel and then at Redis. The pulse rests meanwhile."""
        self._paused = True
        self.transport.pauseProducing()

    def resume(self) -> None:
        self._paused = False
        self._last_heard = self._clock.seconds()
        self.transport.resumeProducing()

    def drop(self, reason: str) -> None:
        """Cuts the connection at once; whatever waits fails with `reason`."""
        if self.reason is None:
            self.reason = RedisUnavailable(reason)
        if self.transport is not None:
            self.transport.abortConnection()

    # -------------------------------------------------------------- what Twisted and txredisapi call

    def connectionMade(self) -> None:
        super().connectionMade()
        self._last_heard = self._clock.seconds()
        self._ticking = self._clock.callLater(TICK, self._tick)

    def connectionLost(self, why: Failure) -> None:
        super().connectionLost(why)
        if self._ticking is not None and self._ticking.active():
            self._ticking.cancel()
        reason = self.reason = self.reason or RedisUnavailable(f"the connection to Redis broke: {_plain(why)}")
        waiting, self._waiting = self._waiting, deque()
        for pending in waiting:
            if not pending.answered.called:
                pending.answered.errback(reason)
        self.lost = True
        mourners, self._mourners = self._mourners, []
        for mourner in mourners:
            mourner.callback(reason)

    def dataReceived(self, received: bytes, unpause: bool = False) -> None:
        self._last_heard = self._clock.seconds()
        self._unparsed += len(received)
        try:
            super().dataReceived(received, unpause)
        except txredisapi.RedisError:
            self.drop("the other end does not speak Redis' protocol")
        if self._unparsed > REPLY_LIMIT:
            self.overfull = True
            self.drop(f"a message of over {REPLY_LIMIT // 2**20} MiB")

    def replyReceived(self, reply: Reply) -> None:
        self._unparsed = 0
        if self._on_message is not None and isinstance(reply, list) and reply and reply[0] == b"message":
            self._on_message(reply[2])
        elif self._waiting:
            self._answer(self._waiting[0], reply)
        elif isinstance(reply, Exception):
            # Redis says why it is about to hang up ("max number of clients reached")
            self.reason = self.reason or ReplyError(str(reply))

    # -------------------------------------------------------------- inside

    def _answer(self, pending: _Batch, reply: Reply) -> None:
        pending.replies.append(_ours(reply))
        pending.left -= 1
        if not pending.left:
            self._waiting.popleft()
            if not pending.answered.called:
                pending.answered.callback(pending.replies)

    def _tick(self) -> None:
        self._ticking = self._clock.callLater(TICK, self._tick)
        if self._paused:
            return
        now = self._clock.seconds()
        if now - self._last_heard > SILENCE:
            self.drop(f"Redis has been silent for {SILENCE:g} s")
        elif not self._waiting and now - max(self._last_heard, self._last_said) >= PING_EVERY:
            self.batch([(b"PING",)]).addErrback(lambda _: None)


def checked(reply: Reply) -> Reply:
    """The reply, or raises it where it is an error."""
    if isinstance(reply, RedisUnavailable):
        raise reply
    return reply


def _ours(reply: Reply) -> Reply:
    """Errors translated, also those inside an EXEC's array."""
    if isinstance(reply, txredisapi.ResponseError):
        return translated(reply)
    return [_ours(part) for part in reply] if isinstance(reply, list) else reply


def translated(error: Exception) -> RedisUnavailable:
    """Redis' own error as one of ours. txredisapi's two parsers differ in whether the word ERR is left on."""
    text = str(error).removeprefix("ERR ")
    if text.startswith(_REFUSALS):
        return RedisRefused(f"Redis refuses: {text[:200]}")
    return ReplyError(text)


def encode(command: Sequence[Argument]) -> bytes:
    """One command as Redis reads it: an array of byte strings."""
    parts = [b"*%d\r\n" % len(command)]
    for argument in command:
        raw = argument if isinstance(argument, bytes) else str(argument).encode()
        parts.append(b"$%d\r\n%b\r\n" % (len(raw), raw))
    return b"".join(parts)


def _plain(why: Failure) -> str:
    return (why.getErrorMessage() or type(why.value).__name__).splitlines()[0][:200]
