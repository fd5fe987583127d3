"""All consoles of the node, by server id."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.threads import deferToThreadPool

from stellarstack.config import ConsoleConfig
from stellarstack.console.archive import Archive
from stellarstack.console.console import Console
from stellarstack.console.large_frames import FramePages
from stellarstack.console.surroundings import Surroundings
from stellarstack.console.threads import InThread
from stellarstack.core.identifiers import SERVER_ID
from stellarstack.core.records import ServerStatus
from stellarstack.errors import InvalidPayload
from stellarstack.interfaces import Engine, EventBus
from stellarstack.tasks import Tasks


class Consoles:
    """See Consoles in interfaces.py, ConsoleFeeds and ConsoleArchives in viewing.py: it is all three.

    `directory` holds a folder a server. `in_thread` runs what blocks; the reactor's own thread pool where it is None.
    """

    def __init__(
        self, *, engine: Engine, directory: Path, config: ConsoleConfig, bus: EventBus, node_id: str, reactor: Any,
        tasks: Tasks, now: Callable[[], float] = time.time, in_thread: InThread | None = None,
    ) -> None:  # fmt: skip
        self._around = Surroundings(
            engine=engine, directory=directory, config=config, bus=bus, node_id=node_id, clock=reactor, tasks=tasks,
            now=now, in_thread=in_thread or _pool_of(reactor), packing=DeferredLock(), pages=FramePages(),
        )  # fmt: skip
        self._consoles: dict[str, Console] = {}
        self._opening: dict[str, list[Deferred[None]]] = {}

    async def open(self, server_id: str, status: ServerStatus) -> Console:
        """See interfaces.Consoles.open. InvalidPayload: no server can have this id."""
        if not SERVER_ID.fullmatch(server_id):
            raise InvalidPayload(f"{server_id[:64]!r} is no server id")
        while server_id in self._opening:
            waiting: Deferred[None] = Deferred()
            self._opening[server_id].append(waiting)
            await waiting
        console = self._consoles.get(server_id)
        if console is None:
            console = await self._load(server_id, status)
        return console

    async def _load(self, server_id: str, status: ServerStatus) -> Console:
        self._opening[server_id] = []
        try:
            console = Console(server_id, status, self._around)
            await console.load()
            self._consoles[server_id] = console
        finally:
            for waiting in self._opening.pop(server_id):
                waiting.callback(None)
        return console

    def feed(self, server_id: str) -> Console | None:
        """The console of a server, for a viewer; None: there is none."""
        return self._consoles.get(server_id)

    def archive(self, server_id: str) -> Archive | None:
        """The past of a server's console; None: there is none."""
        console = self._consoles.get(server_id)
        return None if console is None else console.archive

    async def discard(self, server_id: str) -> None:
        """See interfaces.Consoles.discard. One that was never opened here is removed too."""
        if not SERVER_ID.fullmatch(server_id):
            return
        console = await self.open(server_id, ServerStatus.STOPPED)
        self._consoles.pop(server_id, None)
        await console.discard()

    async def stop(self) -> None:
        """Lets go of every PTY and saves every scrollback; the games go on. To be called once, with no door open."""
        consoles, self._consoles = self._consoles, {}
        for console in consoles.values():
            await console.stop()
        self._around.pages.close()


def _pool_of(reactor: Any) -> InThread:
    def in_thread(work: Callable[..., object], *args: object) -> Awaitable[object]:
        return deferToThreadPool(reactor, reactor.getThreadPool(), work, *args)

    return in_thread
