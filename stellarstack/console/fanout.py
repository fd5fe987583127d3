"""Shows one console's output to all who watch it: a frame is built once, and nobody waits for anybody.

A viewer is *live* (each frame goes straight to its wire), *behind* (its wire is full; what comes meanwhile is kept
once for all who are behind, `cap` bytes at most, and a viewer that fell out of that gets one `gap`), or in *replay*
(it is shown scrollback, page by page as its wire takes it). The game is never paused (DESIGN, facts 20 and 21).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from enum import Enum
from itertools import islice
from typing import NamedTuple, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from stellarstack.console.large_frames import AMONG, LARGE, FramePages
from stellarstack.console.pieces import Notice, Piece
from stellarstack.core.flood import Ration
from stellarstack.core.frames import Encoding, binary_frame, gap_frame, output_frame
from stellarstack.core.questions import PastOutput
from stellarstack.core.streams import unfinished
from stellarstack.viewing import Frame, ViewerWire

_UNFINISHED_WAITS = 0.1  # seconds, PROTOCOL 8
_PAGE = 65536


class _State(Enum):
    REPLAY = "replay"
    LIVE = "live"
    BEHIND = "behind"
    GONE = "gone"


_LIVE = _State.LIVE  # looked up for each frame and viewer


class Past(Protocol):
    """Where replay takes its bytes from."""

    async def read(self, start: int, limit: int) -> tuple[int, bytes]:
        """As Scrollback.read."""

    def gap_after(self, offset: int) -> int | None:
        """The first place at or after `offset` where nobody knows what is missing."""

    def status_frame(self, encoding: Encoding) -> bytes: ...


class FanOutViewer:
    """One viewer's place in the stream; `at` is the offset up to which it has been shown."""

    __slots__ = (
        "_fanout", "_past", "_pumping", "_room", "_unknown_seen", "at", "encoding", "is_full", "next_item", "state",
        "stats", "straight", "wire",
    )  # fmt: skip

    def __init__(self, *, fanout: FanOut, wire: ViewerWire, encoding: Encoding, stats: bool, at: int) -> None:
        self._fanout = fanout
        self.wire = wire
        self.straight = wire.straight()
        self.encoding = encoding
        self.stats = stats
        self.at = at
        self.state = _State.REPLAY
        self._past = PastOutput(fanout.newest(encoding))  # for a bare terminal, which answers what it is asked
        self.next_item = 0
        self.is_full = False
        self._pumping = False
        self._room: Deferred[None] | None = None
        self._unknown_seen: int | None = None  # a gap of unknown size that it was told of, and its place

    # ---------------------------------------------------------------- told by its wire

    def full(self) -> None:
        self.is_full = True

    def free(self) -> None:
        self.is_full = False
        if self._room is not None:
            room, self._room = self._room, None
            room.callback(None)
        elif self.state is _State.BEHIND and not self._pumping:
            self._pump()

    def tell_gap(self, start: int, *, known: bool = True) -> None:
        """Before anything is shown: what it asked for from `start` on is not kept any more, or not known to be."""
        self._show_gap(start, self.at if known else None)
        self._unknown_seen = None if known else self.at  # told now, where it is not known what is missing

    def tell(self, text: bytes, plain: bytes) -> None:
        """A frame that has no place in the stream."""
        self.wire.write(plain if self.encoding is Encoding.PLAIN else text)

    def leave(self) -> None:
        if self.state is _State.GONE:
            return
        self.state = _State.GONE
        self._fanout.left(self)
        if self._room is not None:
            room, self._room = self._room, None
            room.callback(None)

    # ---------------------------------------------------------------- told by the fan-out

    def take(self, item: Piece | Notice, number: int) -> bool:
        """A new item; answers whether it must be kept for this viewer."""
        if self.state is _LIVE:
            if not self.is_full:
                self._show(item)
                return False
            self.state, self.next_item = _State.BEHIND, number
        elif self.state is _State.REPLAY and isinstance(item, Notice) and not item.in_past:
            if item.stats and self.is_full:
                return False  # the next figures come in a second
            self._show(item)
        return self.state is _State.BEHIND

    def _show(self, item: Piece | Notice) -> None:
        frame: Frame | None
        if isinstance(item, Piece):
            if item.after_hole:
                self._step_over(item.before(self.encoding))
            self.at, frame = item.shown(self.encoding)
        elif item.stats and not self.stats:
            return
        else:
            frame = item.frame(self.encoding) or None
        if frame is not None:
            self.straight(frame)

    def _step_over(self, to: int) -> None:
        """It is not shown what lies before `to`."""
        if to > self.at:
            self._show_gap(self.at, to)
            self.at = to

    def _show_gap(self, start: int, to: int | None) -> None:
        if held := self._past.break_off():
            self.wire.write(held)
        self.wire.write(gap_frame(start, to, self.encoding))

    def _pump(self) -> None:
        """There is room again: on with what was kept, or over what was not."""
        self._pumping = True
        try:
            if self.next_item < self._fanout.oldest_kept:
                self._skip_to_kept()
            while self.state is _State.BEHIND and not self.is_full:
                item = self._fanout.kept(self.next_item)
                if item is None:
                    self.state = _State.LIVE
                    break
                self.next_item += 1
                self._show(item)
        finally:
            self._pumping = False

    def _skip_to_kept(self) -> None:
        """It was too slow for what is kept for those behind: one gap over the oldest, and on with the rest."""
        self.next_item = self._fanout.oldest_kept
        self._step_over(self._fanout.start_of(self.next_item, self.encoding))
        self.wire.write(self._fanout.past.status_frame(self.encoding))

    def _jump(self) -> None:
        self._step_over(self._fanout.newest(self.encoding))
        self.wire.write(self._fanout.past.status_frame(self.encoding))
        self.state = _State.LIVE

    # ---------------------------------------------------------------- replay

    async def replay(self) -> None:
        """Shows scrollback from `at` on, until there is nothing more to read: then the viewer is live."""
        asked_for = self._fanout.newest(self.encoding)
        while self.state is _State.REPLAY:
            if self.is_full:
                self._room = Deferred()
                await self._room
                continue
            newest = self._fanout.newest(self.encoding)
            if self.at >= asked_for and (newest - self.at > self._fanout.cap or self._fanout.withholds):
                return self._jump()
            unknown = self._fanout.past.gap_after(self.at)
            if unknown == self.at and self._unknown_seen != unknown:
                self._unknown_seen = unknown
                self._show_gap(self.at, None)
                continue
            if unknown == self.at:
                unknown = self._fanout.past.gap_after(self.at + 1)
            if self.at >= newest:
                self.state = _State.LIVE
                return None
            limit = min(_PAGE, newest - self.at, (newest if unknown is None else unknown) - self.at)
            start, data = await self._fanout.past.read(self.at, limit)
            if self.state is _State.REPLAY:
                self._show_page(start, data[: max(0, newest - start)], unknown)
        return None

    def _show_page(self, start: int, data: bytes, unknown: int | None) -> None:
        if start > self.at:
            self._step_over(start)
            return  # and read again: what follows may have a limit of its own
        if self.encoding is not Encoding.JSON:
            shown = binary_frame(data) if self.encoding is Encoding.RAW else self._past.show(self.at, data)
            self.at += len(data)
            if shown:
                self.wire.write(shown)
            return
        back = unfinished(data)
        final = self.at + len(data) in (self._fanout.newest(self.encoding), unknown)
        if back and back < len(data) and not final:
            data = data[: len(data) - back]
        start, self.at = self.at, self.at + len(data)
        self.wire.write(output_frame(data.decode("utf-8", "replace"), start, self.at, self._fanout.now()))


