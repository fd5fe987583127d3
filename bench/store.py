"""How fast the store commits, and what it costs the reactor: `python -m bench.store [FOLDER]`.

Prints calls a second over one, 100 and 1000 concurrent callers, the same beside a reactor that is busy otherwise, and
the share of the reactor's own CPU. FOLDER (default: the temporary folder) decides which disk is measured.
"""

from __future__ import annotations

import sys
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import LoopingCall

from stellarstack.core.messages import Command, Event, Json, Origin
from stellarstack.store.sqlite_store import SqliteStore

Row = tuple[str, int, int, Callable[[SqliteStore, int], Awaitable[Any]]]


def event(number: int, kind: str = "server.status") -> Event:
    fields: dict[str, Json] = {"serverId": "srv_8f2k", "nodeId": "node_bench", "n": number, "timestamp": time.time()}
    return Event(kind, fields, durable=True)


async def append_one(store: SqliteStore, number: int) -> None:
    await store.append([event(number)])


async def append_many(store: SqliteStore, number: int) -> None:
    await store.append([event(number) for _ in range(100)])


async def command(store: SqliteStore, number: int) -> None:
    """A command's whole life: accept with its ack, begin, finish with its result."""
    wanted = Command(f"cmd-{number}", "server.start", {"serverId": "srv_8f2k", "n": number}, Origin.QUEUE)
    await store.accept(wanted, event(number, "command.ack"))
    await store.begin(wanted.id)
    await store.finish(wanted.id, event(number, "command.result"))


async def publish(store: SqliteStore, number: int) -> None:
    """One round of the publisher: 500 rows read, then delivered."""
    rows = await store.outbox_after(0, 500)
    await store.delivered(rows[-1].seq if rows else 0)


ROWS: list[Row] = [
    ("append, 1 caller", 1, 500, append_one),
    ("append, 100 callers", 100, 30_000, append_one),
    ("append, 1000 callers", 1000, 60_000, append_one),
    ("append of 100 events", 10, 1_000, append_many),
    ("command: accept, begin, finish", 200, 10_000, command),
    ("publisher: read and deliver 500", 1, 300, publish),
]


async def measure(store: SqliteStore, row: Row) -> tuple[float, float]:
    """Calls a second, and microseconds of the reactor's thread for each."""
    _, callers, calls, work = row

    async def caller(first: int) -> None:
        for number in range(first, calls, callers):
            await work(store, number)

    began, cpu = time.perf_counter(), time.thread_time()
    await gatherResults([Deferred.fromCoroutine(caller(first)) for first in range(callers)])
    return calls / (time.perf_counter() - began), (time.thread_time() - cpu) / calls * 1e6


def keep_busy() -> None:
    """Half of each 10 ms, in pure Python: the console of a flooding server, say."""
    until = time.perf_counter() + 0.005
    while time.perf_counter() < until:
        pass


async def main(reactor: Any, folder: str) -> None:
    print(f"{'':34}{'calls/s':>10}{'reactor us':>12}   beside a busy reactor")
    for row in ROWS:
        quiet = await round_of(reactor, folder, row)
        busy = LoopingCall(keep_busy)
        busy.start(0.01)
        loud = await round_of(reactor, folder, row)
        busy.stop()
        print(f"{row[0]:34}{quiet[0]:10.0f}{quiet[1]:12.1f}   {loud[0]:10.0f} ({loud[0] / quiet[0]:.2f})")
    print(f"threads: {threading.active_count()}")


async def round_of(reactor: Any, folder: str, row: Row) -> tuple[float, float]:
    path = Path(tempfile.mkdtemp(dir=folder)) / "daemon.sqlite"
    store = SqliteStore(path=path, node_id="node_bench", reactor=reactor)
    await store.open()
    if row[3] is publish:
        for _ in range(300):
            await store.append([event(n) for n in range(500)])
    found = await measure(store, row)
    await store.close()
    for left in path.parent.iterdir():
        left.unlink()
    path.parent.rmdir()
    return found


if __name__ == "__main__":
    from twisted.internet import reactor

    done = Deferred.fromCoroutine(main(reactor, sys.argv[1] if len(sys.argv) > 1 else tempfile.gettempdir()))
    done.addErrback(lambda failure: failure.printTraceback())
    done.addBoth(lambda _: reactor.callLater(0, reactor.stop))
    reactor.run()
