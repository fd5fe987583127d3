"""The fence around each server's share of the disk: project quota where the kernel keeps it, else measuring."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any, Protocol, TypeVar

from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.interfaces import IReactorTime
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger

from stellarstack.errors import StellarError
from stellarstack.files.labels import is_labelled, label_tree
from stellarstack.files.projects import Project, Projects, Values
from stellarstack.files.quota import LinuxKernel, ProjectQuota, Usage
from stellarstack.tasks import within

T = TypeVar("T")

NEAR = 0.8  # of its limit: from there on a server is measured more often
REPEAT = 300.0  # seconds after which one that is still over is told of again
LABEL_TIMEOUT = 900.0  # seconds for putting a tree into its project, which is once in its life
CALL_TIMEOUT = 30.0  # seconds for one question to the file system
BYTES_PER_FILE = 4096  # a project may hold one file or folder for each of these of its limit:
FEWEST_FILES = 10_000  # but so many at least. Only trees of empty files come near.


class Quota(Protocol):
    """What ProjectQuota offers; a test's own stands in for a kernel."""

    def close(self) -> None: ...

    def missing(self) -> str: ...

    def usage(self, project: int) -> Usage: ...

    def set_limit(self, project: int, space: int, files: int) -> None: ...

    def project_of(self, descriptor: int) -> int: ...

    def put_into(self, descriptor: int, project: int, *, folder: bool) -> None: ...


class Walks(Protocol):
    """Runs a walk over a tree in one of few threads: it may take minutes."""

    def __call__(self, work: Callable[[], bool], /) -> Deferred[bool]: ...


@dataclass(slots=True, eq=False)
class _Plot:
    """A server's share. `limit` in bytes, 0: none. `project`: that which the kernel holds, None where it does not."""

    root: Path
    limit: int
    project: int | None = None
    used: int | None = None
    told_at: float | None = None


