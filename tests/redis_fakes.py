"""An outbox in memory, an intake that writes down, and a scripted Redis in memory: for the tests of the Redis room."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from stellarstack.core.messages import Origin, OutboxRow
from stellarstack.errors import StoreFailed
from stellarstack.interfaces import OutboxState

NODE = "node_test1"


def row(seq: int, *channels: str, body: bytes | None = None) -> OutboxRow:
    return OutboxRow(
        seq, f"evt_{seq}", "server.status", body or b'{"seq":%d}' % seq, channels or (f"stellar:nodes:{NODE}:events",)
    )


class MemoryOutbox:
    """The outbox part of Store, as its docstrings say. `failing`: so many next calls raise StoreFailed."""

    def __init__(self, rows: Sequence[OutboxRow] = ()) -> None:
        self.rows = list(rows)
        self.delivered_seq = 0
        self.failing: set[str] = set()
        self.most_asked = 0
        self.rewound: list[int] = []

    def add(self, count: int, *channels: str) -> None:
        start = self.rows[-1].seq if self.rows else self.delivered_seq
        self.rows += [row(start + number, *channels) for number in range(1, count + 1)]

    def _check(self, name: str) -> None:
        if name in self.failing:
            raise StoreFailed("the disk is full")

    async def outbox_after(self, seq: int, limit: int) -> Sequence[OutboxRow]:
        self._check("outbox_after")
        self.most_asked = max(self.most_asked, limit)
        above = max(seq, self.delivered_seq)
        first = self.rows[0].seq if self.rows else 0
        begin = max(0, above + 1 - first)
        return self.rows[begin : begin + limit]

    async def delivered(self, up_to: int) -> None:
        self._check("delivered")
        self.delivered_seq = max(self.delivered_seq, up_to)

    async def outbox_state(self) -> OutboxState:
        self._check("outbox_state")
        pending = [row for row in self.rows if row.seq > self.delivered_seq]
        last = self.rows[-1].seq if self.rows else self.delivered_seq
        return OutboxState(last, self.delivered_seq, len(pending), sum(len(row.body) for row in pending))

    async def raise_sequence(self, seq: int) -> None:
        pending = [row for row in self.rows if row.seq > self.delivered_seq]
        self.delivered_seq = seq
        self.rows = [row(seq + number, *old.channels) for number, old in enumerate(pending, 1)]

    async def rewind(self, seq: int) -> int:
        self.rewound.append(seq)
        before, self.delivered_seq = self.delivered_seq, seq
        return sum(seq < row.seq <= before for row in self.rows)


class RecordingIntake:
    """Writes down what it receives. `hold`, where set, is awaited first; `failures`: so many StoreFailed come first."""

    def __init__(self) -> None:
        self.received: list[tuple[bytes, Origin, str | None]] = []
        self.failures = 0
        self.hold: Callable[[], Awaitable[Any]] | None = None

    @property
    def bodies(self) -> list[bytes]:
        return [raw for raw, _, _ in self.received]

    async def receive(self, raw: bytes, origin: Origin, entry_id: str | None = None) -> None:
        if self.failures:
            self.failures -= 1
            raise StoreFailed("the disk is full")
        self.received.append((raw, origin, entry_id))
        if self.hold is not None:
            await self.hold()
