"""The memory of one console: its newest bytes in RAM, about `limit` on disk, every byte with its offset for good."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import DeferredLock
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from stellarstack.console.packing import Packing
from stellarstack.console.recent import Recent
from stellarstack.console.segments import Segments
from stellarstack.console.threads import InThread
from stellarstack.console.times import Mark, MarkTaker, covering
from stellarstack.core.streams import orphans
from stellarstack.tasks import Tasks, sleep

RECENT = 256 * 1024  # bytes always in memory
_BATCH = 4 << 20  # unsaved bytes that are written at once
_BATCH_AFTER = 0.1  # seconds that others wait
_BACKLOG, _BACKLOG_FAILING = 12 << 20, 1 << 20  # unsaved bytes at most; above, the oldest are given up
GIVEN_OUT = _BACKLOG + RECENT  # viewers may have seen so many bytes more than a daemon that died had on disk
_LOOK_BACK = 65536  # bytes in which a line's start is looked for
_RETRY_FIRST, _RETRY_MOST = 1.0, 30.0


class Scrollback:
    """Bytes [first, end). `append` never blocks; a thread writes them in batches."""

    _log = Logger()

    def __init__(
        self, *, server_id: str, segments: Segments, clock: IReactorTime, tasks: Tasks, in_thread: InThread,
        now: Callable[[], float], packing: DeferredLock,
    ) -> None:  # fmt: skip
        self._server_id = server_id
        self._segments = segments
        self._clock = clock
        self._tasks = tasks
        self._in_thread = in_thread
        self._now = now
        self._times = MarkTaker()
        self._packing = Packing(
            server_id=server_id, segments=segments, clock=clock, tasks=tasks, in_thread=in_thread, turn=packing
        )  # fmt: skip
        self._recent = Recent(0)
        self._saved = 0  # up to here it is on disk
        self._first = 0
        self._writing = False
        self._timer: IDelayedCall | None = None
        self._retry = 0.0  # seconds; 0 while the disk takes what it is given
        self._closed = False
        self.end = 0

    @property
    def first(self) -> int:
        """The oldest byte kept."""
        return self._first

    async def load(self, floor: int) -> None:
        """Finds what an earlier daemon kept; offsets go on from there, never below `floor`."""
        try:
            await self._in_thread(self._segments.load, floor)
            start, recent = self._segments.first, b""
            if self._segments.end > start:
                _, recent = await self._read(max(start, self._segments.end - RECENT), RECENT)
        except OSError as error:
            self._log.warn("scrollback of {server} cannot be read: {reason}", server=self._server_id, reason=str(error))
            start, recent = floor, b""
        self._saved = self.end = max(floor, self._segments.end)
        if len(recent) < min(RECENT, self.end - start):
            recent = b""
        self._recent = Recent(self.end - len(recent), recent)
        self._first = start if self._segments.end == self.end and self._segments.end > start else self.end
        self._packing.look()

    async def _read(self, start: int, limit: int) -> tuple[int, bytes]:
        found = await self._in_thread(self._segments.read, start, limit)
        assert isinstance(found, tuple)
        return found

    def append(self, data: bytes) -> None:
        """The next bytes of the terminal."""
        self._times.take(self.end, self._now())
        self._recent.append(data)
        self.end += len(data)
        unsaved = self.end - self._saved
        if unsaved > (_BACKLOG_FAILING if self._retry else _BACKLOG):
            self._give_up_oldest()
        self._recent.trim(min(self.end - RECENT, self._saved))
        if self._writing or self._retry or self._closed:
            return
        if unsaved >= _BATCH:
            self._write()
        elif self._timer is None:
            self._timer = self._clock.callLater(_BATCH_AFTER, self._write)

    def _give_up_oldest(self) -> None:
        self._recent.cut(self.end - RECENT)
        self._first = self._saved = self._recent.start
        self._times.forget(self._saved)
        self._log.warn(
            "the disk is too slow for the scrollback of {server}: its past is given up", server=self._server_id
        )

    def _write(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None
        if not self._writing and self.end > self._saved:
            self._writing = True
            self._tasks.spawn("scrollback", self._write_batch())

    async def _write_batch(self) -> None:
        start, end = self._saved, self.end
        try:
            pieces = self._recent.pieces(start, end)
            await self._in_thread(self._segments.write, start, pieces, tuple(self._times.marks))
        except OSError as error:
            self._failed(error)
        else:
            self._retry = 0.0
            if self._saved >= start:
                self._saved = max(self._saved, end)
                self._times.forget(self._saved)
            if self._segments.end >= self._first:
                self._first = max(self._first, self._segments.first)
            self._packing.look()
        finally:
            self._writing = False
        unsaved = self.end - self._saved
        if unsaved and self._timer is None and not self._closed:
            delay = self._retry or (0 if unsaved >= _BATCH else _BATCH_AFTER)
            self._timer = self._clock.callLater(delay, self._write)

    def _failed(self, error: OSError) -> None:
        if not self._retry:
            self._log.error(
                "scrollback of {server} is not written: {reason}", server=self._server_id, reason=str(error)
            )
        self._retry = min(_RETRY_MOST, self._retry * 2 or _RETRY_FIRST)

    def recent(self, start: int, limit: int) -> bytes | None:
        """Bytes from `start` on, `limit` at most, where they are in memory; None where they are not."""
        return None if start < self._recent.start else self._recent.read(start, start + limit)

    def tail(self) -> bytes:
        """The newest bytes, up to 256 KiB."""
        return self._recent.read(self.end - RECENT, self.end)

    async def read(self, start: int, limit: int) -> tuple[int, bytes]:
        """Bytes from `start` on and where they begin (later, where `start` is not kept); `limit` at most, often fewer.

        None at all only where `start` is at the end.
        """
        start = max(start, self._first)
        found = self.recent(start, limit)
        if found is not None:
            return start, found
        try:
            begins, data = await self._read(start, min(limit, self._saved - start))
        except OSError:
            begins, data = start, b""
        if data and begins >= self._first:
            return begins, data
        start = max(start, self._recent.start)  # lost on the disk: what is in memory is all there is
        return start, self.recent(start, limit) or b""

    async def read_back(self, start: int, end: int) -> tuple[int, bytes]:
        """Of the bytes [start, end) the newest that follow one another, and where they begin; none: all are lost."""
        at = begins = max(start, self._first)
        end = min(end, self.end)
        parts: list[bytes] = []
        while at < end:
            found, part = await self.read(at, end - at)
            part = part[: max(0, end - found)]
            if not part:
                break
            if found > at:  # what was before it is lost
                begins, parts = found, []
            parts.append(part)
            at = found + len(part)
        return begins, b"".join(parts)

    async def line_start(self, size: int) -> int:
        """Where the newest `size` bytes are best begun: after a newline, or at a character's border."""
        end, first = self.end, self._first
        start = max(first, end - size)
        if start >= end or start == 0:
            return start
        begins, data = await self.read(start - (start > first), min(_LOOK_BACK, size + 1))
        if start == first or begins > start:
            return begins + orphans(data)
        newline = data.find(b"\n", 0, len(data) - 1)
        return begins + newline + 1 if newline >= 0 else start + orphans(data[start - begins :])

    async def page(self, before: int | None, limit: int) -> tuple[int, bytes]:
        """As `read_back`, the `limit` bytes that end at `before` (None: the end), from a character's border on."""
        end = self.end if before is None else min(before, self.end)
        begins, data = await self.read_back(max(self._first, end - limit), end)
        skip = orphans(data) if begins > self._first and len(data) > 3 else 0
        return begins + skip, data[skip:]

    async def times(self, start: int, end: int) -> list[Mark]:
        """When the bytes [start, end) came, in order: (offset, Unix seconds), the first mark at or before `start`.

        Where that is not known the first mark tells of a later byte.
        """
        found = await self._in_thread(self._segments.times, start, min(end, self._saved)) if start < self._saved else []
        assert isinstance(found, list)
        newest = found[-1][0] if found else -1
        return covering([*found, *(mark for mark in self._times.marks if mark[0] > newest)], start, end)

    async def save(self) -> bool:
        """Writes what is not yet on disk; for an ordered stop. False: the disk did not take it."""
        self.close()
        while self._writing:
            await sleep(self._clock, _BATCH_AFTER)
        if self.end > self._saved:
            self._writing = True
            await self._write_batch()
        return self._saved >= self.end

    def close(self) -> None:
        """No more writes by itself."""
        self._closed = True
        self._packing.close()
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None