class Bounds(NamedTuple):
    """`cap`: bytes kept for those whose wire is full. `rate`: bytes a second that are shown at all, 0 where that is
    not bounded; the rest of a second is one hole, which `gap` tells.
    """

    cap: int
    rate: int = 0


class FanOut:
    """All viewers of one console. `pages`: of frames that many of them get."""

    def __init__(
        self, *, past: Past, bounds: Bounds, clock: IReactorTime, now: Callable[[], float], end: int, pages: FramePages
    ) -> None:  # fmt: skip
        self.past = past
        self.cap = bounds.cap
        self.now = now
        self._clock = clock
        self._pages = pages
        self._end = end
        self._held = b""
        self._held_timer: IDelayedCall | None = None
        self._ration = Ration(bounds.rate, clock.seconds()) if bounds.rate else None
        self._hole_timer: IDelayedCall | None = None  # there is a hole at the end of what was shown
        self._viewers: tuple[FanOutViewer, ...] = ()
        self._items: deque[tuple[Piece | Notice, int]] = deque()  # and what each weighed when it came
        self._items_weight = 0
        self._number = 0  # of the next item

    def __len__(self) -> int:
        return len(self._viewers)

    # ---------------------------------------------------------------- output

    def output(self, data: bytes) -> None:
        """The next bytes of the terminal."""
        tail = self._held + data[-4:] if len(data) < 4 else data[-4:]
        back = unfinished(tail) if tail[-1] >= 0x80 else 0
        pages = self._pages if len(data) >= LARGE and len(self._viewers) >= AMONG else None
        piece = Piece(self._end, self._held, data, back, self.now(), pages)
        self._end += len(data)
        self._held = tail[len(tail) - back :] if back else b""
        if self._ration is None or self._granted(self._ration, len(data)):
            self._send_piece(piece)
        if self._held or self._held_timer is not None:
            self._wait_for_rest(fresh=True)

    def _granted(self, ration: Ration, size: int) -> bool:
        now = self._clock.seconds()
        if ration.take(size, now):
            return True
        if self._hole_timer is None:
            self._hole_timer = self._clock.callLater(ration.until - now, self._end_hole)
        return False

    def _send_piece(self, piece: Piece) -> None:
        if self._hole_timer is not None:
            piece.after_hole = True
            self._close_hole()
        self._send(piece)

    def _end_hole(self) -> None:
        """Nothing came after the hole so far: it is told all the same."""
        if not self._held:  # else the unfinished character is shown next, and tells it
            self._send_piece(Piece(self._end, b"", b"", 0, self.now()))

    def _close_hole(self) -> None:
        if self._hole_timer is not None and self._hole_timer.active():
            self._hole_timer.cancel()
        self._hole_timer = None

    @property
    def withholds(self) -> bool:
        """Whether what comes is shown to nobody until the second is over."""
        return self._hole_timer is not None

    def _wait_for_rest(self, *, fresh: bool) -> None:
        if self._held_timer is not None and fresh:
            self._held_timer.cancel()
            self._held_timer = None
        if self._held and self._held_timer is None:
            self._held_timer = self._clock.callLater(_UNFINISHED_WAITS, self.flush)

    def flush(self) -> None:
        """Shows an unfinished character as it is: it waited long enough, or nothing comes any more."""
        if self._held_timer is not None and self._held_timer.active():
            self._held_timer.cancel()
        self._held_timer = None
        if self._held:
            held, self._held = self._held, b""
            self._send_piece(Piece(self._end, held, b"", 0, self.now()))

    def notice(self, text: bytes, plain: bytes = b"", *, stats: bool = False) -> None:
        """A frame for every viewer; `plain` is shown to bare terminals instead."""
        self._send(Notice(text, plain, stats))

    def announce(self, text: bytes, plain: bytes) -> None:
        """As `notice`, past the stream: those whose wire is full get it as well, so it must be rare."""
        for viewer in self._viewers:
            viewer.tell(text, plain)

    def unknown_gap(self) -> None:
        """Nobody knows what is missing here; output goes on."""
        self.flush()
        if self.withholds:
            self._end_hole()
        plain = gap_frame(self._end, None, Encoding.PLAIN)
        self._send(Notice(gap_frame(self._end, None), plain, in_past=True))

    def _send(self, item: Piece | Notice) -> None:
        keep = False
        piece = item if isinstance(item, Piece) and not item.after_hole else None
        encoding = None
        for viewer in self._viewers:
            if piece is not None and viewer.state is _LIVE and not viewer.is_full:
                # What `take` does, without its calls: of a hundred viewers of a flood nearly all are here each time.
                if viewer.encoding is not encoding:
                    encoding = viewer.encoding
                    at, frame = piece.shown(encoding)
                viewer.at = at
                if frame is not None:
                    viewer.straight(frame)
            elif viewer.take(item, self._number):
                keep = True
        self._number += 1
        if keep:
            self._keep(item)
        elif self._items:
            self._items.clear()
            self._items_weight = 0

    def _keep(self, item: Piece | Notice) -> None:
        self._items.append((item, item.weight))
        self._items_weight += item.weight
        behind = [viewer.next_item for viewer in self._viewers if viewer.state is _State.BEHIND]
        needed = min(behind, default=self._number)  # one that is too far behind goes on with the oldest there is
        while self._items and (self._items_weight > self.cap or self.oldest_kept < needed):
            self._items_weight -= self._items.popleft()[1]

    @property
    def oldest_kept(self) -> int:
        """The number of the oldest item that is kept."""
        return self._number - len(self._items)

    def kept(self, number: int) -> Piece | Notice | None:
        """An item that is kept; None: it is still to come."""
        return self._items[number - self.oldest_kept][0] if number < self._number else None

    def start_of(self, number: int, encoding: Encoding) -> int:
        """Where the stream goes on with this item, which is kept."""
        for item, *_ in islice(self._items, number - self.oldest_kept, None):
            if isinstance(item, Piece):
                return item.before(encoding)
        return self.newest(encoding)

    def newest(self, encoding: Encoding) -> int:
        """The end of the stream as a viewer of this encoding sees it: at a character's border in JSON."""
        return self._end - len(self._held) if encoding is Encoding.JSON else self._end

    # ---------------------------------------------------------------- viewers

    def join(self, wire: ViewerWire, encoding: Encoding, stats: bool, at: int) -> FanOutViewer:
        """A new viewer, in replay from `at` on: `replay` is to be run."""
        viewer = FanOutViewer(fanout=self, wire=wire, encoding=encoding, stats=stats, at=at)
        self._viewers = (*self._viewers, viewer)
        return viewer

    def left(self, viewer: FanOutViewer) -> None:
        self._viewers = tuple(other for other in self._viewers if other is not viewer)

    def close(self, code: int, reason: str) -> None:
        """The console is gone."""
        for viewer in self._viewers:
            viewer.leave()
            viewer.wire.close(code, reason)
        self._close_hole()
        if self._held_timer is not None and self._held_timer.active():
            self._held_timer.cancel()