class DiskFence:
    """`limit` before a server's files are written to, `forget` when it is deleted.

    `over(server_id, used, limit)`, in bytes, is told when a measurement finds a server above its limit, and again every
    five minutes for as long as it stays there. Where the kernel holds the limit that happens only to one who slipped
    out of his project.
    `walks`: threads for labelling whole trees; without it the reactor's own.
    Meets metrics.disk's Warden: whoever measures asks `count` first, and tells `measured` what came of it.
    """

    _log = Logger()

    def __init__(
        self, *, servers: Path, store: Values, reactor: Any, clock: IReactorTime,
        over: Callable[[str, int, int], None], quota: Callable[[Path], Quota] | None = None,
        walks: Walks | None = None,
    ) -> None:  # fmt: skip
        self._servers = servers
        self._projects = Projects(store)
        self._reactor = reactor
        self._clock = clock
        self._over = over
        self._open_quota = quota or _kernel_quota
        self._quota: Quota | None = None
        self._device = 0
        self._plots: dict[str, _Plot] = {}
        self._choosing = DeferredLock()
        self._labelling: set[Event] = set()
        self._walks: Walks = walks or self._defer

    # ------------------------------------------------------------------ its life

    async def start(self) -> None:
        """Finds out whether the file system of `servers` holds project quotas, and reads which numbers are given."""
        await self._projects.load()
        missing = await self._in_thread(self._find_quota)
        if missing:
            self._log.info("disk limits are kept by measuring: {missing}", missing=missing)
        else:
            self._log.info("disk limits are held by project quota")

    async def stop(self) -> None:
        """Ends a labelling under way: it is done anew at the server's next start. Limits in the kernel stay."""
        for ended in self._labelling:
            ended.set()
        quota, self._quota = self._quota, None
        if quota is not None:
            await self._in_thread(quota.close)

    @property
    def exact(self) -> bool:
        """Whether the kernel holds limits here."""
        return self._quota is not None

    def _find_quota(self) -> str:
        try:
            quota = self._open_quota(self._servers)
        except OSError as error:
            return f"{self._servers}: {error.strerror}"
        missing = quota.missing()
        if missing:
            quota.close()
            return missing
        self._device = os.stat(self._servers).st_dev
        self._quota = quota
        return ""

    # ------------------------------------------------------------------ limits

    async def limit(self, server_id: str, root: Path, limit_bytes: int) -> None:
        """From now on `root`, which is there, may take `limit_bytes` (0: any amount). Never fails: it then measures.

        The first time in a server's life it waits until the whole tree is in its project.
        """
        plot = self._plots.get(server_id)
        if plot is None or plot.root != root:
            plot = self._plots[server_id] = _Plot(root, 0)
        plot.limit, plot.told_at = limit_bytes, None
        if self._quota is None:
            return
        try:
            plot.project = await self._hold(self._quota, server_id, plot)
        except StellarError as error:
            plot.project = None
            self._log.warn("{server}'s disk limit is kept by measuring: {reason}", server=server_id, reason=str(error))

    async def forget(self, server_id: str, root: Path) -> None:
        """The server is deleted: its limit goes, and what is left of its tree belongs to no project. Never fails."""
        self._plots.pop(server_id, None)
        quota, project = self._quota, self._projects.get(server_id)
        if quota is None or project is None:
            return
        try:
            await self._in_thread(lambda: quota.set_limit(project.number, 0, 0))
            if await self._in_thread(lambda: root.is_dir() and not root.is_symlink()):
                await self._label(quota, 0, root)
            await self._projects.drop(server_id)
        except StellarError as error:
            self._log.warn("{server}'s project stays: {reason}", server=server_id, reason=str(error))

    def used(self, server_id: str) -> int | None:
        """Bytes on disk as last measured or counted; None: not yet."""
        plot = self._plots.get(server_id)
        return plot.used if plot is not None else None

    async def _hold(self, quota: Quota, server_id: str, plot: _Plot) -> int | None:
        """The kernel holds the limit from here on; answers the project. None: the root is on another file system."""
        if await self._in_thread(lambda: _device_of(plot.root)) != self._device:
            return None
        project = await self._project(quota, server_id, plot.root)
        number = project.number
        if not (project.whole and await self._in_thread(lambda: is_labelled(plot.root, number, quota))):
            # a tree that is over its limit already comes in all the same
            await self._in_thread(lambda: quota.set_limit(number, 0, 0))
            if await self._label(quota, number, plot.root):
                await self._projects.finished(server_id)
            else:
                self._log.warn("not all files of {server} are in its project", server=server_id)
        files = max(FEWEST_FILES, plot.limit // BYTES_PER_FILE) if plot.limit else 0
        await self._in_thread(lambda: quota.set_limit(number, plot.limit, files))
        plot.used = (await self._in_thread(lambda: quota.usage(number))).space
        return number

    async def _project(self, quota: Quota, server_id: str, root: Path) -> Project:
        await self._choosing.acquire()
        try:
            project = self._projects.get(server_id)
            if project is None:
                project = await self._in_thread(lambda: self._choose(quota, server_id, root))
                await self._projects.keep(server_id, project)
            return project
        finally:
            self._choosing.release()

    def _choose(self, quota: Quota, server_id: str, root: Path) -> Project:
        """The number that this root carries from before a loss of the database; else one that nobody's files carry."""
        derived = self._projects.choose(server_id, lambda _: False)
        if is_labelled(root, derived.number, quota):
            return derived
        return self._projects.choose(server_id, lambda number: quota.usage(number).files > 0)

    async def _label(self, quota: Quota, number: int, root: Path) -> bool:
        ended = Event()
        self._labelling.add(ended)
        try:
            walk = self._walks(lambda: label_tree(root, number, quota, ended))
            return await within(self._clock, LABEL_TIMEOUT, "labelling a server's files", walk)
        finally:
            self._labelling.discard(ended)
            ended.set()  # where the wait broke off, the thread ends too

    # ------------------------------------------------------------------ measuring

    def count(self, server_id: str) -> int | None:
        """What the kernel's books say, in bytes; None: they do not tell. For the measuring thread: blocks shortly."""
        plot, quota = self._plots.get(server_id), self._quota
        if plot is None or plot.project is None or quota is None:
            return None
        try:
            return quota.usage(plot.project).space
        except StellarError as error:
            self._log.debug("{server} is walked: {reason}", server=server_id, reason=str(error))
            return None

    def measured(self, server_id: str, used: int) -> bool:
        """Takes in a new figure; answers whether the server is near its limit or above it."""
        plot = self._plots.get(server_id)
        if plot is None:
            return False
        plot.used = used
        if not plot.limit:
            return False
        if used > plot.limit:
            self._tell(server_id, plot, used)
        else:
            plot.told_at = None
        return used > NEAR * plot.limit

    def room(self, server_id: str) -> int | None:
        """Bytes up to its limit that only measuring keeps, as of the last figure; None: nobody needs to look."""
        plot = self._plots.get(server_id)
        if plot is None or not plot.limit or plot.project is not None or plot.used is None:
            return None
        return max(0, plot.limit - plot.used)

    def _tell(self, server_id: str, plot: _Plot, used: int) -> None:
        now = self._clock.seconds()
        if plot.told_at is None or now - plot.told_at >= REPEAT:
            plot.told_at = now
            try:
                self._over(server_id, used, plot.limit)
            except Exception:
                self._log.failure("{server} is over its disk limit, and nothing came of it", server=server_id)

    async def _in_thread(self, work: Callable[[], T], patience: float = CALL_TIMEOUT) -> T:
        return await within(self._clock, patience, "work on the servers' file system", self._defer(work))

    def _defer(self, work: Callable[[], T]) -> Deferred[T]:
        return deferToThreadPool(self._reactor, self._reactor.getThreadPool(), work)


def _kernel_quota(path: Path) -> Quota:
    return ProjectQuota(path, LinuxKernel())


def _device_of(root: Path) -> int:
    try:
        return os.stat(root, follow_symlinks=False).st_dev
    except OSError as error:
        raise StellarError(f"{root}: {error.strerror}") from None
