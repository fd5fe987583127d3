"""Reaches any node through Redis: commands go onto its queue, answers come out of its event log (PROTOCOL 3)."""

from __future__ import annotations

import json
import ssl
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, TimeoutError
from twisted.python.failure import Failure

from stellarstack.config import Config, TlsConfig
from stellarstack.core.messages import commands_queue, events_log
from stellarstack.core.redis_url import RedisKind, RedisUrl, parse_redis_url, unix_url
from stellarstack.ctl.control import Refused
from stellarstack.ctl.node import Told, envelope, rows
from stellarstack.redis.dial import Dialer, Login, RedisDialer
from stellarstack.redis.wire import Wire

# below the silence after which the connection counts as broken
BLOCK_MS = 4000
BATCH = 200
ANSWER_TIMEOUT = 60.0
# a node that is away runs the command when it is back; but not later than this
COMMAND_LIFETIME = 600.0

_T = TypeVar("_T")


class RedisPanel:
    """What a control plane does, over one connection."""

    def __init__(self, wire: Wire, node_id: str) -> None:
        self._wire = wire
        self._queue = commands_queue(node_id)
        self._log = events_log(node_id)

    async def command(self, envelope: Mapping[str, Any], told: Told) -> dict[str, Any]:
        """Puts the command on the queue and reads the log until its result is there. Has no end of its own."""
        position = await self._newest()
        await self._wire.call("XADD", self._queue, "*", "command", json.dumps(envelope))
        while True:
            position, events = await self._after(position)
            for event in events:
                if event.get("commandId") == envelope["id"]:
                    if event.get("type") == "command.result":
                        return event
                    told(event)

    async def events(self, told: Told, *, follow: bool, last: int) -> None:
        """Tells the newest `last` events, oldest first; with `follow` new ones without end."""
        position = await self._newest()
        found = await self._wire.call("XREVRANGE", self._log, "+", "-", "COUNT", str(last)) if last else []
        for entry in reversed(found):
            told(_event(entry))
        while follow:
            position, events = await self._after(position)
            for event in events:
                told(event)

    async def _newest(self) -> bytes:
        found = await self._wire.call("XREVRANGE", self._log, "+", "-", "COUNT", "1")
        return bytes(found[0][0]) if found else b"0-0"

    async def _after(self, position: bytes) -> tuple[bytes, list[dict[str, Any]]]:
        found = await self._wire.call(
            "XREAD", "COUNT", str(BATCH), "BLOCK", str(BLOCK_MS), "STREAMS", self._log, position
        )
        if not found:
            return position, []
        entries = found[0][1]
        return bytes(entries[-1][0]), [_event(entry) for entry in entries]


class RedisNode:
    """A node as stellarctl sees it. `run` makes a coroutine's result out of a reactor; it may be called once."""

    def __init__(self, *, config: Config, url: RedisUrl, node_id: str, timeout: float | None, run: Run) -> None:
        self._config = config
        self._url = url
        self._node_id = node_id
        self._timeout = timeout
        self._run = run

    def command(self, envelope: Mapping[str, Any], told: Told, timeout: float | None) -> dict[str, Any]:
        lifetime = COMMAND_LIFETIME if timeout is None else timeout
        whole = {**envelope, "expiresAt": float(envelope["timestamp"]) + lifetime}
        return self._on_panel(lambda panel: panel.command(whole, told), timeout)

    def servers(self) -> list[dict[str, Any]]:
        return rows(self._result("server.list"))

    def about(self) -> dict[str, Any]:
        return dict(self._result("node.info"))

    def events(self, told: Told, *, follow: bool, last: int) -> None:
        self._on_panel(lambda panel: panel.events(told, follow=follow, last=last), None)

    def _result(self, kind: str) -> Any:
        timeout = self._timeout or ANSWER_TIMEOUT
        event = self.command(envelope(kind, {}), lambda _: None, timeout)
        if event.get("status") != "succeeded":
            raise Refused(f"{kind} {event.get('status')}: {event.get('error')}")
        return event.get("result")

    def _on_panel(self, use: Callable[[RedisPanel], Coroutine[Any, Any, _T]], timeout: float | None) -> _T:
        async def work(reactor: Any) -> _T:
            wire = await dialer(reactor, self._config, self._url).dial()
            try:
                using = Deferred.fromCoroutine(use(RedisPanel(wire, self._node_id)))
                return await (using if timeout is None else using.addTimeout(timeout, reactor))
            except TimeoutError:
                told = f"{self._node_id} did not answer within {timeout:g} s"
                raise Refused(f"{told}; it will not run the command any more unless it has begun it") from None
            finally:
                wire.drop("done")

        answer: _T = self._run(work)
        return answer


