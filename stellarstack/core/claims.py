"""Who a console token speaks for and what it allows (PROTOCOL 1). Performs no I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from stellarstack.core.codec import server_id_of
from stellarstack.core.messages import Json
from stellarstack.errors import TokenExpired, Unauthorized

ISSUER = "stellarstack"
LEEWAY = 30.0  # seconds that `iat` and `nbf` may lie ahead; `exp` has none
MAX_LIFETIME = 310.0
MAX_TIME = 1e11  # above it is no time in seconds
MAX_USER_ID = 256
MAX_JTI = 128
MAX_IP = 64
MAX_PERMISSIONS = 64

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


CAN_READ = frozenset({"console.read", "stats.read"})
CAN_WRITE = frozenset({"console.write"})


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

    def meant(self, jti: str | None, user_id: str | None, server_id: str | None) -> bool:
        """Whether a revoke of these means this token: all that is given must fit, and something must be."""
        asked = ((jti, self.jti), (user_id, self.user_id), (server_id, self.server_id))
        given = [(wanted, mine) for wanted, mine in asked if wanted is not None]
        return bool(given) and all(wanted == mine for wanted, mine in given)


def judge_claims(body: Mapping[str, Json], *, node_id: str | None, now: float) -> Claims:
    """The claims of a token whose signature is good. `now` is wall-clock time in Unix seconds.

    Unauthorized names what is wrong; TokenExpired where all else is in order but `exp` has passed.
    """
    if body.get("iss") != ISSUER:
        raise Unauthorized("the token's `iss` is another")
    if node_id is None or body.get("aud") != node_id:
        raise Unauthorized("the token's `aud` is another node")
    username, ip = _metadata(body.get("metadata"))
    found = Claims(
        user_id=_text(body, "sub", MAX_USER_ID),
        server_id=_server(body),
        permissions=_permissions(body.get("permissions")),
        issued_at=_time(body, "iat"),
        expires_at=_time(body, "exp"),
        jti=_text(body, "jti", MAX_JTI),
        username=username,
        ip=ip,
    )
    _judge_times(found, _time(body, "nbf") if "nbf" in body else None, now)
    return found


def expand_permissions(found: Json) -> frozenset[str]:
    """What a `permissions` claim allows, in either of its shapes; names that nobody knows allow nothing.

    ValueError where it has neither shape.
    """
    if isinstance(found, list):
        if len(found) > MAX_PERMISSIONS or not all(isinstance(name, str) for name in found):
            raise ValueError("`permissions` must be a list of names")
        return PERMISSIONS.intersection(name for name in found if isinstance(name, str))
    if not isinstance(found, dict) or not {"canRead", "canWrite"} & found.keys():
        raise ValueError("`permissions` must be a list, or an object of `canRead` and `canWrite`")
    can_read, can_write = found.get("canRead", False), found.get("canWrite", False)
    if not isinstance(can_read, bool) or not isinstance(can_write, bool):
        raise ValueError("`canRead` and `canWrite` must be true or false")
    return (CAN_READ if can_read else frozenset()) | (CAN_WRITE if can_write else frozenset())


def _judge_times(found: Claims, not_before: float | None, now: float) -> None:
    if now >= found.expires_at:
        raise TokenExpired("the token has expired")
    if found.issued_at > now + LEEWAY:
        raise Unauthorized("the token's `iat` lies in the future")
    if not_before is not None and not_before > now + LEEWAY:
        raise Unauthorized("the token's `nbf` lies in the future")
    if not 0 < found.expires_at - found.issued_at <= MAX_LIFETIME:
        raise Unauthorized(f"the token's lifetime is not within {MAX_LIFETIME:g} s")


def _permissions(found: Json) -> frozenset[str]:
    try:
        return expand_permissions(found)
    except ValueError as error:
        raise Unauthorized(f"the token's {error}") from None


def _metadata(found: Json) -> tuple[str | None, str | None]:
    if found is None:
        return None, None
    if not isinstance(found, dict):
        raise Unauthorized("the token's `metadata` is no object")
    return _optional(found, "username", MAX_USER_ID), _optional(found, "ip", MAX_IP)


def _optional(body: Mapping[str, Json], key: str, longest: int) -> str | None:
    return None if body.get(key) is None else _text(body, key, longest)


def _text(body: Mapping[str, Json], key: str, longest: int) -> str:
    found = body.get(key)
    if isinstance(found, str) and 0 < len(found) <= longest and found.isprintable():
        return found
    raise Unauthorized(f"the token's `{key}` must be a string of 1 to {longest} printable characters")


def _server(body: Mapping[str, Json]) -> str:
    found = server_id_of(body)
    if found is None:
        raise Unauthorized("the token's `serverId` is missing or no server id")
    return found


def _time(body: Mapping[str, Json], key: str) -> float:
    found = body.get(key)
    if isinstance(found, bool) or not isinstance(found, int | float) or not 0 <= found < MAX_TIME:
        raise Unauthorized(f"the token's `{key}` must be a number of Unix seconds")
    return float(found)
