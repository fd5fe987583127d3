"""A process of its own with a node's console rooms on the real Docker Engine, for tests that kill it.

`python -m tests.console_child FOLDER CONTAINER [rejoin]` opens srv_1 on CONTAINER and prints its port.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.defer import ensureDeferred

from stellarstack.config import DockerConfig
from stellarstack.docker.engine import DockerEngine
from tests.console_rooms import Rooms

reactor: Any = _reactor


async def serve(folder: str, container: str, rejoin: bool) -> None:
    engine = DockerEngine(reactor=reactor, config=DockerConfig())
    rooms = Rooms(engine=engine, directory=Path(folder), reactor=reactor, now=time.time)
    rooms.tokens.add("good")
    console = await rooms.open()
    await console.attach(container, rejoin=rejoin)
    if not rejoin:
        await engine.start(container)
    port = reactor.listenTCP(0, rooms.site, interface="127.0.0.1")
    print(port.getHost().port, flush=True)


if __name__ == "__main__":
    started = ensureDeferred(serve(sys.argv[1], sys.argv[2], "rejoin" in sys.argv[3:]))
    started.addErrback(lambda failure: (failure.printTraceback(), reactor.stop()))
    reactor.run()
