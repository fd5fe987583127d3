"""Measures how much disk each server's folder takes, by one slow walk at a time in a thread of its own."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, get_native_id
from typing import Protocol, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFromThreads, IReactorTime
from twisted.internet.task import LoopingCall
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.threadpool import ThreadPool

from stellarstack.tasks import Tasks

T = TypeVar("T")

REST = 60.0  # seconds at least between two walks of one folder, where nothing else is asked for
REST_FACTOR = 20  # and at least so many times what the last walk took
NEAR_REST = 2.0  # seconds for one that is near its limit, or may be: the file system grew by all its room
NEAR_FACTOR = 4
WALK_EVERY = (
    20  # one in so many figures is walked even where the file system keeps books: a tenant may slip out of them
)
DEEPEST = 100  # folders below one another; what lies deeper is not counted
MOST_ENTRIES = 5_000_000  # of one walk; what comes after is not counted
_PAUSE_EVERY = 256  # entries
_PAUSE = 0.002  # seconds
_LOWEST_PRIORITY = 19


class Warden(Protocol):
    """Who keeps servers within their share of the disk."""

    def count(self, server_id: str) -> int | None:
        """Bytes as the file system's own books have them; None: walk. Called in the meter's thread, may block."""

    def measured(self, server_id: str, used: int) -> bool:
        """Told each new figure, in bytes; whether the server is near its limit."""

    def room(self, server_id: str) -> int | None:
        """Bytes that the server may still take before somebody must know; None: nobody waits for that."""


class NoWarden:
    """Meets Warden where there are no limits."""

    def count(self, server_id: str) -> int | None:
        return None

    def measured(self, server_id: str, used: int) -> bool:
        return False

    def room(self, server_id: str) -> int | None:
        return None


@dataclass(slots=True, eq=False)
class _Folder:
    """`may`: when it may be measured at the earliest. `filled`: what its file system held at the last measurement."""

    path: Path
    due: float
    may: float = 0.0
    filled: int | None = None
    figures: int = 0
    ended: Event = field(default_factory=Event)


class DiskMeter:
    """Walks the folders that were added, over and over, with rests between. Symbolic links are not followed.

    `rest` is that in seconds; it grows with what a walk takes. Near a limit it is two seconds, and a folder whose file
    system has grown by all the room that it had left is measured as soon. `pool` is its own, with one thread at most:
    it takes that thread's priority down, and ends it at the stop.
    """

    _log = Logger()

    def __init__(
        self, *, clock: IReactorTime, reactor: IReactorFromThreads, pool: ThreadPool, warden: Warden | None = None,
        rest: float = REST,
    ) -> None:  # fmt: skip
        self._clock = clock
        self._reactor = reactor
        self._pool = pool
        self._warden = warden or NoWarden()
        self._rest = rest
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
        rest = self._rest if server_id in self._used and self._warden.room(server_id) is None else 0.0
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
            await self._hasten()
            while due := self._next_due():
                await self._measure(*due)
        finally:
            self._walking = None

    async def _hasten(self) -> None:
        """Makes those due whose file system has grown by as much as they had room. Costs a call for each, no walk."""
        now = self._clock.seconds()
        waiting: dict[str, tuple[_Folder, int]] = {}
        for server_id, folder in self._folders.items():
            room = self._warden.room(server_id)
            if room is not None and folder.filled is not None and folder.may <= now < folder.due:
                waiting[server_id] = folder, folder.filled + room
        if not waiting:
            return
        paths = [folder.path for folder, _ in waiting.values()]
        fillings = await self._in_thread(lambda: [_filled(path) for path in paths])
        for (folder, most), filled in zip(waiting.values(), fillings, strict=True):
            if filled is not None and filled >= most:
                folder.due = now

    def _next_due(self) -> tuple[str, _Folder] | None:
        server_id, folder = min(self._folders.items(), key=lambda item: item[1].due, default=("", None))
        return (server_id, folder) if folder is not None and folder.due <= self._clock.seconds() else None

    async def _measure(self, server_id: str, folder: _Folder) -> None:
        began = self._clock.seconds()
        folder.due = float("inf")
        folder.figures += 1
        near = False
        try:
            folder.filled, used = await self._in_thread(lambda: self._figure(server_id, folder))
            if not folder.ended.is_set():
                self._used[server_id] = used
                near = self._warden.measured(server_id, used)
        except OSError as error:
            self._log.debug("{server} was not measured: {reason}", server=server_id, reason=str(error))
        finally:
            now = self._clock.seconds()
            folder.may = now + max(NEAR_REST, NEAR_FACTOR * (now - began))
            folder.due = folder.may if near else now + max(self._rest, REST_FACTOR * (now - began))

    def _figure(self, server_id: str, folder: _Folder) -> tuple[int | None, int]:
        """In the thread: what the file system held before, and what the folder takes."""
        filled = _filled(folder.path)
        if folder.figures % WALK_EVERY:
            counted = self._warden.count(server_id)
            if counted is not None:
                return filled, counted
        return filled, disk_used(folder.path, folder.ended)

    def _in_thread(self, work: Callable[[], T]) -> Deferred[T]:
        return deferToThreadPool(self._reactor, self._pool, work)


def _filled(path: Path) -> int | None:
    """Bytes taken on the file system of `path`, by whomever; None: it cannot be asked."""
    try:
        found = os.statvfs(path)
    except OSError:
        return None
    return (found.f_blocks - found.f_bfree) * found.f_frsize


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
