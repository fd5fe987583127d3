"""Remembers which console tokens hold no more: revoked ones, and with single use the used ones."""

from __future__ import annotations

import heapq
import json
from collections.abc import Callable

from stellarstack.errors import StoreFailed
from stellarstack.interfaces import Store

# Kept this long beyond a token's `exp`, so that a clock set back does not bring it to life.
GRACE = 3600.0
# A `jti` is printable, so no denied one can look like a used one.
_USED = "\x1fused:"
_REVOKED = "\x1frevoked:"
# Longer than any token lives, the allowance for clocks included.
REVOKED_FOR = 400.0


class Denylist:
    """All is in memory for the judging, and in the store for the next start."""

    def __init__(self, *, store: Store, now: Callable[[], float]) -> None:
        self._store = store
        self._now = now
        self._until: dict[str, float] = {}
        self._order: list[tuple[float, str]] = []
        self._revoked: dict[str, float] = {}  # by user and server: all tokens issued up to then

    def __len__(self) -> int:
        return len(self._until)

    async def load(self) -> None:
        for key, until in (await self._store.denied()).items():
            self._remember(key, until)

    def is_denied(self, jti: str) -> bool:
        return jti in self._until

    def is_revoked(self, user_id: str, server_id: str, issued_at: float) -> bool:
        """Whether every token of this user, of this server or of both was revoked after this one was issued."""
        scopes = ((user_id, None), (None, server_id), (user_id, server_id))
        return any(issued_at <= self._revoked.get(_scope(*scope), -1.0) for scope in scopes)

    async def revoke(self, user_id: str | None, server_id: str | None) -> None:
        """Every token issued up to now for the user, the server or both holds no more (W12)."""
        key, until = _scope(user_id, server_id), self._now() + REVOKED_FOR
        self._remember(key, until)
        await self._store.deny(key, until)

    async def deny(self, jti: str, expires_at: float) -> None:
        until = max(expires_at, self._now()) + GRACE
        self._remember(jti, until)
        await self._store.deny(jti, until)

    async def use(self, jti: str, expires_at: float) -> bool:
        """Marks a token as used; False where it was before. StoreFailed: it counts as not used."""
        key = _USED + jti
        if key in self._until:
            return False
        self._remember(key, expires_at + GRACE)
        try:
            await self._store.deny(key, expires_at + GRACE)
        except StoreFailed:
            self._until.pop(key, None)
            raise
        return True

    def _remember(self, key: str, until: float) -> None:
        self._until[key] = max(until, self._until.get(key, 0.0))
        if key.startswith(_REVOKED):
            self._revoked[key] = self._until[key] - REVOKED_FOR
        heapq.heappush(self._order, (until, key))
        while self._order and self._order[0][0] < self._now():
            expired, old = heapq.heappop(self._order)
            if self._until.get(old, 0.0) <= expired:
                self._until.pop(old, None)
                self._revoked.pop(old, None)


def _scope(user_id: str | None, server_id: str | None) -> str:
    return _REVOKED + json.dumps([user_id, server_id])
