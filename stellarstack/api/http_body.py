"""An HTTP answer whose body is made while it is read: a slow reader costs one piece of memory, and time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer, IReactorTime
from zope.interface import implementer

from stellarstack.api.http_answers import Answer, write_head
from stellarstack.tasks import Tasks, within

STALL_MOST = 60.0  # seconds in which a reader must take something


@implementer(IPushProducer)
class BodyStream:
    """One answer. `more` answers the next piece of the body, empty at its end."""

    def __init__(
        self, request: Any, more: Callable[[], Awaitable[bytes]], *, clock: IReactorTime, ended: Callable[[], None]
    ) -> None:  # fmt: skip
        self._request = request
        self._more = more
        self._clock = clock
        self._ended: Callable[[], None] | None = ended
        self._room: Deferred[None] | None = None
        self._running: Deferred[None] | None = None
        self._paused = False
        self._whole = False

    def start(self, tasks: Tasks, head: Answer) -> None:
        """Sends the head (of `head`; it has no body) and then the body; `ended` is called once, however that ends."""
        write_head(self._request, head)
        if self._request.method == b"HEAD":
            self._done()
            self._request.finish()
            return
        running = self._running = tasks.spawn("a download", self._run())
        self._request.notifyFinish().addErrback(lambda _: running.cancel())
        running.addBoth(lambda _: self._over())

    def break_off(self) -> None:
        """Nothing more of it is sent, and it does not look whole."""
        if self._running is not None:
            self._running.cancel()

    async def _run(self) -> None:
        self._request.registerProducer(self, True)
        while piece := await self._more():
            self._request.write(piece)
            if self._paused:
                await self._taken()
        self._whole = True

    async def _taken(self) -> None:
        self._room = Deferred()
        await within(self._clock, STALL_MOST, "a reader", self._room)

    def pauseProducing(self) -> None:
        self._paused = True

    def resumeProducing(self) -> None:
        self._paused = False
        room, self._room = self._room, None
        if room is not None:
            room.callback(None)

    def stopProducing(self) -> None:
        """The reader is gone; notifyFinish tells."""

    def _over(self) -> None:
        if self._whole and self._request.channel is not None:
            self._request.unregisterProducer()
            self._request.finish()
        elif self._request.channel is not None:
            self._request.channel.abort()  # an answer that breaks off must not look whole
        self._done()

    def _done(self) -> None:
        ended, self._ended = self._ended, None
        if ended is not None:
            ended()
