"""What a console sends to its viewers: pieces of output and notices, each built once per encoding. Performs no I/O."""

from __future__ import annotations

from dataclasses import dataclass

from stellarstack.console.large_frames import LARGE, FramePages, LargeFrame
from stellarstack.core.frames import Encoding, binary_frame, binary_head, output_frame
from stellarstack.viewing import Frame

_ITEM_WEIGHT = 128  # what an item costs at least, in bytes


class Piece:
    """Output as it came: bytes [offset, end). `held` unfinished bytes before it belong to its text, `back` do not.

    `after_hole`: what came before it was shown to nobody, which a viewer is told by a `gap` up to here. `pages` are for
    its frames, where many are to get them.
    """

    __slots__ = ("_data", "_held", "_json", "_pages", "_raw", "after_hole", "back", "end", "offset", "timestamp")

    def __init__(
        self, offset: int, held: bytes, data: bytes, back: int, timestamp: float, pages: FramePages | None = None
    ) -> None:  # fmt: skip
        self.offset = offset
        self.end = offset + len(data)
        self.back = back
        self.timestamp = timestamp
        self.after_hole = False
        self._held = held
        self._data = data
        self._pages = pages
        self._raw: tuple[int, Frame | None] | None = None
        self._json: tuple[int, Frame | None] | None = None

    def shown(self, encoding: Encoding) -> tuple[int, Frame | None]:
        """Up to where a viewer has been shown the stream with its frame, and the frame, built at the first asking.

        None: it has nothing to show in this encoding.
        """
        if encoding is Encoding.RAW:
            raw = self._raw
            if raw is None:
                raw = self._raw = self.end, self._raw_frame()
            return raw
        if encoding is Encoding.PLAIN:
            return self.end, self._data or None
        if self._json is None:
            self._json = self.end - self.back, self._text_frame()
        return self._json

    def _raw_frame(self) -> Frame | None:
        data, size = self._data, len(self._data)
        if size >= LARGE:
            return LargeFrame(binary_head(size), data, self._pages)
        return binary_frame(data) if data else None

    def _text_frame(self) -> Frame | None:
        whole = self._held + self._data if self._held else self._data
        whole = whole[: len(whole) - self.back] if self.back else whole
        if not whole:
            return None
        start = self.offset - len(self._held)
        frame = output_frame(whole.decode("utf-8", "replace"), start, start + len(whole), self.timestamp)
        return frame if self._pages is None or len(frame) < LARGE else LargeFrame(b"", frame, self._pages)

    def before(self, encoding: Encoding) -> int:
        """The offset of the first byte that a viewer is shown by this."""
        return self.offset - len(self._held) if encoding is Encoding.JSON else self.offset

    @property
    def weight(self) -> int:
        _, text = self._json or (0, None)
        return _ITEM_WEIGHT + max(len(self._data), len(text or b""))


@dataclass(frozen=True, slots=True)
class Notice:
    """A frame for every viewer, and its like for a bare terminal; `stats`: only for those who may read stats.

    `in_past`: replay finds it by itself when it comes to its place.
    """

    text: bytes
    plain: bytes = b""
    stats: bool = False
    in_past: bool = False

    def frame(self, encoding: Encoding) -> bytes:
        return self.plain if encoding is Encoding.PLAIN else self.text

    @property
    def weight(self) -> int:
        return _ITEM_WEIGHT + len(self.text)
