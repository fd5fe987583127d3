"""Listens on the node's commands channel: what is published there goes to the intake in order (PROTOCOL 3)."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from stellarstack.core.messages import Origin, commands_channel
from stellarstack.redis.dial import OnMessage
from stellarstack.redis.letterbox import Letterbox
from stellarstack.redis.wire import Wire

# So many messages may wait for their answer before nothing more is read.
MOST_UNANSWERED = 10_000


class Subscriber:
    """The line that is subscribed. It counts as up once Redis has confirmed the subscription."""

    _log = Logger()
    name = "subscriber"
    on_message: OnMessage | None

    def __init__(self, *, node_id: str, letterbox: Letterbox) -> None:
        self._channel = commands_channel(node_id)
        self._letterbox = letterbox
        self._wire: Wire | None = None
        self._paused = False
        self.on_message = self._received

    async def prepare(self, wire: Wire) -> None:
        self._wire = wire
        self._paused = False
        await wire.call("SUBSCRIBE", self._channel)

    async def serve(self, wire: Wire) -> None:
        await Deferred()

    def _received(self, raw: bytes) -> None:
        answered = self._letterbox.put(raw, Origin.PUBSUB)
        if self._letterbox.unanswered >= MOST_UNANSWERED and not self._paused and self._wire is not None:
            self._paused = True
            self._wire.pause()
        if not answered.called:
            answered.addCallback(self._answered)

    def _answered(self, _: bool) -> None:
        if self._paused and self._letterbox.unanswered <= MOST_UNANSWERED // 2 and self._wire is not None:
            self._paused = False
            self._wire.resume()
