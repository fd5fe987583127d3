"""What an earlier daemon left in the database, taken up at the start: whether it drained, the boot, the servers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from stellarstack.core.node_lifecycle import NodeLifecycle
from stellarstack.core.records import record_from
from stellarstack.errors import StellarError, StoreFailed
from stellarstack.facts import boot_id
from stellarstack.files.fence import DiskFence
from stellarstack.interfaces import JournalEntry, Store
from stellarstack.servers.drain import DRAINING_KEY
from stellarstack.servers.household import Household
from stellarstack.servers.surroundings import Surroundings
from stellarstack.servers.threads import ReactorThreads
from stellarstack.tasks import Tasks, sleep

BOOT_KEY = "host.boot"
STORE_RETRY = 2.0  # seconds


class Memory:
    """`alarm(severity, code, text)` hears of what cannot be read. `rebooted`: the host booted since."""

    _log = Logger()

    def __init__(
        self, *, store: Store, threads: ReactorThreads, clock: IReactorTime, tasks: Tasks,
        alarm: Callable[[str, str, str], None],
    ) -> None:  # fmt: skip
        self._store = store
        self._threads = threads
        self._clock = clock
        self._tasks = tasks
        self._alarm = alarm
        self.rebooted = False
        self.unfinished: Sequence[JournalEntry] = ()

    async def once_usable(self, read: Callable[[], Awaitable[None]]) -> None:
        """The start waits for a database that is locked or on a full disk; it does not give up (K16)."""
        while True:
            try:
                await read()
                return
            except StoreFailed as error:
                self._log.error("the start waits for the database: {reason}", reason=str(error))
            await sleep(self._clock, STORE_RETRY)

    async def read_values(self, lifecycle: NodeLifecycle) -> None:
        """Goes on draining where the last daemon did; learns whether the host was rebooted."""
        if await self._store.get_value(DRAINING_KEY) is True:
            lifecycle.drain("it was draining before the restart")
        boot = await self._threads(boot_id)
        last = await self._store.get_value(BOOT_KEY)
        self.rebooted = last is not None and last != boot
        await self._store.put_value(BOOT_KEY, boot)

    async def take_servers_in(self, household: Household, around: Surroundings, fence: DiskFence) -> None:
        """Every server with a record, and the commands that had no result."""
        self.unfinished = await self._store.unfinished()
        for server_id, document in (await self._store.servers()).items():
            try:
                server = await household.take_in(record_from(document), around)
            except (StellarError, KeyError, ValueError) as error:
                text = f"the record of server {server_id} cannot be read ({error}); its container is left alone"
                self._alarm("critical", "server_record_unreadable", text)
                continue
            if server.record.installed:
                limit = fence.limit(server_id, server.root, server.spec.disk_mb * 2**20)
                self._tasks.spawn("disk limit", limit)
