"""What an upgrade request to the console asks for, and the JSON answers to those that are refused (PROTOCOL 8)."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from twisted.web.http_headers import Headers
from twisted.web.iweb import IRequest

from stellarstack.api.http_query import BadQuery, Query
from stellarstack.core.console_session import CloseCode
from stellarstack.core.frames import Encoding
from stellarstack.core.origin import parse_origin
from stellarstack.errors import StellarError

SCROLLBACK_MAX, SCROLLBACK = 1 << 20, 65536
_OFFERS_MOST = 64  # extensions and their parameters; none is spoken here
_KEY = re.compile(rb"[A-Za-z0-9+/]{22}==")


class Refused(StellarError):
    """No upgrade: an HTTP status and an error's code and text."""

    code: ClassVar[str] = "invalid_request"

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.wire_code = code


_OF_CLOSE = {
    CloseCode.UNAUTHORIZED: (401, "unauthorized"),
    CloseCode.EXPIRED: (401, "token_expired"),
    CloseCode.FORBIDDEN: (403, "forbidden"),
    CloseCode.NOT_FOUND: (404, "server_not_found"),
    CloseCode.TOO_MANY: (429, "too_many_connections"),
    CloseCode.STOPPING: (503, "unavailable"),
}


def refusal(close_code: int, reason: str) -> Refused:
    """The HTTP answer for what would be `close_code` in a session."""
    status, code = _OF_CLOSE.get(close_code, (400, "invalid_request"))
    return Refused(status, code, reason)


def close_code_of(refused: Refused) -> int:
    """The other way round: what ends a session where HTTP would have said `refused`."""
    for close_code, (_, code) in _OF_CLOSE.items():
        if code == refused.wire_code:
            return close_code
    return CloseCode.POLICY


@dataclass(frozen=True, slots=True)
class UpgradeRequest:
    """A well-formed upgrade. `token` is the header's, None where there is none; `protocol` None: none was offered."""

    encoding: Encoding
    protocol: str | None
    since: int | None
    scrollback: int
    path_server: str | None
    origin_allowed: bool
    user_agent: str
    token: str | None = field(repr=False, default=None)


def read_upgrade(request: IRequest, path_server: str | None, allowed_origins: Sequence[str]) -> UpgradeRequest:
    """Refused (400): no upgrade of RFC 6455, or not with this query and these subprotocols. 401: no Bearer token."""
    headers = request.requestHeaders
    _check_rfc6455(request.method, headers)
    try:
        query = Query(request.uri)
        since, scrollback = query.number("since", 0, 2**63), query.number("scrollback", 0, SCROLLBACK_MAX)
    except BadQuery as error:
        raise _bad(str(error)) from None
    protocol = _protocol(headers)
    return UpgradeRequest(
        encoding=Encoding(protocol) if protocol else Encoding.JSON,
        protocol=protocol,
        since=since,
        scrollback=SCROLLBACK if scrollback is None else scrollback,
        path_server=path_server,
        origin_allowed=_origin_allowed(headers, secure=request.isSecure(), allowed=allowed_origins),
        user_agent=_one(headers, "user-agent")[:256],
        token=_bearer(headers),
    )


def _bad(message: str) -> Refused:
    return Refused(400, "invalid_request", message)


def _one(headers: Headers, name: str) -> str:
    found = headers.getRawHeaders(name) or []
    if len(found) > 1:
        raise _bad(f"more than one {name} header")
    return found[0].strip() if found else ""


def _check_rfc6455(method: bytes, headers: Headers) -> None:
    if (
        method != b"GET"
        or "websocket" not in _words(headers, "upgrade")
        or "upgrade" not in _words(headers, "connection")
    ):
        raise _bad("this is a WebSocket: GET with Upgrade: websocket and Connection: Upgrade")
    if _one(headers, "sec-websocket-version") != "13":
        raise _bad("Sec-WebSocket-Version must be 13")
    if not _KEY.fullmatch(_one(headers, "sec-websocket-key").encode("latin-1", "replace")):
        raise _bad("Sec-WebSocket-Key must be 16 bytes in base64")
    offered = headers.getRawHeaders("sec-websocket-extensions") or []
    if sum(1 + line.count(",") + line.count(";") for line in offered) > _OFFERS_MOST:
        raise _bad("too many extensions and parameters are offered")
    if not _one(headers, "host"):
        raise _bad("no Host header")
    if headers.hasHeader("transfer-encoding") or _one(headers, "content-length") not in ("", "0"):
        raise _bad("an upgrade has no body")


def _words(headers: Headers, name: str) -> list[str]:
    return [word.strip().lower() for line in headers.getRawHeaders(name) or [] for word in line.split(",")]


def _protocol(headers: Headers) -> str | None:
    lines = headers.getRawHeaders("sec-websocket-protocol") or []
    offered = [word.strip() for line in lines for word in line.split(",")]
    if not offered:
        return None
    for name in offered:
        if name in (Encoding.JSON.value, Encoding.RAW.value):
            return name
    raise _bad(f"no subprotocol but {Encoding.JSON.value} and {Encoding.RAW.value} is spoken")


def _bearer(headers: Headers) -> str | None:
    found = headers.getRawHeaders("authorization")
    if not found:
        return None
    scheme, _, token = found[0].strip().partition(" ")
    if len(found) > 1 or scheme.lower() != "bearer" or not token.strip():
        raise Refused(401, "unauthorized", "Authorization must be Bearer and a console token")
    return token.strip()


# ------------------------------------------------------------------ Origin (A04)


def _origin_allowed(headers: Headers, *, secure: bool, allowed: Sequence[str]) -> bool:
    """Whether a page of this Origin may open a console: the daemon's own, or one of `allowed`; none was sent: yes."""
    origins = headers.getRawHeaders("origin") or []
    if not origins:
        return True
    origin = parse_origin(origins[0])
    if len(origins) > 1 or origin is None:
        return False
    own = parse_origin(f"{'https' if secure else 'http'}://{_one(headers, 'host')}")
    return origin == own or origin in [parse_origin(other) for other in allowed]


def write_refusal(request: IRequest, refused: Refused) -> bytes:
    """The JSON body of a refusal; sets status and headers."""
    request.setResponseCode(refused.status)
    request.setHeader(b"content-type", b"application/json")
    request.setHeader(b"cache-control", b"no-store")
    request.setHeader(b"x-content-type-options", b"nosniff")
    if refused.status == 401:
        request.setHeader(b"www-authenticate", b"Bearer")
    if refused.status == 400:
        request.setHeader(b"sec-websocket-version", b"13")
    body = {"error": {"code": refused.wire_code, "message": str(refused)}}
    return json.dumps(body).encode()
