"""When the bytes of a console came: marks (offset, Unix seconds), sparse and bounded, beside each segment on disk.

A mark is made where 100 ms or more have passed since the last, so that a flood costs ten a second and slow output is
told to the piece. Where a file of marks is full every second one goes: what is old is told less exactly.
"""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TypeAlias

MARK_EVERY = 0.1  # seconds
MARKS_MOST = 16384  # in one file
_MARK = struct.Struct("<Id")  # offset in the segment, Unix seconds

Mark: TypeAlias = tuple[int, float]


class MarkTaker:
    """The marks of bytes that are not on disk yet."""

    __slots__ = ("_last", "marks")

    def __init__(self) -> None:
        self._last = float("-inf")
        self.marks: list[Mark] = []

    def take(self, offset: int, now: float) -> None:
        """Bytes come at `offset`."""
        if 0 <= now - self._last < MARK_EVERY:
            return
        self._last = now
        self.marks.append((offset, now))
        if len(self.marks) > MARKS_MOST:
            del self.marks[1::2]

    def forget(self, before: int) -> None:
        """What lies before this offset is on disk, or lost; the mark that tells of the byte itself stays."""
        while len(self.marks) > 1 and self.marks[1][0] <= before:
            del self.marks[0]


def covering(marks: Sequence[Mark], start: int, end: int) -> list[Mark]:
    """Those that tell of [start, end): the last one at or before `start`, and all that follow before `end`."""
    first = max((at for at, (offset, _) in enumerate(marks) if offset <= start), default=0)
    return [mark for mark in marks[first:] if mark[0] < end]


def append_marks(path: Path, begin: int, marks: Iterable[Mark]) -> None:
    """Adds marks of the segment that begins at `begin`. A disk that takes none costs times, never output."""
    packed = b"".join(_MARK.pack(offset - begin, at) for offset, at in marks if offset >= begin)
    if not packed:
        return
    with contextlib.suppress(OSError):
        with path.open("ab") as file:
            size = file.tell()
            if size % _MARK.size:  # the rest of a write that failed
                size -= size % _MARK.size
                file.truncate(size)
            file.write(packed)
        if size + len(packed) > MARKS_MOST * _MARK.size:
            _thin(path, begin)


def _thin(path: Path, begin: int) -> None:
    kept = read_marks(path, begin)[::2]
    fresh = path.with_name(path.name + ".new")
    fresh.write_bytes(b"".join(_MARK.pack(offset - begin, at) for offset, at in kept))
    os.replace(fresh, path)


def read_marks(path: Path, begin: int) -> list[Mark]:
    """All marks of the segment that begins at `begin`, in order; what cannot be read is left out."""
    try:
        packed = path.read_bytes()
    except OSError:
        return []
    found: list[Mark] = []
    for offset, at in _MARK.iter_unpack(packed[: len(packed) - len(packed) % _MARK.size]):
        while (
            found and found[-1][0] >= begin + offset
        ):  # the later word counts: the earlier was of bytes that were lost
            found.pop()
        if 0 < at < 1e11:
            found.append((begin + offset, at))
    return found
