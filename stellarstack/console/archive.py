"""The past of one console: searched line by line, newest first, and handed out whole (PROTOCOL 9)."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

from twisted.internet.interfaces import IReactorTime

from stellarstack.console.download import CastDownload, TextDownload, Walk
from stellarstack.console.notes import Notes
from stellarstack.console.scrollback import Scrollback
from stellarstack.console.threads import InThread
from stellarstack.console.times import Mark
from stellarstack.core.line_search import FoundLine, LineMatcher
from stellarstack.core.streams import orphans
from stellarstack.viewing import Download, DownloadFormat, DownloadRequest, SearchMatch, SearchPage, SearchRequest

_SLICE_FIRST, _SLICE_MOST = 65536, 256 * 1024  # bytes looked through in one go: some milliseconds of a thread
_WORK_MOST = 10.0  # seconds of one search


class Archive:
    """See ConsoleArchive. `notes` are read when a request comes."""

    def __init__(
        self, *, server_id: str, scrollback: Scrollback, notes: Notes, clock: IReactorTime, in_thread: InThread
    ) -> None:  # fmt: skip
        self._server_id = server_id
        self._scrollback = scrollback
        self._notes = notes
        self._clock = clock
        self._in_thread = in_thread

    # ---------------------------------------------------------------- search

    async def search(self, request: SearchRequest) -> SearchPage:
        """See ConsoleArchive.search. A line longer than a slice (256 KiB) is searched in pieces."""
        end = self._scrollback.end
        at = end if request.before is None else min(request.before, end)
        until = self._clock.seconds() + _WORK_MOST
        size, matches = _SLICE_FIRST, list[SearchMatch]()
        while at > self._scrollback.first and len(matches) < request.limit and self._clock.seconds() < until:
            start, data = await self._slice(at, size)
            found = await self._look(request.matcher, data, request.limit - len(matches))
            matches += await self._dated(start, start + len(data), found)
            at = min(start, at - 1)
            size = min(size * 2, _SLICE_MOST)
        if len(matches) >= request.limit:
            at = matches[-1].offset
        first = self._scrollback.first
        return SearchPage(matches, first, self._scrollback.end, at if at > first else None)

    async def _slice(self, end: int, size: int) -> tuple[int, bytes]:
        """Whole lines that end at `end`, about `size` bytes of them, and where they begin."""
        first = self._scrollback.first
        start = max(first, end - size)
        begins, data = await self._scrollback.read_back(start, end)
        if begins <= first or begins > start:
            return begins, data
        newline = data.find(b"\n", 0, len(data) - 1)
        skip = newline + 1 if newline >= 0 else orphans(data)
        return begins + skip, data[skip:]

    async def _look(self, matcher: LineMatcher, data: bytes, most: int) -> Sequence[FoundLine]:
        found = await self._in_thread(matcher.search, data, most)
        assert isinstance(found, list)
        return found

    async def _dated(self, start: int, end: int, found: Sequence[FoundLine]) -> list[SearchMatch]:
        times = await self._scrollback.times(start, end) if found else []
        offsets = [offset for offset, _ in times]
        return [SearchMatch(start + line.at, line.text, _when(start + line.at, offsets, times)) for line in found]

    # ---------------------------------------------------------------- download

    def download(self, request: DownloadRequest) -> Download:
        """See ConsoleArchive.download."""
        start = request.start if request.start is not None else self._scrollback.first
        if request.last_run and self._notes.runs:
            start = max(start, self._notes.runs[-1].offset)
        end = self._scrollback.end
        to = end if request.to is None else min(request.to, end)
        walk = Walk(scrollback=self._scrollback, notes=self._notes, start=min(start, to), to=to)
        if request.format is DownloadFormat.TEXT:
            return TextDownload(walk, self._in_thread)
        return CastDownload(walk, self._in_thread, scrollback=self._scrollback, title=self._server_id)


def _when(offset: int, offsets: Sequence[int], times: Sequence[Mark]) -> float | None:
    at = bisect_right(offsets, offset)
    return times[at - 1][1] if at else None
