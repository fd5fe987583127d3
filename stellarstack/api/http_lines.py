"""An HTTP answer that goes on: JSON lines, one an event, to a reader who may be slow but may not cost memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IDelayedCall, IPushProducer, IReactorTime
from zope.interface import implementer

LINES_TYPE = "application/x-ndjson"
MAX_WAITING = 4 * 1024 * 1024  # bytes that may wait for one reader
FLUSH_WITHIN = 30.0  # seconds


@implementer(IPushProducer)
class LineStream:
    """The lines of one answer. `ended` is called once, however it ends.

    What waits for a slow reader is bounded: beyond it `offer` answers False, and `must` ends the stream with a line
    that says so. A reader who then takes nothing for `FLUSH_WITHIN` is dropped.
    """

    def __init__(
        self, request: Any, clock: IReactorTime, ended: Callable[[], None], most: int = MAX_WAITING
    ) -> None:  # fmt: skip
        self._request = request
        self._clock = clock
        self._ended: Callable[[], None] | None = ended
        self._most = most
        self._waiting: deque[bytes] = deque()
        self._bytes = 0
        self._paused = False
        self._last = False
        self._deadline: IDelayedCall | None = None

    def open(self) -> None:
        """Sends the head of the answer. From now on the connection may end."""
        self._request.setResponseCode(200)
        self._request.setHeader(b"content-type", LINES_TYPE.encode())
        self._request.notifyFinish().addBoth(lambda _: self._done())
        self._request.registerProducer(self, True)
        self._request.write(b"")

    @property
    def closed(self) -> bool:
        return self._ended is None or self._last

    def offer(self, line: bytes) -> bool:
        """Sends a line, unless too much waits already: then it is left out."""
        if self.closed or self._bytes + len(line) > self._most:
            return False
        self._put(line)
        return True

    def must(self, line: bytes, too_slow: bytes) -> None:
        """Sends a line; where too much waits already, `too_slow` takes the place of all that waits, as the last."""
        if not self.offer(line) and not self.closed:
            self._waiting.clear()
            self._bytes = 0
            self.finish(too_slow)

    def finish(self, line: bytes | None = None) -> None:
        """Sends a last line, if one is given, and ends once the reader has taken what waits."""
        if self.closed:
            return
        if line is not None:
            self._put(line)
        self._last = True
        self._deadline = self._clock.callLater(FLUSH_WITHIN, self._drop)
        self._flush()

    def pauseProducing(self) -> None:
        self._paused = True

    def resumeProducing(self) -> None:
        self._paused = False
        self._flush()

    def stopProducing(self) -> None:
        """The reader is gone; notifyFinish tells."""

    def _put(self, line: bytes) -> None:
        self._waiting.append(line + b"\n")
        self._bytes += len(line) + 1
        self._flush()

    def _flush(self) -> None:
        while self._waiting and not self._paused:
            piece = self._waiting.popleft()
            self._bytes -= len(piece)
            self._request.write(piece)
        if self._last and not self._waiting and self._ended is not None:
            self._done()
            self._request.unregisterProducer()
            self._request.finish()

    def _drop(self) -> None:
        self._deadline = None
        if self._request.channel is not None:
            self._request.channel.abort()

    def _done(self) -> None:
        deadline, self._deadline = self._deadline, None
        if deadline is not None:
            deadline.cancel()
        ended, self._ended = self._ended, None
        if ended is not None:
            ended()
