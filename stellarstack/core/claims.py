"""Who a console token speaks for and what it allows (PROTOCOL 1). Performs no I/O."""

from __future__ import annotations

from dataclasses import dataclass

PERMISSIONS = frozenset(
    {
        "console.read",
        "console.write",
        "files.read",
        "files.write",
        "files.delete",
        "backups.read",
        "backups.write",
        "control.start",
        "control.stop",
        "control.restart",
        "control.kill",
        "stats.read",
    }
)


@dataclass(frozen=True, slots=True)
class Claims:
    """A console token whose signature and claims were found good. Times are Unix seconds."""

    user_id: str
    server_id: str
    permissions: frozenset[str]
    issued_at: float
    expires_at: float
    jti: str
    username: str | None = None
    ip: str | None = None

    def allows(self, permission: str) -> bool:
        return permission in self.permissions
