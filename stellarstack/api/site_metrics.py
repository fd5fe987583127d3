"""`GET /metrics`: figures for Prometheus, to loopback or to whoever has the token (PROTOCOL 9)."""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable
from ipaddress import IPv6Address, ip_address
from typing import Any

from stellarstack.api.http_answers import Answer
from stellarstack.config import Secret
from stellarstack.errors import Forbidden

# Answers the text and its content type.
MetricsSource = Callable[[], Awaitable[tuple[str, str]]]

_FORWARDED = (b"forwarded", b"x-forwarded-for")


class MetricsDoor:
    """Judges who asks before anything is gathered."""

    def __init__(self, source: MetricsSource, token: Secret | None) -> None:
        self._source = source
        self._token = token

    async def get(self, request: Any) -> Answer:
        """Forbidden: neither from this machine itself nor with the token."""
        if not (self._has_token(request) or _is_local(request)):
            raise Forbidden("metrics are for this machine itself, or for the bearer of [metrics] token")
        text, content_type = await self._source()
        return Answer(200, text.encode("utf-8", "replace"), content_type)

    def _has_token(self, request: Any) -> bool:
        found = request.requestHeaders.getRawHeaders(b"authorization") or []
        if self._token is None or len(found) != 1:
            return False
        scheme, _, token = found[0].strip().partition(b" ")
        known = self._token.reveal().encode()
        return scheme.lower() == b"bearer" and hmac.compare_digest(token.strip(), known)


def _is_local(request: Any) -> bool:
    """A loopback peer that no proxy speaks for."""
    if any(request.requestHeaders.hasHeader(name) for name in _FORWARDED):
        return False
    try:
        address = ip_address(getattr(request.getClientAddress(), "host", ""))
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return (mapped or address).is_loopback