Work = Callable[[Any], Coroutine[Any, Any, _T]]
Run = Callable[[Callable[[Any], Coroutine[Any, Any, Any]]], Any]


def run_once(work: Work[_T]) -> _T:
    """Runs the reactor until `work(reactor)` has ended; its result or error is ours. Once a process."""
    from twisted.internet import reactor

    outcome: list[Any] = []

    def begin() -> None:
        Deferred.fromCoroutine(work(reactor)).addBoth(ended)

    def ended(result: Any) -> None:
        outcome.append(result)
        reactor.stop()

    reactor.callWhenRunning(begin)
    reactor.run()
    if not outcome:
        raise KeyboardInterrupt
    found = outcome[0]
    if isinstance(found, Failure):
        found.raiseException()
    return found  # type: ignore[no-any-return]


def dialer(reactor: Any, config: Config, url: RedisUrl) -> Dialer:
    """Dials as the daemon does: with the node's id and token where the URL names nobody."""
    login = Login(config.node.id, config.node.api_token.reveal() if config.node.api_token else None)
    return RedisDialer(
        reactor=reactor, url=url, login=login, tls=lambda host: _tls(config, host), require_tls=config.redis.require_tls
    )


def reachable_url(config: Config, text: str | None = None) -> RedisUrl:
    """`text`, or the config's; `embedded` becomes the socket of the daemon's own Valkey. Raises ConfigError."""
    url = parse_redis_url(text or config.redis.url.reveal())
    return unix_url(str(config.embedded_socket)) if url.kind is RedisKind.EMBEDDED else url


def _tls(config: Config, host: str) -> Any:
    from twisted.internet.ssl import (
        Certificate,
        PrivateCertificate,
        optionsForClientTLS,
        platformTrust,
        trustRootFromCertificates,
    )

    files = config.tls
    _check_tls_files(files)
    trust = platformTrust()
    if files.ca is not None:
        blocks = files.ca.read_bytes().split(b"-----END CERTIFICATE-----")[:-1]
        found = [Certificate.loadPEM(block + b"-----END CERTIFICATE-----\n") for block in blocks]
        trust = trustRootFromCertificates(found)
    own = None
    if files.certificate is not None and files.key is not None:
        own = PrivateCertificate.loadPEM(files.key.read_bytes() + files.certificate.read_bytes())
    return optionsForClientTLS(host, trustRoot=trust, clientCertificate=own)


def _check_tls_files(files: TlsConfig) -> None:
    """Raises Refused, naming the file that cannot be used."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        if files.ca is not None:
            context.load_verify_locations(files.ca)
        if files.certificate is not None:
            context.load_cert_chain(files.certificate, files.key)
    except ssl.SSLError as error:
        raise Refused(f"[tls]: certificate, key or ca is no good PEM file ({error.reason or 'unreadable'})") from None
    except OSError as error:
        raise Refused(f"[tls]: certificate, key or ca: {error.strerror}") from None


def _event(entry: Any) -> dict[str, Any]:
    fields = dict(zip(entry[1][::2], entry[1][1::2], strict=False))
    try:
        found = json.loads(fields.get(b"event", b"{}"))
    except ValueError:
        found = None
    return found if isinstance(found, dict) else {"type": "unreadable"}
