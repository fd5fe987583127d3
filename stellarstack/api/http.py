"""The HTTP server: a site of bounded connections, and the port it listens on, plain or with TLS."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IAddress, IListeningPort, IOpenSSLServerConnectionCreator, IReactorTime
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.web.http import Request
from twisted.web.resource import IResource
from twisted.web.server import Site

from stellarstack.api.http_channel import HttpLimits, LimitedChannel, LimitedRequest, WaitingRoom
from stellarstack.errors import ConfigError
from stellarstack.sockets import Pacing, try_port

BACKLOG = 1024


def _nothing(_transport: Any) -> None:
    """On a site that is at no port."""


class DaemonSite(Site):
    """A Site without access log (addresses may hold secrets), sessions, forms, HTTP/2 or a Server header."""

    noisy = False  # its start and stop are no news

    def __init__(self, root: IResource, *, reactor: IReactorTime, limits: HttpLimits | None = None) -> None:
        self.limits = limits if limits is not None else HttpLimits()
        super().__init__(  # type: ignore[no-untyped-call]
            root, LimitedRequest, parsePOSTFormSubmission=False, reactor=reactor, timeout=self.limits.idle_deadline
        )
        self.room = WaitingRoom(self.limits.waiting)
        self.accepted: Callable[[Any], None] = _nothing  # is shown each new connection's transport

    def protocol(self) -> LimitedChannel:
        return LimitedChannel(self.limits, self.room, self.accepted)

    def buildProtocol(self, addr: IAddress | None) -> Any:
        return super().buildProtocol(addr)  # type: ignore[no-untyped-call]

    def startFactory(self) -> None:
        """Twisted's would open the access log and tick once a second for it."""

    def stopFactory(self) -> None:
        """Nothing was started."""

    def log(self, request: Request) -> None:
        """No access log."""

    def acceptableProtocols(self) -> list[bytes]:
        return [b"http/1.1"]


class HttpListener:
    """The port of `[server]`. `tls` makes each connection one of TLS."""

    def __init__(
        self, *, site: DaemonSite, reactor: Any, host: str, port: int,
        tls: IOpenSSLServerConnectionCreator | None = None,
    ) -> None:  # fmt: skip
        self._site = site
        self._reactor = reactor
        self._host = host
        self._port = port
        self._tls = tls
        self._listening: IListeningPort | None = None

    def probe(self) -> None:
        """ConfigError: the port cannot be bound now. Leaves it free: whoever takes it after this is met by `start`."""
        try:
            try_port(self._host, self._port)
        except OSError as error:
            raise self._unusable(error) from None

    async def start(self) -> int:
        """Answers the port that is bound. ConfigError: it cannot be."""
        factory: Any = self._site
        if self._tls is not None:
            factory = TLSMemoryBIOFactory(self._tls, False, self._site, self._reactor)
        try:
            listening = self._reactor.listenTCP(self._port, factory, backlog=BACKLOG, interface=self._host)
        except CannotListenError as error:
            raise self._unusable(error.socketError) from error
        self._listening = listening
        self._site.accepted = Pacing(listening).accepted
        bound: int = listening.getHost().port
        return bound

    async def stop(self) -> None:
        """No more connections, and none of those that wait; requests under way are left to their rooms."""
        listening, self._listening = self._listening, None
        if listening is not None:
            await maybeDeferred(listening.stopListening)
        self._site.room.clear()

    def _unusable(self, error: Exception) -> ConfigError:
        reason = getattr(error, "strerror", None) or error
        return ConfigError(f"[server] cannot listen on {self._host}, port {self._port}: {reason}")
