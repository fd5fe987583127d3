"""The networks that game servers stand in: a bridge of each server's own, or one that servers of one owner share.

`config.network` of PROTOCOL 4. A shared one is made with its first server and removed with its last.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from stellarstack.core.container_spec import LABEL_NETWORK, LABEL_NODE, LABEL_ROLE, LABEL_SERVER, ROLE_SHARED
from stellarstack.core.records import ServerStatus
from stellarstack.core.subnets import PREFIX, SHARED_PREFIX
from stellarstack.errors import EngineConflict, InvalidState, StellarError
from stellarstack.interfaces import Engine
from stellarstack.servers.ownership import Ownership
from stellarstack.servers.steady import ADVICE, Hands
from stellarstack.servers.subnets import SubnetPool

if TYPE_CHECKING:
    from stellarstack.servers.server import Server

TRIES = 8
HOST_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?", re.ASCII)


class Bridges:
    """`servers` are those of the household. One change of a network at a time, so that a server that comes and the
    last one that goes never meet half-way.
    """

    _log = Logger()

    def __init__(
        self,
        *,
        node_id: str,
        engine: Engine,
        clock: IReactorTime,
        ownership: Ownership,
        subnets: SubnetPool,
        servers: Callable[[], Iterable[Server]],
    ) -> None:
        self._node_id = node_id
        self._engine = engine
        self._ownership = ownership
        self._hands = Hands(engine, clock, ownership)
        self._subnets = subnets
        self._servers = servers
        self._locks: dict[str, DeferredLock] = {}
        self._leaving: set[str] = set()

    def names(self, server: Server) -> set[str]:
        """The engine's names of all networks that may have been made for the server."""
        return {server.container_name, self.name_of(server), _stood_in(server, server.record.network)}

    def name_of(self, server: Server) -> str:
        """The engine's name of the network that the server's next container is made in."""
        # no server's own bridge is called so: its name goes on with a dot
        return f"{self._node_id}-{server.spec.network}" if server.spec.network else server.container_name

    def aliases(self, server: Server) -> tuple[str, ...]:
        """What the others of a shared network call the server: its id, and its name where that is a host name."""
        network = server.spec.network
        if not network:
            return ()
        name = server.spec.name.lower()
        ids = {one.id.lower() for one in self._servers() if one.spec.network == network}
        return (server.id, name) if HOST_NAME.fullmatch(name) and name not in ids else (server.id,)

    async def ensure(self, server: Server) -> None:
        """Makes the server's network where it is missing, and keeps in its record which one it is.

        A subnet that somebody else took meanwhile is changed for another. InsufficientResources: there is none.
        InvalidState: the network is another daemon's, or has no IPv4.
        """
        name, before = self.name_of(server), server.record
        await self._alone(name, lambda: self._ensure(server, name))
        if _stood_in(server, before.network) != name:
            await self._tidy_quietly(_stood_in(server, before.network))
            self._subnets.give_back(before.subnet)

    async def left_behind(self, server: Server) -> None:
        """A server that does not run was told to stand elsewhere from now on."""
        await self._tidy_quietly(_stood_in(server, server.record.network))

    async def leave(self, server: Server) -> None:
        """The server is deleted, its container is gone: its networks are removed where nobody else needs them."""
        self._leaving &= {one.id for one in self._servers()}
        self._leaving.add(server.id)
        for name in sorted(self.names(server)):
            await self._tidy(name)

    async def sweep(self) -> None:
        """Removes shared networks that no server needs, left by a daemon that died or an engine that was away."""
        for name in await self._engine.networks({**self._ownership.label, LABEL_ROLE: ROLE_SHARED}):
            await self._tidy_quietly(name)

    async def _ensure(self, server: Server, name: str) -> None:
        self._leaving.discard(server.id)
        labels, subnet = self._labels(server), server.record.subnet
        refused: list[str] = []
        if _stood_in(server, server.record.network) != name:
            subnet = ""
        while True:
            found = (await self._engine.networks(labels)).get(name)
            if found is None:
                subnet = subnet or await self._take(server, refused)
                try:
                    await self._hands.create_network(name, subnet, {**labels, **self._ownership.label})
                except EngineConflict as error:
                    await self._hands.remove_network(name)
                    self._subnets.give_back(subnet)
                    refused.append(subnet)
                    if len(refused) == TRIES:
                        raise EngineConflict(f"{error} ({TRIES} subnets of [docker] network_pool tried)") from error
                    subnet = ""
                    continue
            elif not await self._ownership.our_network(name):
                raise InvalidState(f"network {name} belongs to another daemon; {ADVICE}")
            else:
                subnet = _ipv4_of(name, found)
            self._stands_in(server, name, subnet)
            return

    async def _take(self, server: Server, refused: Sequence[str]) -> str:
        prefix = SHARED_PREFIX if server.spec.network else PREFIX
        return await self._subnets.take(refused=refused, prefix=prefix)

    def _stands_in(self, server: Server, name: str, subnet: str) -> None:
        changed = replace(server.record, network=name if server.spec.network else "", subnet=subnet)
        if changed != server.record:
            server.keep(changed)

    async def _tidy(self, name: str) -> None:
        await self._alone(name, lambda: self._remove_unneeded(name))

    async def _tidy_quietly(self, name: str) -> None:
        try:
            await self._tidy(name)
        except StellarError as error:
            self._log.warn("network {network} could not be removed: {reason}", network=name, reason=str(error))

    async def _remove_unneeded(self, name: str) -> None:
        if not any(name in self._needs(one) for one in self._servers() if one.id not in self._leaving):
            await self._hands.remove_network(name)

    def _needs(self, server: Server) -> set[str]:
        """Where its next container goes, and where the one of now stands."""
        stands = server.status.has_process or server.status is ServerStatus.INSTALLING
        return {self.name_of(server), *((_stood_in(server, server.record.network),) if stands else ())}

    def _labels(self, server: Server) -> Mapping[str, str]:
        if server.spec.network:
            return {LABEL_NODE: self._node_id, LABEL_ROLE: ROLE_SHARED, LABEL_NETWORK: server.spec.network}
        return {LABEL_NODE: self._node_id, LABEL_SERVER: server.id}

    async def _alone(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        async def run() -> None:
            await work()

        lock = self._locks.setdefault(name, DeferredLock())
        try:
            await lock.run(lambda: Deferred.fromCoroutine(run()))
        finally:
            if not lock.locked and not lock.waiting and self._locks.get(name) is lock:
                del self._locks[name]


def _stood_in(server: Server, network: str) -> str:
    return network or server.container_name


def _ipv4_of(name: str, subnets: Sequence[str]) -> str:
    """InvalidState: somebody made the network anew, otherwise than we do."""
    found = next((subnet for subnet in subnets if ":" not in subnet), None)
    if found is None:
        raise InvalidState(f"network {name} has no IPv4 subnet; remove it (docker network rm), it is made anew")
    return found
