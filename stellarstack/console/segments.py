"""The scrollback of one server on disk: a folder of segments, each named by the offset of its first byte.

Everything here blocks and is called in threads. What is damaged is left out, never a reason not to start.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import Lock

from stellarstack.console.times import Mark, append_marks, covering, read_marks
from stellarstack.core.messages import Json
from stellarstack.core.streams import orphans

SEGMENTS = 8  # so many make up the whole; the oldest goes when a new one would be too much
_NAME = re.compile(r"\d{20}\.log", re.ASCII)
_BESIDE = re.compile(r"\d{20}\.times(\.new)?", re.ASCII)
_LOOK_AHEAD = 4096  # how much longer a segment may grow so that the next begins with a line
_NOTES = "console.json"


class Segments:
    """Bytes [first, end) of a console on disk, about `limit` of the newest. Safe to use from several threads."""

    def __init__(self, directory: Path, limit: int) -> None:
        self._directory = directory
        self._limit = limit
        self._size = max(1, limit // SEGMENTS)
        self._lock = Lock()
        self._sizes: dict[int, int] = {}  # first byte -> bytes, oldest first, without holes

    @property
    def first(self) -> int:
        return next(iter(self._sizes), 0)

    @property
    def end(self) -> int:
        return max((start + size for start, size in self._sizes.items()), default=0)

    def load(self, floor: int) -> None:
        """Finds what an earlier daemon kept. Offsets below `floor` were given out: they are not used again."""
        self._directory.mkdir(mode=0o750, parents=True, exist_ok=True)
        found = {int(entry.name[:20]): entry.stat().st_size for entry in self._entries()}
        newest = max((start + size for start, size in found.items()), default=0)
        kept: list[int] = []
        begins = newest if newest >= floor else -1
        for start in sorted(found, reverse=True):
            if start + found[start] == begins:
                kept.append(start)
                begins = start
            else:
                self._path(start).unlink(missing_ok=True)
        self._sizes = {start: found[start] for start in reversed(kept)}
        for entry in self._entries(_BESIDE):
            if int(entry.name[:20]) not in self._sizes or entry.name.endswith(".new"):
                Path(entry.path).unlink(missing_ok=True)

    def _entries(self, name: re.Pattern[str] = _NAME) -> list[os.DirEntry[str]]:
        with os.scandir(self._directory) as entries:
            return [entry for entry in entries if name.fullmatch(entry.name) and entry.is_file(follow_symlinks=False)]

    def write(self, offset: int, data: bytes, marks: Sequence[Mark] = ()) -> None:
        """Appends `data` at `offset`. What lies before a hole is given up. OSError: nothing of it may be kept.

        `marks` tell when the data came (console/times.py); those of what is kept already are not taken again.
        """
        with self._lock:
            if self._sizes and self.first <= offset < self.end:
                data, offset = data[self.end - offset :], self.end  # a write that was thought broken off had ended
            elif self._sizes and offset != self.end:
                self._drop(len(self._sizes))
            at = 0
            while at < len(data):
                start = self._open_segment(offset + at)
                cut = self._cut(data, at, self._size - self._sizes[start])
                fresh = not self._sizes[start]
                self._append(start, data[at:cut])
                self._append_marks(start, covering(marks, offset + at, offset + cut), offset + at, fresh=fresh)
                at = cut
            while len(self._sizes) > 1 and self.end - self.first > self._limit:
                self._drop(1)

    def _open_segment(self, offset: int) -> int:
        newest = next(reversed(self._sizes), None)
        if newest is None or self._sizes[newest] >= self._size:
            self._sizes[offset] = 0
            return offset
        return newest

    def _cut(self, data: bytes, at: int, room: int) -> int:
        """Where the segment ends in `data`: after a newline if one is near, else between two characters."""
        wanted = at + max(0, room)
        if wanted >= len(data):
            return len(data)
        newline = data.find(b"\n", max(at, wanted - 1), wanted + _LOOK_AHEAD)
        return (
            newline + 1 if newline >= 0 else wanted + max(1 if wanted == at else 0, orphans(data[wanted : wanted + 3]))
        )

    def _append(self, start: int, data: bytes) -> None:
        path = self._path(start)
        with path.open("ab") as file:
            if file.tell() != self._sizes[start]:  # the rest of a write that failed
                file.truncate(self._sizes[start])
            file.write(data)
        self._sizes[start] += len(data)

    def _append_marks(self, start: int, marks: Sequence[Mark], offset: int, *, fresh: bool) -> None:
        if marks and marks[0][0] < offset:  # told of in what came before; a segment tells all by itself
            marks = [(offset, marks[0][1]), *marks[1:]] if fresh else marks[1:]
        append_marks(self._beside(start), start, marks)

    def _drop(self, count: int) -> None:
        for start in list(self._sizes)[:count]:
            self._path(start).unlink(missing_ok=True)
            self._beside(start).unlink(missing_ok=True)
            del self._sizes[start]

    def times(self, start: int, end: int) -> list[Mark]:
        """When the bytes [start, end) came: the last mark at or before `start`, and all that follow."""
        with self._lock:
            found: list[Mark] = []
            for begin, size in self._sizes.items():
                if begin + size > start and begin < end:
                    found += covering(read_marks(self._beside(begin), begin), start, end)
            return found

    def read(self, start: int, limit: int) -> tuple[int, bytes]:
        """Bytes from `start` on, at most `limit`, and where they begin: later where `start` is not kept any more."""
        with self._lock:
            start = max(start, self.first)
            parts: list[bytes] = []
            for begin, size in self._sizes.items():
                if begin + size > start and limit > 0:
                    part = self._part(begin, start - begin, min(limit, begin + size - start))
                    if not part:
                        break
                    parts.append(part)
                    start += len(part)
                    limit -= len(part)
            data = b"".join(parts)
            return start - len(data), data

    def _part(self, begin: int, at: int, length: int) -> bytes:
        try:
            with self._path(begin).open("rb") as file:
                file.seek(at)
                return file.read(length)
        except OSError:
            return b""

    def _path(self, start: int) -> Path:
        return self._directory / f"{start:020d}.log"

    def _beside(self, start: int) -> Path:
        return self._directory / f"{start:020d}.times"

    def remove(self) -> None:
        """The server is gone."""
        with self._lock:
            self._sizes.clear()
            shutil.rmtree(self._directory, ignore_errors=True)

    # ---------------------------------------------------------------- notes: what is known beside the bytes

    def notes(self) -> Mapping[str, Json]:
        """What `note` kept; nothing where it cannot be read."""
        try:
            found = json.loads((self._directory / _NOTES).read_bytes())
        except (OSError, ValueError, RecursionError):
            return {}
        return found if isinstance(found, dict) else {}

    def note(self, notes: Mapping[str, Json]) -> None:
        """Replaces the notes as a whole."""
        self._directory.mkdir(mode=0o750, parents=True, exist_ok=True)
        fresh = self._directory / (_NOTES + ".new")
        fresh.write_text(json.dumps(notes, separators=(",", ":")))
        fresh.replace(self._directory / _NOTES)
