"""Measures how much disk each server's folder takes, by one slow walk at a time in a thread of its own."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, get_native_id

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFromThreads, IReactorTime
from twisted.internet.task import LoopingCall
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.threadpool import ThreadPool

from stellarstack.tasks import Tasks

REST = 60.0  # seconds at least between two walks of one folder
REST_FACTOR = 20  # and at least so many times what the last walk took
DEEPEST = 100  # folders below one another; what lies deeper is not counted
MOST_ENTRIES = 5_000_000  # of one walk; what comes after is not counted
_PAUSE_EVERY = 256  # entries
_PAUSE = 0.002  # seconds
_LOWEST_PRIORITY = 19


@dataclass(slots=True, eq=False)
class _Folder:
    path: Path
    due: float
    ended: Event = field(default_factory=Event)


class DiskMeter:
    """Walks the folders that were added, over and over, with rests between. Symbolic links are not followed.

    `pool` is its own, with one thread at most: it takes that thread's priority down, and ends it at the stop.
    """

    _log = Logger()

    def __init__(self, *, clock: IReactorTime, reactor: IReactorFromThreads, pool: ThreadPool) -> None:
        self._clock = clock
        self._reactor = reactor
        self._pool = pool
        self._folders: dict[str, _Folder] = {}
        self._used: dict[str, int] = {}
        self._tasks = Tasks()
        self._walking: Deferred[object] | None = None
        self._loop = LoopingCall(self._tick)
        self._loop.clock = clock

    def start(self) -> None:
        self._pool.start()
        self._loop.start(1.0, now=False)

    async def stop(self) -> None:
        """Ends a walk under way, and the thread."""
        if self._loop.running:
            self._loop.stop()
        for server_id in list(self._folders):
            self.remove(server_id)
        if self._walking is not None:
            await self._walking
        if self._pool.started:
            self._pool.stop()

    def add(self, server_id: str, path: Path) -> None:
        """Measures from now on; at once where nothing is known yet."""
        self.remove(server_id)
        rest = REST if server_id in self._used else 0.0
        self._folders[server_id] = _Folder(path, self._clock.seconds() + rest)

    def remove(self, server_id: str) -> None:
        """Measures no more, and ends a walk under way. What is known stays known."""
        folder = self._folders.pop(server_id, None)
        if folder is not None:
            folder.ended.set()

    def forget(self, server_id: str) -> None:
        self.remove(server_id)
        self._used.pop(server_id, None)

    def used(self, server_id: str) -> int:
        """Bytes on disk as of the last walk; 0 before the first one ended."""
        return self._used.get(server_id, 0)

    def _tick(self) -> None:
        if self._walking is None:
            self._walking = self._tasks.spawn("disk walk", self._walk_due())
            if self._walking.called:
                self._walking = None

    async def _walk_due(self) -> None:
        try:
            while due := self._next_due():
                await self._walk(*due)
        finally:
            self._walking = None

    def _next_due(self) -> tuple[str, _Folder] | None:
        server_id, folder = min(self._folders.items(), key=lambda item: item[1].due, default=("", None))
        return (server_id, folder) if folder is not None and folder.due <= self._clock.seconds() else None

    async def _walk(self, server_id: str, folder: _Folder) -> None:
        began = self._clock.seconds()
        folder.due = float("inf")
        try:
            used = await deferToThreadPool(self._reactor, self._pool, disk_used, folder.path, folder.ended)
        except OSError as error:
            self._log.debug("{server} was not measured: {reason}", server=server_id, reason=str(error))
        else:
            if not folder.ended.is_set():
                self._used[server_id] = used
        now = self._clock.seconds()
        folder.due = now + max(REST, REST_FACTOR * (now - began))


def disk_used(path: Path, ended: Event, pause: Callable[[Event], object] = lambda ended: ended.wait(_PAUSE)) -> int:
    """Bytes on disk of all below `path` on its file system; hard links count once. Blocks for as long as it takes.

    Runs at the lowest priority, pauses often, and returns early once `ended` is set. OSError: `path` cannot be read.
    Each folder is opened from its parent's descriptor and never through a link, so a tenant who swaps folders for links
    leads it nowhere.
    """
    os.setpriority(os.PRIO_PROCESS, get_native_id(), _LOWEST_PRIORITY)
    return _Walk(ended, pause).run(path)


class _Walk:
    def __init__(self, ended: Event, pause: Callable[[Event], object]) -> None:
        self._ended = ended
        self._pause = pause
        self._bytes = 0
        self._entries = 0
        self._linked: set[int] = set()
        self._device = 0

    def run(self, path: Path) -> int:
        top = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        self._device = os.fstat(top).st_dev
        levels = [(top, self._scan(top))]
        try:
            while levels:
                descriptor, folders = levels[-1]
                if not folders or self._over():
                    os.close(levels.pop()[0])
                elif len(levels) < DEEPEST:
                    self._descend(levels, descriptor, folders.pop())
                else:
                    folders.clear()
        finally:
            for descriptor, _ in levels:
                os.close(descriptor)
        return self._bytes

    def _descend(self, levels: list[tuple[int, list[str]]], parent: int, name: str) -> None:
        try:
            child = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
        except OSError:
            return  # gone, swapped or not ours to read: it counts as its entry did
        levels.append((child, []))
        if os.fstat(child).st_dev == self._device:
            levels[-1] = (child, self._scan(child))

    def _scan(self, descriptor: int) -> list[str]:
        """Counts the entries of one folder; answers which of them are folders."""
        folders = []
        with os.scandir(descriptor) as entries:
            for entry in entries:
                self._entries += 1
                if self._entries % _PAUSE_EVERY == 0:
                    self._pause(self._ended)
                if self._over():
                    break
                try:
                    found = entry.stat(follow_symlinks=False)
                except OSError:
                    continue
                self._count(found)
                if stat.S_ISDIR(found.st_mode):
                    folders.append(entry.name)
        return folders

    def _count(self, found: os.stat_result) -> None:
        if found.st_nlink > 1 and not stat.S_ISDIR(found.st_mode):
            if found.st_ino in self._linked:
                return
            self._linked.add(found.st_ino)
        self._bytes += found.st_blocks * 512

    def _over(self) -> bool:
        return self._ended.is_set() or self._entries > MOST_ENTRIES
