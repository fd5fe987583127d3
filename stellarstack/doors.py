"""Every way in but Redis: the console, HTTP, SSH and the control socket, opened last and closed first."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from stellarstack.api.console_past import PastDoor
from stellarstack.api.control import ControlListener
from stellarstack.api.http import HttpListener
from stellarstack.api.http_query import TokenDoor
from stellarstack.api.site import make_site
from stellarstack.api.site_web import WebConsole
from stellarstack.api.websocket import ConsoleEndpoint
from stellarstack.auth.denylist import REVOKED_FOR
from stellarstack.auth.hostkey import read_or_make_host_key
from stellarstack.auth.secrets import own_secret
from stellarstack.auth.tls import TlsContexts
from stellarstack.auth.token import ConsoleTokens
from stellarstack.bus import Bus
from stellarstack.config import Config
from stellarstack.console.consoles import Consoles
from stellarstack.console.seats import Seating
from stellarstack.core.messages import Origin
from stellarstack.core.requests import ConsoleRevoke
from stellarstack.errors import InvalidState
from stellarstack.facts import NodeFacts
from stellarstack.interfaces import Intake, ServerDirectory, Store
from stellarstack.ssh.keybook import ConfiguredKeys
from stellarstack.ssh.listener import SshListener
from stellarstack.ssh.session import Hall
from stellarstack.tasks import Tasks
from stellarstack.viewing import TypedLines


@dataclass(frozen=True, slots=True, kw_only=True)
class Rooms:
    """What stands behind the doors."""

    store: Store
    bus: Bus
    consoles: Consoles
    servers: ServerDirectory
    intake: Intake
    facts: NodeFacts
    lines: TypedLines


class _NotRegistered:
    """Meets Intake where there is no `[node] id`: nothing is journaled for a node that nobody knows."""

    async def receive(self, raw: bytes, origin: Origin, entry_id: str | None = None) -> None:
        raise InvalidState("this node is not registered: daemon.toml has no [node] id")


class Doors:
    """ConfigError: a key, a certificate or a secret cannot be used."""

    def __init__(
        self, *, config: Config, tls: TlsContexts, rooms: Rooms, reactor: Any, now: Callable[[], float]
    ) -> None:
        self._config = config
        self._tls = tls
        self._now = now
        self._tasks = Tasks()
        self.port = 0
        self.tokens = ConsoleTokens(
            node_id=config.node.id, auth=config.auth, secret=own_secret(config.auth, config.paths.state / "jwt_secret"),
            store=rooms.store, now=now,
        )  # fmt: skip
        intake: Intake = rooms.intake if config.node.id else _NotRegistered()
        self.seats = Seating(config=config.console, now=now)
        self._endpoint = ConsoleEndpoint(
            consoles=rooms.consoles, directory=rooms.servers, seats=self.seats, tokens=self.tokens,
            config=config.console, node_id=config.node.id or "", bus=rooms.bus, intake=intake,
            typed_lines=rooms.lines, clock=reactor, now=now, tasks=self._tasks,
            allowed_origins=config.server.allowed_origins,
        )  # fmt: skip
        self._past = PastDoor(
            archives=rooms.consoles, admission=TokenDoor(self.tokens, rooms.servers), clock=reactor, tasks=self._tasks,
            now=now,
        )  # fmt: skip
        site = make_site(
            reactor=reactor, tasks=self._tasks, health=rooms.facts.health, metrics=rooms.facts.metrics,
            metrics_token=config.metrics.token, console=self._endpoint.resource(),
            past=self._past,
            web=WebConsole(config.server.frame_ancestors),
        )  # fmt: skip
        self._http = HttpListener(
            site=site, reactor=reactor, host=config.server.host, port=config.server.port, tls=tls.server()
        )
        self._control = ControlListener(
            path=config.paths.control_socket, reactor=reactor, tasks=self._tasks,
            intake=intake, bus=rooms.bus,
            directory=rooms.servers, sessions=self.seats.rows, mint=self.tokens, node=rooms.facts.info,
        )  # fmt: skip

        self._ssh = self._make_ssh(rooms, reactor) if config.ssh.enabled else None

    def _make_ssh(self, rooms: Rooms, reactor: Any) -> SshListener:
        config = self._config
        hall = Hall(
            feeds=rooms.consoles, directory=rooms.servers, seats=self.seats, lines=rooms.lines, config=config.console,
            node_id=config.node.id or "", bus=rooms.bus, clock=reactor, now=self._now, tasks=self._tasks,
        )  # fmt: skip
        return SshListener(
            config=config.ssh, hall=hall, tokens=self.tokens, host_key=read_or_make_host_key(config.ssh_host_key),
            keys=ConfiguredKeys(config.ssh.users, config.ssh.key_session, self._now), reactor=reactor,
        )  # fmt: skip

    @property
    def viewers(self) -> int:
        """How many sessions sit at the consoles, over all doors."""
        return len(self.seats)

    @property
    def plaintext(self) -> bool:
        """Whether what is said on `[server]` crosses a network unencrypted."""
        return self._tls.server() is None and self._config.server.host not in ("127.0.0.1", "::1", "localhost")

    async def revoke(self, request: ConsoleRevoke) -> int:
        """Refuses the tokens from now on, over restarts, and closes the sessions that match; answers how many.

        Downloads of theirs break off, too, and SSH connections end, also those without a terminal; neither is counted.
        """
        try:
            if request.jti is not None:
                await self.tokens.deny(request.jti, self._now() + REVOKED_FOR)
            else:
                await self.tokens.revoke(request.user_id, request.server_id)
        finally:
            # also where the database cannot keep it now: in memory it holds, and nobody stays in
            self._past.revoke(request.jti, request.user_id, request.server_id)
            closed = self.seats.revoke(request.jti, request.user_id, request.server_id)
            if self._ssh is not None:
                self._ssh.revoke(request.jti, request.user_id, request.server_id)
        return closed

    def probe(self) -> None:
        """Tells before anything starts, and before twistd leaves the terminal, what `open` would stumble over."""
        self._control.probe()
        self._http.probe()
        if self._ssh is not None:
            self._ssh.probe()

    async def open(self) -> None:
        """ConfigError: the port or the control socket's path cannot be had."""
        self._endpoint.start()
        await self._control.start()
        self.port = await self._http.start()
        if self._ssh is not None:
            await self._ssh.start()

    async def close(self) -> None:
        """No new connections; consoles are closed with 1001, streams get a last line."""
        if self._ssh is not None:
            self._ssh.close_sessions()  # they take their last words while the others take theirs
        await self._http.stop()
        await self._endpoint.stop()
        if self._ssh is not None:
            await self._ssh.stop()
        await self._control.stop()
        await self._tasks.cancel_all()
