"""`POST /v1/tokens` on the control socket: a console token for whoever may use this machine's daemon (PROTOCOL 10)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from stellarstack.api.http_answers import Answer, json_answer
from stellarstack.core.claims import CAN_READ, CAN_WRITE, MAX_LIFETIME, MAX_USER_ID, PERMISSIONS, expand_permissions
from stellarstack.core.codec import server_id_of, strict_object
from stellarstack.core.messages import Json
from stellarstack.errors import InvalidPayload, ServerNotFound
from stellarstack.interfaces import ServerDirectory

DEFAULT_USER = "local"
DEFAULT_LIFETIME = 300.0


class Minted(Protocol):
    """A token just made; `expires_at` in Unix seconds."""

    @property
    def token(self) -> str: ...

    @property
    def expires_at(self) -> float: ...


class Mint(Protocol):
    """Makes console tokens."""

    def mint(self, server_id: str, permissions: Sequence[str], user_id: str, *, lifetime: float = ...) -> Minted:
        """`lifetime` in seconds. InvalidState: this node holds no secret."""


class TokenDoor:
    """`{serverId, userId?, permissions?, lifetime?}` -> `{token, expiresAt}`; may read and write unless told."""

    def __init__(self, *, mint: Mint, directory: ServerDirectory) -> None:
        self._mint = mint
        self._directory = directory

    async def post(self, request: Any) -> Answer:
        """InvalidPayload names the key; ServerNotFound; InvalidState where only the control plane can sign."""
        body = _read(request.content.read())
        server_id = server_id_of(body)
        if server_id is None:
            raise InvalidPayload("`serverId` must be a server's id")
        user_id, permissions, lifetime = _user_id(body), _permissions(body), _lifetime(body)
        if self._directory.status_of(server_id) is None:
            raise ServerNotFound(f"there is no server {server_id} on this node")
        made = self._mint.mint(server_id, permissions, user_id, lifetime=lifetime)
        return json_answer(200, {"token": made.token, "expiresAt": made.expires_at})


def _read(raw: bytes) -> dict[str, Json]:
    try:
        return strict_object(raw.decode("utf-8"))
    except ValueError as error:
        raise InvalidPayload(f"the body is no JSON object that can be taken: {error}") from None


def _user_id(body: Mapping[str, Json]) -> str:
    found = body.get("userId", DEFAULT_USER)
    if isinstance(found, str) and 0 < len(found) <= MAX_USER_ID and found.isprintable():
        return found
    raise InvalidPayload(f"`userId` must be a string of 1 to {MAX_USER_ID} printable characters")


def _permissions(body: Mapping[str, Json]) -> Sequence[str]:
    found = body.get("permissions")
    if found is None:
        return sorted(CAN_READ | CAN_WRITE)
    if isinstance(found, list):
        unknown = [name for name in found if not isinstance(name, str) or name not in PERMISSIONS]
        if unknown:
            raise InvalidPayload(f"`permissions`: {str(unknown[0])[:40]!r} is none of {', '.join(sorted(PERMISSIONS))}")
    try:
        return sorted(expand_permissions(found))
    except ValueError as error:
        raise InvalidPayload(str(error)) from None


def _lifetime(body: Mapping[str, Json]) -> float:
    found = body.get("lifetime", DEFAULT_LIFETIME)
    if isinstance(found, bool) or not isinstance(found, int | float) or not 1 <= found <= MAX_LIFETIME:
        raise InvalidPayload(f"`lifetime` must be 1 to {MAX_LIFETIME:g} seconds")
    return float(found)
