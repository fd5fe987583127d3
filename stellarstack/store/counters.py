"""Where the outbox stands, as one small document that is committed with every change of it. Performs no I/O."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True)
class Dropped:
    """The one `events_dropped` alert that still takes in further losses; it stands at `seq` in the outbox."""

    seq: int
    from_seq: int
    to_seq: int
    count: int


@dataclass(frozen=True, slots=True)
class Mark:
    """All rows up to `seq` were delivered at `time` (Unix seconds) or earlier."""

    time: float
    seq: int


@dataclass(frozen=True, slots=True)
class Counters:
    """`pending_*` count the rows above `delivered_seq`. Rows up to `handed_seq` may be on their way to Redis: they are
    not changed any more. Delivered rows up to `pruned_seq` are gone. `marks` tell how old a delivery is.
    """

    last_seq: int = 0
    delivered_seq: int = 0
    handed_seq: int = 0
    pruned_seq: int = 0
    pending_rows: int = 0
    pending_bytes: int = 0
    marks: tuple[Mark, ...] = ()
    dropped: Dropped | None = None

    def encode(self) -> str:
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def decode(cls, text: str) -> Counters:
        """ValueError, KeyError or TypeError where `text` is not what `encode` made."""
        fields = json.loads(text)
        marks = tuple(Mark(**mark) for mark in fields.pop("marks"))
        dropped = fields.pop("dropped")
        return cls(**fields, marks=marks, dropped=Dropped(**dropped) if dropped else None)
