"""Who sits at this node's consoles, over all doors: how many may, and who they are (SECURITY W11, W13, P03)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from stellarstack.config import ConsoleConfig
from stellarstack.core.console_session import CloseCode
from stellarstack.core.messages import Json
from stellarstack.viewing import Seat, SeatedSession


@dataclass(slots=True)
class _Taken:
    """A seat that is taken. `number` names it in the list, for as long as the process lives."""

    number: int
    seat: Seat
    last_typed: float | None = None
    revoked: bool = False


class Seating:
    """Meets viewing.Seats. Bounds are `[console] connections, viewers_per_server, viewers_per_user`.

    A seat is held until its connection is gone, so that those who do not answer a close frame count, too.
    """

    def __init__(self, *, config: ConsoleConfig, now: Callable[[], float]) -> None:
        self._config = config
        self._now = now
        self._taken: dict[SeatedSession, _Taken] = {}
        self._by_server: Counter[str] = Counter()
        self._by_user: Counter[str] = Counter()
        self._numbers = 0

    def __len__(self) -> int:
        """How many seats are taken."""
        return len(self._taken)

    def take(self, session: SeatedSession, seat: Seat) -> bool:
        """See Seats.take. ValueError: the claims of a renewal are of another user or server."""
        taken = self._taken.get(session)
        if taken is not None:
            if _whose(taken.seat) != _whose(seat):
                raise ValueError("a renewal is of the same user and server")
            taken.seat = replace(seat, since=taken.seat.since)
            return True
        if not self._has_room(seat):
            return False
        self._numbers += 1
        self._taken[session] = _Taken(self._numbers, seat)
        self._by_server[seat.claims.server_id] += 1
        self._by_user[seat.claims.user_id] += 1
        return True

    def _has_room(self, seat: Seat) -> bool:
        return (
            len(self._taken) < self._config.connections
            and self._by_server[seat.claims.server_id] < self._config.viewers_per_server
            and self._by_user[seat.claims.user_id] < self._config.viewers_per_user
        )

    def typed(self, session: SeatedSession) -> None:
        """See Seats.typed; of one that has no seat: nothing."""
        taken = self._taken.get(session)
        if taken is not None:
            taken.last_typed = self._now()

    def leave(self, session: SeatedSession) -> None:
        """See Seats.leave."""
        taken = self._taken.pop(session, None)
        if taken is None:
            return
        claims = taken.seat.claims
        for counter, key in ((self._by_server, claims.server_id), (self._by_user, claims.user_id)):
            counter[key] -= 1
            if not counter[key]:
                del counter[key]

    def revoke(self, jti: str | None = None, user_id: str | None = None, server_id: str | None = None) -> int:
        """See Seats.revoke. One that is closed already, and has not let go yet, is not counted again."""
        found = [
            (session, taken)
            for session, taken in self._taken.items()
            if not taken.revoked and taken.seat.claims.meant(jti, user_id, server_id)
        ]
        for session, taken in found:
            taken.revoked = True
            session.close(CloseCode.FORBIDDEN, "revoked")
        return len(found)

    def rows(self) -> Sequence[Mapping[str, Json]]:
        """See Seats.rows: the oldest first; who was revoked is not listed."""
        return [_row(taken) for taken in self._taken.values() if not taken.revoked]


def _whose(seat: Seat) -> tuple[str, str]:
    return seat.claims.user_id, seat.claims.server_id


def _row(taken: _Taken) -> dict[str, Json]:
    seat, claims = taken.seat, taken.seat.claims
    row: dict[str, Json] = {"id": taken.number, "serverId": claims.server_id, "userId": claims.user_id}
    row |= {"username": claims.username, "via": seat.via, "peer": seat.peer, "userAgent": seat.user_agent}
    row |= {"since": seat.since, "canWrite": claims.allows("console.write"), "lastTyped": taken.last_typed}
    return {**row, "expiresAt": claims.expires_at}
