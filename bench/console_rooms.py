"""The process that bench/console.py measures: the daemon's console rooms on one container, on a port of loopback."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from twisted.internet import reactor as _reactor
from twisted.internet.defer import ensureDeferred
from twisted.web.resource import Resource
from twisted.web.server import Site

from stellarstack.api.websocket import ConsoleEndpoint
from stellarstack.config import ConsoleConfig, DockerConfig
from stellarstack.console.consoles import Consoles
from stellarstack.console.seats import Seating
from stellarstack.core.claims import Claims
from stellarstack.core.messages import Event, Json, Origin
from stellarstack.core.records import ServerStatus
from stellarstack.docker.engine import DockerEngine
from stellarstack.tasks import Tasks

reactor: Any = _reactor
SERVER = "bench"


class Everything:
    """What the rooms need of others: a bus that forgets, one server, one token."""

    async def emit(self, *events: Event) -> None: ...

    def publish(self, event: Event) -> None:
        event.encode()

    def listen(self, listener: Callable[[str, bytes], None]) -> Callable[[], None]:
        return lambda: None

    def status_of(self, server_id: str) -> ServerStatus | None:
        return ServerStatus.RUNNING if server_id == SERVER else None

    def name_of(self, server_id: str) -> str | None:
        return server_id

    async def receive(self, raw: bytes, origin: Origin, entry_id: str | None = None) -> None:
        pass

    def listing(self) -> Sequence[Mapping[str, Json]]:
        return []

    async def verify(self, token: str) -> Claims:
        now = time.time()
        return Claims("usr", SERVER, frozenset({"console.read", "console.write"}), now, now + 86400, token)


async def serve(folder: str, container: str) -> None:
    others, tasks, config = Everything(), Tasks(), ConsoleConfig(input_messages_per_second=100_000)
    engine = DockerEngine(reactor=reactor, config=DockerConfig())
    consoles = Consoles(engine=engine, directory=Path(folder), config=config, bus=others, node_id="node_bench",
                        reactor=reactor, tasks=tasks)  # fmt: skip
    endpoint = ConsoleEndpoint(
        consoles=consoles, directory=others, tokens=others, config=config, node_id="node_bench", bus=others,
        intake=others, typed_lines=lambda *_: None, clock=reactor, now=time.time, tasks=tasks,
        seats=Seating(config=config, now=time.time),
    )  # fmt: skip
    console = await consoles.open(SERVER, ServerStatus.RUNNING)
    await console.attach(container)
    await engine.start(container)
    root = Resource()
    root.putChild(b"console", endpoint.resource())
    port = reactor.listenTCP(0, Site(root), interface="127.0.0.1", backlog=1024)
    print(port.getHost().port, flush=True)


if __name__ == "__main__":
    started = ensureDeferred(serve(*sys.argv[1:3]))
    started.addErrback(lambda failure: (failure.printTraceback(), reactor.stop()))
    reactor.run()
