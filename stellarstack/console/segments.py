"""The scrollback of one server on disk: a folder of segments, each named by the offset of its first byte.

`.log` is a segment as it came, `.logz` one that is closed and old (console/packed.py), `.times` tell when its bytes
came (console/times.py). Everything here blocks and is called in threads. What is damaged is left out, never a reason
not to start.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import Lock

from stellarstack.atomic import remove_leftovers, sync_folder, write_atomically
from stellarstack.console.packed import pack, packed_size, read_packed
from stellarstack.console.times import Mark, append_marks, covering, read_marks
from stellarstack.core.messages import Json
from stellarstack.core.streams import orphans

SEGMENTS = 8  # so many make up the whole, or more where they would be larger than this:
_SEGMENT_MOST = 8 << 20
_PLAIN = re.compile(r"\d{20}\.log", re.ASCII)
_PACKED = re.compile(r"\d{20}\.logz", re.ASCII)
_TIMES = re.compile(r"\d{20}\.times", re.ASCII)
_UNFINISHED = re.compile(r"\d{20}\.(logz|times)\.new", re.ASCII)
_AT_ONCE = 512  # pieces; the kernel takes 1024
_LOOK_AHEAD = 4096  # how much longer a segment may grow so that the next begins with a line
_NOTES = "console.json"


class Segments:
    """Bytes [first, end) of a console on disk, about `limit` of the newest. Safe to use from several threads.

    `limit` counts bytes of the terminal: those that are packed take less of the disk.
    """

    def __init__(self, directory: Path, limit: int) -> None:
        self._directory = directory
        self._limit = limit
        self._size = max(1, min(limit // SEGMENTS, _SEGMENT_MOST))
        self._lock = Lock()
        self._packing = Lock()  # held while a segment is packed, so that the folder is not removed under it
        self._sizes: dict[int, int] = {}  # first byte -> bytes, oldest first, without holes
        self._packed: set[int] = set()
        self._plain: set[int] = set()  # those of which it is known that they are not worth it

    @property
    def first(self) -> int:
        return next(iter(self._sizes), 0)

    @property
    def end(self) -> int:
        newest = next(reversed(self._sizes.items()), None)
        return sum(newest) if newest is not None else 0

    @property
    def closed_end(self) -> int:
        """Where the newest segment begins, if there is one before it that could be packed; else 0."""
        if len(self._sizes) - 1 <= len(self._packed) + len(self._plain):
            return 0
        return next(reversed(self._sizes), 0)

    # ---------------------------------------------------------------- what an earlier daemon left

    def load(self, floor: int) -> None:
        """Finds what an earlier daemon kept. Offsets below `floor` were given out: they are not used again."""
        self._directory.mkdir(mode=0o750, parents=True, exist_ok=True)
        for name in self._names(_UNFINISHED):
            (self._directory / name).unlink(missing_ok=True)
        remove_leftovers([self._directory])
        found = self._found()
        self._sizes = _chain(found, floor, self._limit)
        self._packed &= set(self._sizes)
        for name in [*self._names(_PLAIN), *self._names(_PACKED), *self._names(_TIMES)]:
            start = int(name[:20])
            if start not in self._sizes or name.endswith(".log" if start in self._packed else ".logz"):
                (self._directory / name).unlink(missing_ok=True)

    def _found(self) -> dict[int, int | None]:
        """First byte -> bytes; None: it is packed, and damaged so that nobody knows."""
        found: dict[int, int | None] = {
            int(name[:20]): (self._directory / name).stat().st_size for name in self._names(_PLAIN)
        }
        for name in self._names(_PACKED):
            start, size = int(name[:20]), packed_size(self._directory / name)
            if start not in found or found[start] == size:  # packed as a whole, but the daemon died before it was told
                found[start] = size
                self._packed.add(start)
        return found

    def _names(self, form: re.Pattern[str]) -> list[str]:
        with os.scandir(self._directory) as entries:
            return [
                entry.name for entry in entries if form.fullmatch(entry.name) and entry.is_file(follow_symlinks=False)
            ]

    # ---------------------------------------------------------------- writing

    def write(self, offset: int, pieces: Sequence[bytes], marks: Sequence[Mark] = ()) -> None:
        """Appends `pieces` at `offset`. What lies before a hole is given up. OSError: nothing of them may be kept.

        `marks` tell when they came (console/times.py); those of what is kept already are not taken again.
        """
        with self._lock:
            if self._sizes and self.first <= offset < self.end:
                rest = b"".join(pieces)[self.end - offset :]
                pieces, offset = [rest] if rest else [], self.end  # a write that was thought broken off had ended
            elif self._sizes and offset != self.end:
                self._drop(len(self._sizes))
            left = deque(pieces)
            while left:
                start = self._open_segment(offset)
                taken = _taken(left, self._size - self._sizes[start])
                size, fresh = sum(map(len, taken)), not self._sizes[start]
                self._append(start, taken, size)
                self._append_marks(start, covering(marks, offset, offset + size), offset, fresh=fresh)
                offset += size
            while len(self._sizes) > 1 and self.end - self.first > self._limit:
                self._drop(1)

    def _open_segment(self, offset: int) -> int:
        newest = next(reversed(self._sizes), None)
        if newest is None or self._sizes[newest] >= self._size or newest in self._packed:
            self._sizes[offset] = 0
            return offset
        return newest

    def _append(self, start: int, pieces: Sequence[bytes], size: int) -> None:
        with self._path(start).open("ab", buffering=0) as file:  # a buffer would cut each piece in two
            if file.tell() != self._sizes[start]:  # the rest of a write that failed
                file.truncate(self._sizes[start])
            _write_all(file.fileno(), pieces)
        self._sizes[start] += size

    def _append_marks(self, start: int, marks: Sequence[Mark], offset: int, *, fresh: bool) -> None:
        if marks and marks[0][0] < offset:  # told of in what came before; a segment tells all by itself
            marks = [(offset, marks[0][1]), *marks[1:]] if fresh else marks[1:]
        append_marks(self._beside(start), start, marks)

    def _drop(self, count: int) -> None:
        for start in list(self._sizes)[:count]:
            self._path(start).unlink(missing_ok=True)
            self._beside(start).unlink(missing_ok=True)
            del self._sizes[start]
            self._packed.discard(start)
            self._plain.discard(start)

    def pack_oldest(self, old_end: int) -> bool:
        """Packs the oldest closed segment that ends at or before `old_end`. False: there is none (any more)."""
        with self._packing:
            with self._lock:
                closed = [start for start in self._sizes if start not in self._packed and start not in self._plain][:-1]
                if not closed or closed[0] + self._sizes[closed[0]] > old_end:
                    return False
                start, size = closed[0], self._sizes[closed[0]]
            target = self._path(start, packed=True)
            fresh = target.with_name(target.name + ".new")
            good = pack(self._path(start), fresh, size)
            with self._lock:
                self._take_packed(start, fresh, target, good=good)
            return True

    def _take_packed(self, start: int, fresh: Path, target: Path, *, good: bool) -> None:
        if start not in self._sizes:  # dropped meanwhile
            fresh.unlink(missing_ok=True)
        elif not good:
            self._plain.add(start)
        else:
            plain = self._path(start)
            fresh.replace(target)
            sync_folder(self._directory)
            self._packed.add(start)
            plain.unlink(missing_ok=True)

    # ---------------------------------------------------------------- reading

    def read(self, start: int, limit: int) -> tuple[int, bytes]:
        """Bytes from `start` on, at most `limit`, and where they begin: later where those at `start` are not kept, or
        lost. They end before the next that are lost."""
        with self._lock:
            at = max(start, self.first)
            parts: list[bytes] = []
            for begin, size in self._sizes.items():
                while at < begin + size and limit > 0:
                    found, part = self._part(begin, at - begin, min(limit, begin + size - at))
                    if parts and (not part or begin + found > at):
                        return at - sum(map(len, parts)), b"".join(parts)
                    if not part:
                        at = begin + size
                        break
                    parts.append(part)
                    at = begin + found + len(part)
                    limit -= len(part)
            data = b"".join(parts)
            return at - len(data), data

    def _part(self, begin: int, at: int, length: int) -> tuple[int, bytes]:
        """Where in the segment the bytes begin that can be read, and some of them; none: the rest of it is lost."""
        if begin in self._packed:
            return read_packed(self._path(begin), at, length)
        try:
            with self._path(begin).open("rb") as file:
                file.seek(at)
                return at, file.read(length)
        except OSError:
            return at, b""

    def times(self, start: int, end: int) -> list[Mark]:
        """When the bytes [start, end) came: the last mark at or before `start`, and all that follow."""
        with self._lock:
            found: list[Mark] = []
            for begin, size in self._sizes.items():
                if begin + size > start and begin < end:
                    found += covering(read_marks(self._beside(begin), begin), start, end)
            return found

    def _path(self, start: int, *, packed: bool = False) -> Path:
        return self._directory / f"{start:020d}.log{'z' if packed or start in self._packed else ''}"

    def _beside(self, start: int) -> Path:
        return self._directory / f"{start:020d}.times"

    def remove(self) -> None:
        """The server is gone."""
        with self._packing, self._lock:
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
        """Replaces the notes as a whole (K15)."""
        self._directory.mkdir(mode=0o750, parents=True, exist_ok=True)
        write_atomically(self._directory / _NOTES, json.dumps(notes, separators=(",", ":")).encode())


def _write_all(descriptor: int, pieces: Sequence[bytes]) -> None:
    """OSError: some of it may be written, not all."""
    for at in range(0, len(pieces), _AT_ONCE):
        some = pieces[at : at + _AT_ONCE]
        written, size = os.writev(descriptor, some), sum(map(len, some))
        if written < size:  # a signal, or a disk that is nearly full
            rest = memoryview(b"".join(some))
            while written < size:
                written += os.write(descriptor, rest[written:])


def _taken(left: deque[bytes], room: int) -> Sequence[bytes]:
    """Takes from the pieces what one segment has room for; all of them, or up to where it is best ended."""
    taken: list[bytes] = []
    while left and len(left[0]) < room:
        room -= len(left[0])
        taken.append(left.popleft())
    if left:
        piece = left.popleft()
        while left and len(piece) < room + _LOOK_AHEAD:
            piece += left.popleft()
        cut = _cut(piece, room)
        taken.append(piece[:cut])
        if cut < len(piece):
            left.appendleft(piece[cut:])
    return taken


def _cut(data: bytes, wanted: int) -> int:
    """Where a segment ends in `data`: after a newline if one is near, else between two characters."""
    if wanted >= len(data):
        return len(data)
    newline = data.find(b"\n", wanted - 1, wanted + _LOOK_AHEAD)
    return newline + 1 if newline >= 0 else wanted + orphans(data[wanted : wanted + 3])


def _chain(found: Mapping[int, int | None], floor: int, limit: int) -> dict[int, int]:
    """The segments that follow one another up to the newest, oldest first; one that lost its end counts as whole."""
    newest = max((start + size for start, size in found.items() if size is not None), default=0)
    kept: dict[int, int] = {}
    upper = newest if newest >= floor else -1
    for start in sorted(found, reverse=True):
        size = found[start]
        whole = size is not None and start + size == upper
        shortened = bool(kept) and 0 < upper - start <= limit and (size is None or start + size < upper)
        if not whole and not shortened:
            if kept:
                break
            continue
        kept[start] = upper - start
        upper = start
    return dict(sorted(kept.items()))
