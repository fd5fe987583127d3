"""Redis as the node has it: the embedded one where it is its own, the link, and the publisher of events."""

from __future__ import annotations

from collections.abc import Callable
from random import random
from typing import Any

from stellarstack.auth.tls import TlsContexts
from stellarstack.config import Config
from stellarstack.core.redis_url import RedisKind, parse_redis_url
from stellarstack.errors import StellarError
from stellarstack.interfaces import Intake, Store
from stellarstack.redis.dial import Login, RedisDialer
from stellarstack.redis.embedded import EmbeddedRedis
from stellarstack.redis.link import RedisLink
from stellarstack.redis.publisher import OutboxPublisher

EMBEDDED_WAIT = 3.0  # seconds; a start takes a tenth of one, and what is not there then is dialled until it is


class Telephone:
    """`changed(connected, error)` and `sequence_reset(seq)` are the node's. ConfigError: the URL cannot be used."""

    def __init__(
        self, *, config: Config, tls: TlsContexts, store: Store, intake: Intake, reactor: Any,
        changed: Callable[[bool, StellarError | None], None], sequence_reset: Callable[[int], None],
    ) -> None:  # fmt: skip
        token, node_id = config.node.api_token, config.node.id or ""
        secret = token.reveal() if token is not None else None
        url = parse_redis_url(config.redis.url.reveal(), require_tls=config.redis.require_tls)
        self._embedded: EmbeddedRedis | None = None
        if url.kind is RedisKind.EMBEDDED:
            self._embedded = EmbeddedRedis(
                reactor=reactor, socket=config.embedded_socket, directory=config.paths.state / "redis",
                port=config.redis.embedded_port, password=secret,
            )  # fmt: skip
            url = self._embedded.url
        self.plaintext = str(url) if url.plaintext else None
        dialer = RedisDialer(
            reactor=reactor, url=url, login=Login(config.node.id, secret), tls=tls.client,
            require_tls=config.redis.require_tls,
        )  # fmt: skip
        self.publisher = OutboxPublisher(
            node_id=node_id, clock=reactor, store=store, log_length=config.redis.events_log_maxlen,
            on_sequence_reset=sequence_reset, wait_for_replica=url.kind is RedisKind.SENTINEL, jitter=random,
        )  # fmt: skip
        self.link = RedisLink(
            clock=reactor, dialer=dialer, node_id=node_id, publisher=self.publisher, intake=intake, on_change=changed
        )

    async def start_embedded(self) -> None:
        """Begins to find or start the embedded one, where there is one; never waits."""
        if self._embedded is not None:
            self._embedded.start()

    async def start_link(self) -> None:
        """Begins to connect, once an embedded one answers or does not within a moment."""
        if self._embedded is not None:
            await self._embedded.settle(EMBEDDED_WAIT)
        self.link.start()

    async def stop_embedded(self) -> None:
        """Ends it; the link has hung up before."""
        if self._embedded is not None:
            await self._embedded.stop()
