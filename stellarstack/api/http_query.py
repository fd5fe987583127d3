"""What a GET request asks for in its query, and the console token it shows: refused with the words of PROTOCOL 8."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

from stellarstack.api.http_answers import Answer, error_answer
from stellarstack.core.claims import Claims
from stellarstack.errors import Forbidden, ServerNotFound, StellarError, Unauthorized
from stellarstack.interfaces import ServerDirectory, TokenVerifier

_NUMBER = re.compile(r"\d{1,18}", re.ASCII)
_FIELDS_MOST = 32


class BadQuery(StellarError):
    """The text says which parameter is wrong and what it may be."""

    code: ClassVar[str] = "invalid_request"

    def answer(self) -> Answer:
        return error_answer(400, self.code, str(self))


class Query:
    """The parameters of one request. BadQuery: they cannot be read, or hold a token."""

    def __init__(self, uri: bytes) -> None:
        try:
            text = urlsplit(uri).query.decode("ascii")
            self._found: Mapping[str, list[str]] = parse_qs(
                text, keep_blank_values=True, errors="strict", max_num_fields=_FIELDS_MOST
            )
        except ValueError:
            raise BadQuery("the query cannot be read") from None
        if "token" in self._found:
            raise BadQuery(
                "a token does not belong in a URL: use the Authorization header or, on a WebSocket, a first frame"
            )

    def text(self, name: str) -> str | None:
        """None: it is not there."""
        found = self._found.get(name)
        if found is not None and len(found) != 1:
            raise BadQuery(f"{name} may be given once")
        return found[0] if found else None

    def number(self, name: str, low: int, high: int) -> int | None:
        found = self.text(name)
        if found is None:
            return None
        if not _NUMBER.fullmatch(found) or not low <= int(found) <= high:
            raise BadQuery(f"{name} must be a whole number from {low} to {high}")
        return int(found)

    def choice(self, name: str, *allowed: str) -> str | None:
        found = self.text(name)
        if found is not None and found not in allowed:
            raise BadQuery(f"{name} must be {' or '.join(allowed)}")
        return found

    def flag(self, name: str) -> bool:
        return self.choice(name, "0", "1") == "1"


@dataclass(frozen=True, slots=True)
class TokenDoor:
    """Judges the console token of a request to a server's address (PROTOCOL 8's table, C03, W16)."""

    tokens: TokenVerifier
    directory: ServerDirectory

    async def admit(self, request: Any, server_id: str, permission: str) -> Claims:
        """Unauthorized, TokenExpired; Forbidden, whether or not there is the other server; ServerNotFound."""
        claims = await self.tokens.verify(_bearer(request))
        if claims.server_id != server_id:
            raise Forbidden("the token is for another server")
        if not claims.allows(permission):
            raise Forbidden(f"the token does not allow {permission}")
        if self.directory.status_of(server_id) is None:
            raise ServerNotFound("no such server")
        return claims


def _bearer(request: Any) -> str:
    found = request.requestHeaders.getRawHeaders("authorization") or []
    scheme, _, token = found[0].strip().partition(" ") if len(found) == 1 else ("", "", "")
    if scheme.lower() != "bearer" or not token.strip():
        raise Unauthorized("one Authorization header is needed: Bearer and a console token")
    return str(token.strip())
