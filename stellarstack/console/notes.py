"""What a console remembers beside its bytes: the terminal's sizes, its runs, where something is missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from stellarstack.core.messages import Json
from stellarstack.core.records import PtySize
from stellarstack.viewing import RunEvent

_RUNS_MOST, _GAPS_MOST, _SIZES_MOST, _DOUBTS_MOST = 64, 256, 64, 16
_ENDS = ("exited", "crashed")


@dataclass(frozen=True, slots=True)
class Run:
    """One life of a container: `offset` of its first byte, `started` in Unix seconds; `end` once it is over."""

    offset: int
    container: str
    started: float
    end: RunEvent | None = None


@dataclass(frozen=True, slots=True)
class Sized:
    """The terminal's size from byte `offset` on."""

    offset: int
    size: PtySize


@dataclass(slots=True)
class Notes:
    """`gaps`: offsets before which an unknown number of bytes is missing. `end`: offsets below it were given out.

    `doubts`: (from, to): who resumes above the first and up to the second may have seen other bytes there, which a
    daemon that was killed had not saved. `clean_at`: an ordered stop saved everything up to here.
    """

    size: PtySize = field(default_factory=PtySize)
    resized: bool = False
    runs: list[Run] = field(default_factory=list)
    gaps: list[int] = field(default_factory=list)
    sizes: list[Sized] = field(default_factory=list)
    doubts: list[tuple[int, int]] = field(default_factory=list)
    end: int = 0
    clean_at: int | None = None

    def begin_run(self, run: Run, first: int) -> None:
        """A new run; what lies wholly before `first`, the oldest byte kept, is forgotten."""
        self.runs = [*(old for old, after in zip(self.runs, self.runs[1:], strict=False) if after.offset > first),
                     *self.runs[-1:], run][-_RUNS_MOST:]  # fmt: skip
        self.gaps = [gap for gap in self.gaps if gap >= first]
        self.doubts = [doubt for doubt in self.doubts if doubt[1] > first]

    def end_run(self, end: RunEvent) -> bool:
        """The newest run is over; answers whether it is news."""
        if not self.runs or self.runs[-1].end is not None:
            return False
        self.runs[-1] = replace(self.runs[-1], end=end)
        return True

    def events(self, start: int, end: int) -> Sequence[RunEvent]:
        """What befell the runs in the bytes [start, end), in order."""
        found = (
            event
            for run in self.runs
            for event in (RunEvent(run.offset, run.started, "started"), run.end)
            if event is not None and start <= event.offset < end
        )
        return sorted(found, key=lambda event: event.offset)

    def add_gap(self, offset: int) -> bool:
        """Answers whether it is news."""
        if self.gaps and self.gaps[-1] == offset:
            return False
        self.gaps = [*self.gaps[1 - _GAPS_MOST :], offset]
        return True

    def add_doubt(self, start: int, to: int) -> bool:
        """Answers whether it is news."""
        if start >= to or (start, to) in self.doubts:
            return False
        self.doubts = [*self.doubts[1 - _DOUBTS_MOST :], (start, to)]
        return True

    def doubts_of(self, since: int) -> bool:
        """Whether who resumes at `since` may have seen other bytes before it than are kept."""
        return any(start < since <= to for start, to in self.doubts)

    def resize(self, size: PtySize, offset: int) -> bool:
        """The size from `offset` on, and for later runs. Answers whether it is news."""
        if (size, True) == (self.size, self.resized):
            return False
        before = self.sizes or [Sized(0, self.size)]
        self.sizes = [*(old for old in before if old.offset < offset or not old.offset), Sized(offset, size)]
        self.sizes = self.sizes[-_SIZES_MOST:]
        self.size, self.resized = size, True
        return True

    def size_at(self, offset: int) -> PtySize:
        """The terminal's size when the byte at `offset` came."""
        known = [sized.size for sized in self.sizes if sized.offset <= offset] or [old.size for old in self.sizes[:1]]
        return known[-1] if known else self.size

    def to_json(self) -> dict[str, Json]:
        return {
            "version": 1,
            "size": [self.size.cols, self.size.rows] if self.resized else None,
            "runs": [_run_row(run) for run in self.runs],
            "gaps": list(self.gaps),
            "sizes": [[sized.offset, sized.size.cols, sized.size.rows] for sized in self.sizes],
            "doubts": [[start, to] for start, to in self.doubts],
            "end": self.end,
            "cleanAt": self.clean_at,
        }


def _run_row(run: Run) -> list[Json]:
    row: list[Json] = [run.offset, run.container, run.started]
    return row if run.end is None else [*row, list(run.end)]


def notes_from(found: Mapping[str, Json]) -> Notes:
    """What can be read of notes kept by an earlier daemon; the rest is as in a new console."""
    notes = Notes(end=_whole(found.get("end")) or 0, clean_at=_whole(found.get("cleanAt")))
    match found.get("size"):
        case [int(cols), int(rows)] if 1 <= cols <= 1000 and 1 <= rows <= 1000:
            notes.size, notes.resized = PtySize(cols, rows), True
    for row in _rows(found.get("runs")):
        match row:
            case [int(offset), str(container), int() | float() as started, *rest] if offset >= 0:
                notes.runs.append(Run(offset, container, float(started), _end_from(rest[0] if rest else None)))
    for row in _rows(found.get("sizes")):
        match row:
            case [int(offset), int(cols), int(rows)] if offset >= 0 and 1 <= cols <= 1000 and 1 <= rows <= 1000:
                notes.sizes.append(Sized(offset, PtySize(cols, rows)))
    for row in _rows(found.get("doubts")):
        match row:
            case [int(start), int(to)]:
                notes.add_doubt(start, to)
    notes.gaps = sorted(gap for gap in map(_whole, _rows(found.get("gaps"))) if gap is not None)
    return notes


def _end_from(row: Json) -> RunEvent | None:
    match row:
        case [int(offset), int() | float() as at, str(event), code, reason] if offset >= 0 and event in _ENDS:
            return RunEvent(
                offset, float(at), event, _whole(code), reason if isinstance(reason, str) else None
            )  # fmt: skip
    return None


def _rows(found: Json) -> list[Json]:
    return found if isinstance(found, list) else []


def _whole(found: Json) -> int | None:
    return found if isinstance(found, int) and not isinstance(found, bool) and found >= 0 else None
