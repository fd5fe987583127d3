"""What a console remembers beside its bytes: the terminal's size, where runs began, where something is missing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from stellarstack.core.messages import Json
from stellarstack.core.records import PtySize

_RUNS_MOST, _GAPS_MOST = 64, 256


@dataclass(frozen=True, slots=True)
class Run:
    """One life of a container: `offset` of its first byte, `started` in Unix seconds."""

    offset: int
    container: str
    started: float


@dataclass(slots=True)
class Notes:
    """`gaps`: offsets before which an unknown number of bytes is missing. `end`: offsets below it were given out."""

    size: PtySize = field(default_factory=PtySize)
    resized: bool = False
    runs: list[Run] = field(default_factory=list)
    gaps: list[int] = field(default_factory=list)
    end: int = 0

    def begin_run(self, run: Run, first: int) -> None:
        """A new run; what lies wholly before `first`, the oldest byte kept, is forgotten."""
        self.runs = [*(old for old, after in zip(self.runs, self.runs[1:], strict=False) if after.offset > first),
                     *self.runs[-1:], run][-_RUNS_MOST:]  # fmt: skip
        self.gaps = [gap for gap in self.gaps if gap >= first]

    def add_gap(self, offset: int) -> bool:
        """Answers whether it is news."""
        if self.gaps and self.gaps[-1] == offset:
            return False
        self.gaps = [*self.gaps[1 - _GAPS_MOST :], offset]
        return True

    def to_json(self) -> dict[str, Json]:
        return {
            "version": 1,
            "size": [self.size.cols, self.size.rows] if self.resized else None,
            "runs": [[run.offset, run.container, run.started] for run in self.runs],
            "gaps": list(self.gaps),
            "end": self.end,
        }


def notes_from(found: Mapping[str, Json]) -> Notes:
    """What can be read of notes kept by an earlier daemon; the rest is as in a new console."""
    notes = Notes(end=_whole(found.get("end")) or 0)
    match found.get("size"):
        case [int(cols), int(rows)] if 1 <= cols <= 1000 and 1 <= rows <= 1000:
            notes.size, notes.resized = PtySize(cols, rows), True
    for row in _rows(found.get("runs")):
        match row:
            case [int(offset), str(container), int() | float() as started] if offset >= 0:
                notes.runs.append(Run(offset, container, float(started)))
    notes.gaps = sorted(gap for gap in map(_whole, _rows(found.get("gaps"))) if gap is not None)
    return notes


def _rows(found: Json) -> list[Json]:
    return found if isinstance(found, list) else []


def _whole(found: Json) -> int | None:
    return found if isinstance(found, int) and not isinstance(found, bool) and found >= 0 else None
