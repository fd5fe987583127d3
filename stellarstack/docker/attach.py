"""A container's terminal over a connection of its own: the 101 answer that Twisted's HTTP client would drop.

Reading is paced (DESIGN, fact 20): after a piece of 2 KB or more the transport rests for a millisecond, so that a
flood comes in few large pieces instead of many small ones; while a flood goes on the rests are as long as it takes for
a large one, 8 ms at most. A key's echo is small and is never delayed.
"""

# mypy: allow-untyped-calls
# Twisted leaves Failure untyped.

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from secrets import choice
from string import ascii_letters
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime, IReadDescriptor
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from stellarstack.docker.client import DockerClient, Request, unreachable
from stellarstack.docker.containers import Containers, path_to
from stellarstack.docker.fields import flag
from stellarstack.docker.keys import Keys
from stellarstack.docker.lines import Frames
from stellarstack.docker.stream import EngineStream, connect
from stellarstack.docker.upgrade import UpgradeAnswer
from stellarstack.errors import DockerUnavailable
from stellarstack.interfaces import Attachment, OutputSink
from stellarstack.tasks import within

READ_MAX = EngineStream.MORE  # bytes of a read while a flood goes on
READ_USUAL = 16 << 10  # else: memory for more costs a key's echo what the reading itself does
PACED_FROM = 2048
PACE, PACE_MOST = 0.001, 0.008
# A flood's rest is as long as it takes, by how much came in the last, until FILLED of what the engine's socket holds is
# there, and GROW times the last at most. Where it is full the engine waits, and after a while the game.
FILLED, GROW = 0.95, 1.15
OVER = 0.005  # seconds without a large piece, after which it is no flood any more; a screen is drawn less often
CLOSE_GRACE = 1.0

_PARAMS: Mapping[str, str | bytes] = {"stream": "1", "stdin": "1", "stdout": "1", "stderr": "1"}
_SECRET_KEYS = 24  # letters


def detach_keys() -> bytes:
    """What would end an attach when it is typed: by default Ctrl-P Ctrl-Q, so it is asked to be what nobody can guess.

    The engine holds back what may be their beginning until more is typed: a byte that is in no UTF-8 text.
    """
    letters = [choice(ascii_letters).encode() for _ in range(_SECRET_KEYS)]
    return b",".join([b"\xff", *letters])


@dataclass(frozen=True, slots=True)
class Joined:
    """What one attach is about. Without a terminal (`tty` false) the stream has frames, which are taken off."""

    container: str
    tty: bool
    request: bytes
    sink: OutputSink


class Attaching:
    """Makes attaches. Raises ContainerGone, DockerUnavailable, TimedOut."""

    def __init__(self, *, reactor: Any, clock: IReactorTime, socket: Path, client: DockerClient) -> None:
        self._reactor = reactor
        self._clock = clock
        self._socket = socket
        self._client = client
        self._containers = Containers(client=client, clock=clock)

    async def attach(self, container: str, sink: OutputSink) -> Attachment:
        """See `Engine.attach`."""
        raw = await self._containers.inspect_raw(container)
        params = {**_PARAMS, "detachKeys": detach_keys()}
        path = await self._client.path_of(Request("POST", path_to(container, "attach"), params=params))
        joined = Joined(container, flag(raw, "Config", "Tty"), _request(path), sink)
        protocol = AttachProtocol(clock=self._clock, joined=joined)
        await within(self._clock, self._client.timeout, f"Docker attach to {container}", self._join(protocol))
        return protocol

    async def _join(self, protocol: AttachProtocol) -> None:
        try:
            await connect(self._reactor, self._clock, self._socket, protocol)
        except OSError as error:
            self._client.forget_version()
            raise DockerUnavailable(f"Docker does not answer: {error.strerror}") from error
        await protocol.agreed


