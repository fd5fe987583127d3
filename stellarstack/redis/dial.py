"""Dials Redis: finds its address, connects, proves who we are, and looks whom it has there (PROTOCOL 2)."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import HostnameEndpoint, UNIXClientEndpoint, wrapClientTLS
from twisted.internet.error import ConnectingCancelledError
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator, IReactorTime, IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.logger import Logger
from twisted.python.failure import Failure

from stellarstack.core.redis_url import Address, RedisKind, RedisUrl
from stellarstack.errors import RedisRefused, RedisUnavailable, StellarError
from stellarstack.redis.wire import Argument, Reply, ReplyError, Wire
from stellarstack.tasks import within

CONNECT_TIMEOUT = 5.0
GREET_TIMEOUT = 10.0
SENTINEL_TIMEOUT = 2.0
OLDEST = (6, 2)

# Makes the TLS side of a connection to the host of this name; certificates and CAs are the caller's.
TlsMaker = Callable[[str], IOpenSSLClientConnectionCreator]
OnMessage = Callable[[bytes], None]


@dataclass(frozen=True, slots=True)
class Login:
    """Who we are: the URL's credentials win; else node id and API token are tried (PROTOCOL 2)."""

    node_id: str | None = None
    api_token: str | None = field(default=None, repr=False)


class Dialer(Protocol):
    """Opens connections to Redis that are ready for use."""

    async def dial(self, on_message: OnMessage | None = None) -> Wire:
        """Raises RedisRefused (credentials, or a Redis that is too old), RedisUnavailable, TimedOut."""


class _WireFactory(Factory):
    noisy = False

    def __init__(self, clock: IReactorTime, on_message: OnMessage | None) -> None:
        self._clock = clock
        self._on_message = on_message

    def buildProtocol(self, _: object) -> Wire:
        wire = Wire(self._clock, on_message=self._on_message)
        wire.factory = self
        return wire


