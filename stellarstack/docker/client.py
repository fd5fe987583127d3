"""One request to the Docker Engine and its answer: HTTP over the UNIX socket, each wait and each body bounded.

Every request has a connection of its own. On a UNIX socket that costs next to nothing, and a request that is cancelled
or times out takes exactly its own connection along: nothing is left in a pool, nothing is read by the wrong asker.
"""

# mypy: allow-untyped-calls
# Twisted leaves Failure, Agent and the endpoints untyped.

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from treq.client import HTTPClient
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import UNIXClientEndpoint
from twisted.internet.error import ConnectError, ConnectionAborted, ConnectionClosed
from twisted.internet.interfaces import IReactorTime, IStreamClientEndpoint
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import (
    URI,
    Agent,
    HTTPConnectionPool,
    RequestGenerationFailed,
    RequestTransmissionFailed,
    ResponseDone,
    ResponseFailed,
)
from twisted.web.http import PotentialDataLoss
from twisted.web.iweb import IAgentEndpointFactory
from zope.interface import implementer

from stellarstack.core.engine import OLDEST_API
from stellarstack.core.messages import Json
from stellarstack.docker.fields import text
from stellarstack.docker.translation import is_version_refused, one_line, refusal
from stellarstack.errors import DockerUnavailable, EngineRefused, EngineTooOld, StellarError, TooLarge
from stellarstack.tasks import within

API_WANTED = (1, 41)
BODY_MAX = 1 << 20
LIST_MAX = 1 << 25
SOCKET_PATH_MAX = 107

_BROKEN = (
    ConnectError,
    ConnectionClosed,
    RequestGenerationFailed,
    RequestTransmissionFailed,
    ResponseFailed,
)


@dataclass(frozen=True, slots=True)
class Request:
    """One request. `path` starts with a slash, without the API version; `limit` bounds the answer's body in bytes."""

    method: str
    path: str
    params: Mapping[str, str | bytes] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: Json = None
    limit: int = BODY_MAX
    versioned: bool = True

    @property
    def query(self) -> str:
        return "?" + urlencode(self.params) if self.params else ""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the engine answered. `body` is empty where it was streamed to somebody."""

    status: int
    body: bytes

    @property
    def message(self) -> str:
        """The engine's own words about a failure."""
        try:
            return text(json.loads(self.body), "message") or self._plain()
        except (ValueError, RecursionError):
            return self._plain()

    def require(self, missing: type[StellarError] = EngineRefused) -> Answer:
        """Raises what the status says, where it says a failure; `missing` is what 404 means here."""
        if self.status >= 400:
            raise refusal(self.status, self.message, missing)
        return self

    def json(self) -> Any:
        """The body's value. DockerUnavailable: it is no JSON."""
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            raise DockerUnavailable("Docker answered with something that is no JSON") from None

    def _plain(self) -> str:
        return self.body.decode("utf-8", "replace")


class DockerClient:
    """The engine's HTTP side. Raises DockerUnavailable, TimedOut, EngineTooOld, TooLarge; statuses are the caller's."""

    def __init__(self, *, reactor: Any, clock: IReactorTime, socket: Path, timeout: float) -> None:
        pool = HTTPConnectionPool(reactor, persistent=False)
        agent = Agent.usingEndpointFactory(reactor, _SocketEndpoints(reactor, socket), pool)
        self._http = HTTPClient(agent)
        self._reactor = reactor
        self._clock = clock
        self._socket = socket
        self._api: tuple[int, int] | None = None
        self.timeout = timeout

    async def call(self, request: Request) -> Answer:
        """Asks and reads the whole answer, within `timeout` seconds in all (`[docker] request_timeout`)."""
        return await within(self._clock, self.timeout, _named(request), self._exchange(request))

    async def stream(
        self,
        request: Request,
        received: Callable[[bytes], None],
        *,
        opened: Callable[[], None] = lambda: None,
        head_timeout: float | None = None,
    ) -> Answer:
        """Asks, then gives the body of a good answer to `received`, piece by piece, until the engine ends it.

        Only the wait for the answer's head has a timeout (seconds). `opened` is called when that head has come.
        """
        head = self._send(request)
        response = await within(self._clock, head_timeout or self.timeout, _named(request), head)
        if response.code >= 300:
            limited = self._read(response, request)
            return await within(self._clock, self.timeout, _named(request), limited)
        opened()
        await read_body(response, received)
        return Answer(response.code, b"")

    async def api(self) -> tuple[int, int]:
        """The API version both sides speak, asked for once and again after each broken connection. EngineTooOld."""
        if self._api is None:
            await self.versions()
        assert self._api is not None
        return self._api

    async def versions(self) -> Mapping[str, Any]:
        """`GET /version`, and the choice of the API version that follows from it."""
        answer = (await self.call(Request("GET", "/version", versioned=False))).require()
        found = answer.json()
        self._api = choose_api(text(found, "ApiVersion"), text(found, "MinAPIVersion"))
        return found if isinstance(found, dict) else {}

    async def path_of(self, request: Request) -> str:
        """Path and query as they stand in the request line."""
        if not request.versioned:
            return request.path + request.query
        major, minor = await self.api()
        return f"/v{major}.{minor}{request.path}{request.query}"

    def forget_version(self) -> None:
        """The engine went away: who comes back may be a newer one."""
        self._api = None

    async def _exchange(self, request: Request) -> Answer:
        return await self._read(await self._send(request), request)

    async def _read(self, response: Any, request: Request) -> Answer:
        body = _Limited(request.limit, _named(request))
        await read_body(response, body.received)
        answer = Answer(response.code, body.joined())
        if answer.status == 400 and is_version_refused(answer.message):
            self.forget_version()
        return answer

    async def _send(self, request: Request) -> Any:
        if len(os.fsencode(self._socket)) > SOCKET_PATH_MAX:  # Twisted would wait for its timeout instead of failing
            raise DockerUnavailable(f"{self._socket} is too long a path for a UNIX socket")
        extra: dict[str, Any] = {} if request.body is None else {"json": request.body}
        if request.body is None and request.method == "POST":
            extra = {"data": b""}
        url = "http://docker" + await self.path_of(request)
        try:
            return await self._http.request(
                request.method, url, headers=dict(request.headers), allow_redirects=False, unbuffered=True,
                reactor=self._reactor, **extra,
            )  # fmt: skip
        except _BROKEN as error:
            if _was_cancelled(error):
                raise CancelledError from error
            self.forget_version()
            raise unreachable(error) from error