class AttachProtocol(Protocol):
    """One attach, and the `Attachment` itself: the request out, the answer's head in, then bytes both ways."""

    _log = Logger()
    _pipe: Any

    def __init__(self, *, clock: IReactorTime, joined: Joined) -> None:
        self._clock = clock
        self._joined = joined
        hears = joined.sink.output_received
        self._deliver: Callable[[bytes], None] = hears if joined.tty else Frames(hears).feed
        self._answer = UpgradeAnswer()
        self._open = False
        self._ended = False
        self._resting: IDelayedCall | None = None
        self._pace = PACE
        self._rested_at = float("-inf")
        self._prompt = False  # what is read now had waited through a rest
        self._closing: IDelayedCall | None = None
        self.agreed: Deferred[None] = Deferred(lambda _: self._abort())

    # ------------------------------------------------------------------ Attachment

    def write(self, data: bytes) -> None:
        """See `Attachment.write`. What the PTY does not take is kept up to 1 MiB; beyond that it is dropped."""
        if not data or self._ended or self._closing is not None:
            return
        if self._keys.write(data):
            self._log.warn("{container} does not read its input: keys are dropped", container=self._joined.container)

    def close(self) -> None:
        """See `Attachment.close`. Keystrokes already written have a second to leave."""
        if self._ended or self._closing is not None:
            return
        self._closing = self._clock.callLater(CLOSE_GRACE, self._abort)
        self._deliver = _unheard
        self._keys.finish()
        self._pipe.loseConnection()

    # ------------------------------------------------------------------ Twisted

    def connectionMade(self) -> None:
        self._pipe = self.transport
        self._pipe.bufferSize = READ_USUAL
        self._enough = FILLED * min(self._pipe.holds, READ_MAX)
        self._keys = Keys(self._pipe)
        self._reads_now = IReadDescriptor.providedBy(self._pipe)
        self._pipe.write(self._joined.request)

    def dataReceived(self, data: bytes) -> None:
        if not self._open:
            self._read_head(data)
            return
        if len(data) >= PACED_FROM:
            self._rest(len(data))
        self._deliver(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._ended = True
        for timer in (self._resting, self._closing):
            if timer is not None and timer.active():
                timer.cancel()
        if self._open:
            self._joined.sink.output_ended()
        elif not self.agreed.called:
            self.agreed.errback(Failure(unreachable(reason.value)))

    # ------------------------------------------------------------------ inside

    def _read_head(self, data: bytes) -> None:
        if self.agreed.called:
            return
        try:
            first = self._answer.feed(data)
        except DockerUnavailable:
            self._refuse(Failure())
            return
        if self._answer.refusal is not None:
            self._refuse(Failure(self._answer.refusal))
        elif first is not None:
            self._begin(first)

    def _begin(self, first: bytes) -> None:
        self._open = True
        self._keys.begin()
        self.agreed.callback(None)
        if first:
            self._deliver(first)

    def _refuse(self, failure: Failure) -> None:
        self.agreed.errback(failure)
        self._abort()

    def _rest(self, size: int) -> None:
        if self._resting is not None or self._closing is not None:
            return
        if not self._prompt and self._clock.seconds() - self._rested_at > OVER:
            self._pace = PACE
        else:
            change = min(GROW, self._enough / size)
            self._pace = max(PACE, min(change * self._pace, PACE_MOST))
        if not self._prompt:
            self._pipe.bufferSize = READ_MAX
            self._pipe.pauseProducing()
        self._resting = self._clock.callLater(self._pace, self._read_on)

    def _read_on(self) -> None:
        self._resting = None
        if self._reads_now:
            self._read_now()
            if self._resting is not None:
                return
        self._rested_at = self._clock.seconds()
        self._pipe.bufferSize = READ_USUAL
        self._pipe.resumeProducing()  # an end that was read is found by the reactor, too

    def _read_now(self) -> None:
        """A flood has its next piece there: no turn of the reactor to find that out."""
        self._prompt = True
        try:
            self._pipe.doRead()
        except BaseException:  # a bug; the reactor, had it read, would end the connection as well
            self._abort()
            raise
        finally:
            self._prompt = False

    def _abort(self) -> None:
        if self.transport is not None:
            self._pipe.abortConnection()


def _unheard(_: bytes) -> None:
    """What is still said after the close."""


def _request(path: str) -> bytes:
    head = (f"POST {path} HTTP/1.1", "Host: docker", "Connection: Upgrade", "Upgrade: tcp", "Content-Length: 0", "", "")
    return "\r\n".join(head).encode("ascii")
