"""Scrollback handed out page by page: as plain text, or as a recording with its true times."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from stellarstack.console.notes import Notes, Sized
from stellarstack.console.scrollback import Scrollback
from stellarstack.console.threads import InThread
from stellarstack.core.asciicast import CastWriter
from stellarstack.core.terminal_text import TerminalText
from stellarstack.viewing import RunEvent

_PAGE = 256 * 1024


@dataclass(frozen=True, slots=True)
class Page:
    """Bytes of the terminal from `start` on."""

    start: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Lost:
    """Bytes [start, to) that are not kept; `to` None: nobody knows how many are missing at `start`."""

    start: int
    to: int | None


Step: TypeAlias = "Page | Lost | RunEvent | Sized"


class Walk:
    """Over the bytes [start, to) and what is noted of them, in order."""

    def __init__(self, *, scrollback: Scrollback, notes: Notes, start: int, to: int) -> None:
        self._scrollback = scrollback
        self._at = start
        self._to = to
        self.start = start
        self.size = notes.size_at(start)
        noted: list[tuple[int, Step]] = [(gap, Lost(gap, None)) for gap in notes.gaps if start <= gap <= to]
        noted += [(event.offset, event) for event in notes.events(start, to + 1)]
        noted += [(sized.offset, sized) for sized in notes.sizes if start < sized.offset < to]
        self._noted = sorted(noted, key=lambda step: step[0])

    async def step(self) -> Step | None:
        """What comes next; None: that was all."""
        if self._noted and self._noted[0][0] <= self._at:
            return self._noted.pop(0)[1]
        if self._at >= self._to:
            return None
        until = min(self._to, self._at + _PAGE, *(offset for offset, _ in self._noted[:1]))
        begins, data = await self._scrollback.read(self._at, until - self._at)
        start = self._at
        if begins > start or not data:
            self._at = min(begins, self._to) if begins > start else self._to
            return Lost(start, self._at)
        self._at += len(data)
        return Page(start, data)


class TextDownload:
    """See Download: lines of text; what is missing is told in a line of its own."""

    def __init__(self, walk: Walk, in_thread: InThread) -> None:
        self._walk = walk
        self._in_thread = in_thread
        self._text = TerminalText()
        self._over = False
        self._line_open = False

    async def next(self) -> bytes:
        """See Download.next."""
        piece = ""
        while not piece and not self._over:
            match await self._walk.step():
                case None:
                    piece, self._over = self._text.finish(), True
                case Page(data=data):
                    piece = str(await self._in_thread(self._text.feed, data))
                case Lost() as lost:
                    piece = self._text.finish()
                    ended = not piece.endswith("\n") if piece else self._line_open
                    piece += "\n" * ended + f"[{_told(lost)}]\n"
            self._line_open = not piece.endswith("\n") if piece else self._line_open
        return piece.encode()


class CastDownload:
    """See Download: an asciicast v2 with the times of the pieces, resizes, and marks for runs and what is missing."""

    def __init__(self, walk: Walk, in_thread: InThread, *, scrollback: Scrollback, title: str) -> None:
        self._walk = walk
        self._in_thread = in_thread
        self._scrollback = scrollback
        self._title = title
        self._cast: CastWriter | None = None
        self._over = False

    async def next(self) -> bytes:
        """See Download.next."""
        if self._cast is None:
            times = await self._scrollback.times(self._walk.start, self._walk.start + 1)
            self._cast = CastWriter(times[0][1] if times else await self._any_time())
            return self._cast.header(self._walk.size, self._title)
        piece = b""
        while not piece and not self._over:
            step = await self._walk.step()
            if step is None:
                self._over = True
                return self._cast.finish()
            piece = await self._written(self._cast, step)
        return piece

    async def _any_time(self) -> float:
        """Nobody knows when the first byte came: the first time that is known must do."""
        times = await self._scrollback.times(self._walk.start, self._scrollback.end)
        return times[0][1] if times else 0.0

    async def _written(self, cast: CastWriter, step: Step) -> bytes:
        match step:
            case Page(start, data):
                times = await self._scrollback.times(start, start + len(data))
                piece = await self._in_thread(cast.output, start, data, times)
                assert isinstance(piece, bytes)
                return piece
            case RunEvent():
                return cast.mark(_label(step), step.at)
            case Sized(size=size):
                return cast.resize(size)
        return cast.finish() + cast.mark(_told(step))


def _told(lost: Lost) -> str:
    if lost.to is None:
        return "some output is missing here"
    return f"{lost.to - lost.start} bytes are missing here: {lost.start} to {lost.to}"


def _label(event: RunEvent) -> str:
    code = "" if event.exit_code is None else f" with code {event.exit_code}"
    return event.event + code + (f" ({event.reason})" if event.reason == "oom" else "")