def choose_api(newest: str, oldest: str) -> tuple[int, int]:
    """1.41 where the engine speaks it, else what it has that is nearest. EngineTooOld: it ends below 1.40."""
    high, low = _version(newest), _version(oldest)
    if high < OLDEST_API:
        floor = ".".join(map(str, OLDEST_API))
        raise EngineTooOld(f"Docker speaks API {one_line(newest) or 'unknown'}; {floor} or newer is needed")
    return max(min(API_WANTED, high), low)


def unreachable(error: BaseException | None) -> DockerUnavailable:
    """A connection that could not be made or that broke, in the words of its cause."""
    while reasons := getattr(error, "reasons", None):
        error = reasons[0].value
    return DockerUnavailable(f"Docker does not answer: {one_line(str(error)) or type(error).__name__}")


def read_body(response: Any, received: Callable[[bytes], None]) -> Deferred[None]:
    """Fires when the body has come whole. Cancelling it, or `received` raising, ends the connection."""
    body = _Body(received)
    response.deliverBody(body)
    return body.ended


class _Body(Protocol):
    def __init__(self, received: Callable[[bytes], None]) -> None:
        self._received = received
        self.ended: Deferred[None] = Deferred(lambda _: self._drop())

    def dataReceived(self, data: bytes) -> None:
        if self.ended.called:
            return
        try:
            self._received(data)
        except Exception:
            failure = Failure()
            self._drop()
            self.ended.errback(failure)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self.ended.called:
            return
        if reason.check(ResponseDone, PotentialDataLoss):
            self.ended.callback(None)
        else:
            self.ended.errback(Failure(unreachable(reason.value)))

    def _drop(self) -> None:
        if self.transport is not None:
            self.transport.loseConnection()


class _Limited:
    """A body in memory that refuses to grow past its limit."""

    def __init__(self, limit: int, what: str) -> None:
        self._limit, self._what = limit, what
        self._pieces: list[bytes] = []
        self._size = 0

    def received(self, data: bytes) -> None:
        self._size += len(data)
        if self._size > self._limit:
            raise TooLarge(f"{self._what} answers with more than {self._limit} bytes")
        self._pieces.append(data)

    def joined(self) -> bytes:
        return b"".join(self._pieces)


@implementer(IAgentEndpointFactory)
class _SocketEndpoints:
    """Every address is the engine's socket."""

    def __init__(self, reactor: Any, socket: Path) -> None:
        self._reactor, self._socket = reactor, socket

    def endpointForURI(self, uri: URI) -> IStreamClientEndpoint:
        return UNIXClientEndpoint(self._reactor, str(self._socket))


def _named(request: Request) -> str:
    return f"Docker {request.method} {request.path}"


def _was_cancelled(error: BaseException) -> bool:
    """Whether it was our own cancel that broke the connection: Twisted wraps that like any other cause."""
    reasons = getattr(error, "reasons", None) or []
    return any(reason.check(CancelledError, ConnectionAborted) for reason in reasons if isinstance(reason, Failure))


def _version(written: str) -> tuple[int, int]:
    major, _, minor = written.partition(".")
    return (int(major), int(minor)) if major.isdecimal() and minor.isdecimal() else (0, 0)
