"""The door at `/console`: upgrades, and the connections there are (PROTOCOL 8)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from autobahn.twisted.resource import WebSocketResource
from twisted.internet.defer import CancelledError
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.protocols.policies import ProtocolWrapper
from twisted.web.iweb import IRequest
from twisted.web.resource import IResource, Resource
from twisted.web.server import NOT_DONE_YET

from stellarstack.api.websocket_door import Door
from stellarstack.api.websocket_lobby import LEAVING, Lobby
from stellarstack.api.websocket_request import Refused, UpgradeRequest, read_upgrade, refusal, write_refusal
from stellarstack.api.websocket_session import SocketSession
from stellarstack.api.websocket_wire import ConsoleWire, wire_factory
from stellarstack.config import ConsoleConfig
from stellarstack.core.console_session import Bucket, CloseCode
from stellarstack.core.identifiers import SERVER_ID_BYTES
from stellarstack.interfaces import EventBus, Intake, ServerDirectory, TokenVerifier
from stellarstack.tasks import Tasks, sleep
from stellarstack.viewing import ConsoleFeeds, Seats, TypedLines

_STOP_STEP, _STOP_STEPS = 0.05, 20  # an ordered stop waits a second for the viewers' answers
_FRAMES_A_MESSAGE = 16  # frames of any kind for each message that may come in a second
_FRAMES_AT_ONCE = 2048.0
_FORWARDED = ("host", "upgrade", "connection", "sec-websocket-key", "sec-websocket-version", "sec-websocket-protocol")


class ConsoleEndpoint:
    """See PROTOCOL 8. `start` once the consoles are open; `stop` before they are.

    `allowed_origins` are those beside the daemon's own (`[server] allowed_origins`).
    """

    _log = Logger()

    def __init__(
        self, *, consoles: ConsoleFeeds, directory: ServerDirectory, tokens: TokenVerifier, config: ConsoleConfig,
        seats: Seats, node_id: str, bus: EventBus, intake: Intake, typed_lines: TypedLines, clock: IReactorTime,
        now: Callable[[], float], tasks: Tasks, allowed_origins: Sequence[str] = (),
    ) -> None:  # fmt: skip
        self._config = config
        self._clock = clock
        self._tasks = tasks
        self._origins = tuple(allowed_origins)
        self._sessions: set[SocketSession] = set()
        self._lobby = Lobby(config.waiting)
        self._door = Door(
            consoles=consoles, directory=directory, tokens=tokens, config=config, node_id=node_id, bus=bus,
            intake=intake, typed_lines=typed_lines, clock=clock, now=now, tasks=tasks, seats=seats, lobby=self._lobby,
            gone=self._sessions.discard,
        )  # fmt: skip
        self._factory = wire_factory(connections=config.connections + config.waiting + 4 * LEAVING, reactor=clock)
        self._stopping = False
        self._ticks = LoopingCall(self._tick)
        self._ticks.clock = clock

    def resource(self) -> IResource:
        """What stands at `/console` of the Site."""
        resource: IResource = _ConsoleResource(self)
        return resource

    def start(self) -> None:
        """Begins to look after the sessions: pings, stalled connections."""
        every = min(5.0, self._config.ping_interval / 2, self._config.stall_deadline / 4)
        self._ticks.start(max(0.05, every), now=False)

    async def stop(self) -> None:
        """No more upgrades; closes every session with 1001 and waits a second, then drops the rest."""
        self._stopping = True
        if self._ticks.running:
            self._ticks.stop()
        for session in list(self._sessions):
            session.close(CloseCode.STOPPING, "the daemon stops")
        for _ in range(_STOP_STEPS):
            if not self._sessions:
                return
            await sleep(self._clock, _STOP_STEP)
        for session in list(self._sessions):
            session.drop()

    def __len__(self) -> int:
        """How many connections there are, with or without a token."""
        return len(self._sessions)

    def _tick(self) -> None:
        for session in list(self._sessions):
            try:
                session.tick()
            except Exception:
                self._log.failure("looking after a session failed")

    # ---------------------------------------------------------------- the upgrade

    def upgrade(self, request: IRequest, path_server: str | None) -> bytes | int:
        """Answers a request at the door: a refusal's body, or NOT_DONE_YET."""
        try:
            wanted = read_upgrade(request, path_server, self._origins)
            session = self._new_session(wanted, request)
        except Refused as refused:
            return write_refusal(request, refused)
        if wanted.token is None:
            self._take_over(request, session, wanted)
        else:
            self._tasks.spawn("judging an upgrade", self._judge(request, session, wanted, wanted.token))
        return NOT_DONE_YET

    def _new_session(self, wanted: UpgradeRequest, request: IRequest) -> SocketSession:
        if self._stopping:
            raise refusal(CloseCode.STOPPING, "the daemon stops")
        peer = getattr(request.getClientAddress(), "host", "")
        peer = peer if isinstance(peer, str) else ""
        session = SocketSession(self._door, wanted, peer)
        self._sessions.add(session)
        if wanted.token is None:
            self._lobby.enter(session, peer)
        return session

    async def _judge(self, request: Any, session: SocketSession, wanted: UpgradeRequest, token: str) -> None:
        gone: list[object] = []
        request.notifyFinish().addErrback(gone.append)
        refused: Refused | None = None
        try:
            await session.admission.judge_header(token)
            if self._stopping:
                refused = refusal(CloseCode.STOPPING, "the daemon stops")
        except Refused as reason:
            refused = reason
        except CancelledError:  # the daemon stops
            session.upgrade_failed()
            raise
        except Exception:
            self._log.failure("an upgrade could not be judged")
            refused = Refused(500, "internal", "the token could not be judged")
        if refused is None and not gone:
            self._take_over(request, session, wanted)
            return
        session.upgrade_failed()
        if refused is not None and not gone:
            body = write_refusal(request, refused)
            request.setHeader(b"content-length", b"%d" % len(body))
            request.write(body)
            request.finish()

    def _take_over(self, request: Any, session: SocketSession, wanted: UpgradeRequest) -> None:
        """Gives the request's connection to Autobahn, as its WebSocketResource does, but for our wire."""
        transport, ahead = request.channel.hand_over()
        if transport is None:
            session.upgrade_failed()
            return
        wire = ConsoleWire(session, wanted.protocol, self._frames_of_one())
        wire.factory = self._factory
        transport.unregisterProducer()  # the HTTP channel
        if isinstance(transport, ProtocolWrapper):
            transport.wrappedProtocol = wire
        elif isinstance(transport.protocol, ProtocolWrapper):
            transport.protocol.wrappedProtocol = wire
        else:
            transport.protocol = wire
        wire.makeConnection(transport)
        transport.resumeProducing()
        wire.dataReceived(_handshake_of(request))
        if ahead:
            wire.dataReceived(ahead)

    def _frames_of_one(self) -> Callable[[], bool]:
        """Counts the frames of one connection: as many as a message in the smallest sensible fragments has."""
        rate = float(_FRAMES_A_MESSAGE * self._config.input_messages_per_second)
        bucket = Bucket(rate, self._clock.seconds(), max(rate, _FRAMES_AT_ONCE))
        return lambda: bucket.take(1, self._clock.seconds())