class RedisDialer:
    """Dials what `redis.url` names. With Sentinel the address is asked for anew at each attempt."""

    _log = Logger()

    def __init__(
        self,
        *,
        reactor: Any,
        url: RedisUrl,
        login: Login,
        tls: TlsMaker | None = None,
        require_tls: bool = False,
    ) -> None:
        self._reactor = reactor
        self._url = url
        self._login = login
        self._tls = tls
        self._require_tls = require_tls

    async def dial(self, on_message: OnMessage | None = None) -> Wire:
        """See Dialer."""
        if self._url.kind is RedisKind.SENTINEL:
            return await self._greeted(await self._connect(self._tcp(await self._discover()), on_message))
        return await self._greeted(await self._connect(self._endpoint(), on_message))

    def _endpoint(self) -> IStreamClientEndpoint:
        if self._url.path is not None:
            return UNIXClientEndpoint(self._reactor, self._url.path, timeout=CONNECT_TIMEOUT)
        return self._tcp(self._url.addresses[0])

    def _tcp(self, address: Address) -> IStreamClientEndpoint:
        if self._require_tls and not self._url.tls and not address.loopback:
            raise RedisUnavailable(f"{address} would be spoken to in plain text, which [redis] require_tls refuses")
        plain = HostnameEndpoint(self._reactor, address.host, address.port, timeout=CONNECT_TIMEOUT)
        if not self._url.tls:
            return plain
        if self._tls is None:
            raise RedisUnavailable("redis.url asks for TLS, but no TLS settings were given")
        endpoint: IStreamClientEndpoint = wrapClientTLS(self._tls(address.host), plain)
        return endpoint

    async def _connect(self, endpoint: IStreamClientEndpoint, on_message: OnMessage | None = None) -> Wire:
        try:
            return await reach(self._reactor, endpoint, on_message)
        except RedisUnavailable as error:
            raise RedisUnavailable(f"no connection to Redis at {self._url}: {error}") from error

    async def _greeted(self, wire: Wire) -> Wire:
        try:
            await within(self._reactor, GREET_TIMEOUT, "logging in to Redis", greet(wire, self._url, self._login))
        except BaseException:
            wire.drop("the login did not come about")
            raise
        return wire

    async def _discover(self) -> Address:
        """Asks one sentinel after the other for the primary's address."""
        story = []
        for sentinel in self._url.addresses:
            try:
                return await within(self._reactor, SENTINEL_TIMEOUT, f"asking {sentinel}", self._ask(sentinel))
            except StellarError as error:
                story.append(f"{sentinel}: {error}")
        raise RedisUnavailable(f"no sentinel names a primary for {self._url.service!r} ({'; '.join(story)})")

    async def _ask(self, sentinel: Address) -> Address:
        wire = await self._connect(self._tcp(sentinel))
        try:
            if self._url.sentinel_password is not None:
                await wire.call("AUTH", self._url.sentinel_password)
            found = await wire.call("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._url.service or "")
        finally:
            wire.drop("asked")
        if not isinstance(found, list) or len(found) != 2:
            raise RedisUnavailable("knows no such primary")
        return Address(_text(found[0]), int(found[1]))


async def reach(reactor: Any, endpoint: IStreamClientEndpoint, on_message: OnMessage | None = None) -> Wire:
    """Connects, and no more. RedisUnavailable with the system's own words, or TimedOut."""
    connecting: Deferred[Any] = endpoint.connect(_WireFactory(reactor, on_message))
    connecting.addErrback(_plainly_cancelled)
    try:
        wire: Wire = await within(reactor, CONNECT_TIMEOUT + 1, "connecting to Redis", connecting)
        return wire
    except (StellarError, CancelledError):
        raise
    except Exception as error:
        raise RedisUnavailable(str(error) or type(error).__name__) from error


def _plainly_cancelled(failure: Failure) -> Failure:
    """Endpoints have an exception of their own for a connection that was cancelled."""
    return Failure(CancelledError()) if failure.check(ConnectingCancelledError) else failure


async def greet(wire: Wire, url: RedisUrl, login: Login) -> None:
    """Logs in, checks version and role, selects the database."""
    await _log_in(wire, url, login)
    await _look(wire)
    if url.db:
        await wire.call("SELECT", url.db)


async def _log_in(wire: Wire, url: RedisUrl, login: Login) -> None:
    """AUTH as PROTOCOL 2 says it. What the URL names must hold; node id and token give way step by step."""
    if url.password is not None:
        credentials = (url.password,) if url.username is None else (url.username, url.password)
        try:
            await wire.call("AUTH", *credentials)
        except ReplyError as error:
            raise RedisRefused(f"Redis refuses the credentials of redis.url: {error.text[:100]}") from None
    elif login.api_token is not None:
        await _log_in_as_node(wire, login.node_id, login.api_token)


async def _log_in_as_node(wire: Wire, node_id: str | None, token: str) -> None:
    attempts: Sequence[tuple[Argument, ...]] = ((token,),) if node_id is None else ((node_id, token), (token,))
    refused: RedisUnavailable | None = None
    for attempt in attempts:
        try:
            await wire.call("AUTH", *attempt)
        except RedisRefused as error:
            refused = error
        except ReplyError as error:
            if "without any password" in error.text:
                return
            raise _too_old("Redis") if "wrong number of arguments" in error.text else error from None
        else:
            return
    raise RedisRefused(f"Redis takes neither the node's id and API token nor the token alone: {refused}")


async def _look(wire: Wire) -> None:
    """HELLO tells version and role, and an ACL that allows `@connection` allows it (INFO and ROLE it need not)."""
    try:
        told = await wire.call("HELLO")
    except ReplyError as error:
        if error.text.lower().startswith("unknown command"):
            raise _too_old("Redis") from None
        raise
    except RedisRefused as error:
        if "NOPERM" in str(error):
            return
        raise
    facts = {_text(key): value for key, value in zip(told[::2], told[1::2], strict=False)}
    version = _text(facts.get("version", b""))
    if _numbers(version) < OLDEST:
        raise _too_old(f"{_text(facts.get('server', b'redis')).capitalize()} {version}")
    if _text(facts.get("role", b"master")) != "master":
        raise RedisUnavailable("Redis is a replica there, which takes no events; its primary is needed")


def _too_old(what: str) -> RedisRefused:
    return RedisRefused(f"{what} is too old: Redis {'.'.join(map(str, OLDEST))} or newer, or Valkey, is needed")


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:2])


def _text(reply: Reply) -> str:
    return reply.decode("utf-8", "replace") if isinstance(reply, bytes) else str(reply)