def _handshake_of(request: Any) -> bytes:
    """The upgrade again, with what Autobahn must know: no token, no Origin (judged here), no extensions."""
    lines = [b"GET " + request.path + b" HTTP/1.1"]
    for name in _FORWARDED:
        values = request.requestHeaders.getRawHeaders(name.encode())
        if values:
            lines.append(name.encode() + b": " + b",".join(values))
    return b"\r\n".join(lines) + b"\r\n\r\n"


class _Upgrade(WebSocketResource):
    """Judges an upgrade, with JSON answers, before Autobahn sees it (DESIGN fact 6)."""

    def __init__(self, endpoint: ConsoleEndpoint, path_server: str | None) -> None:
        super().__init__(None)
        self._endpoint = endpoint
        self._path_server = path_server

    def render(self, request: IRequest) -> bytes | int:
        return self._endpoint.upgrade(request, self._path_server)


class _ConsoleResource(Resource):
    """`/console` and `/console/{serverId}`."""

    def __init__(self, endpoint: ConsoleEndpoint) -> None:
        Resource.__init__(self)
        self._endpoint = endpoint

    def render(self, request: IRequest) -> bytes | int:
        return self._endpoint.upgrade(request, None)

    def getChild(self, path: bytes, request: IRequest) -> IResource:
        if request.postpath or not (not path or SERVER_ID_BYTES.fullmatch(path)):
            return _NotHere()  # type: ignore[no-untyped-call]
        found: IResource = _Upgrade(self._endpoint, path.decode() or None)
        return found


class _NotHere(Resource):
    """What no server id can name."""

    isLeaf = True

    def render(self, request: IRequest) -> bytes:
        return write_refusal(request, Refused(404, "server_not_found", "no such server on this node"))
