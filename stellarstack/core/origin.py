"""Origins of web pages, as a browser sends them and as `[server] allowed_origins` lists them. Performs no I/O."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}
_HOST = re.compile(r"[a-z0-9_.-]+|[0-9a-f:.]+")


def parse_origin(text: str) -> tuple[str, str, int] | None:
    """Scheme, host and port of `https://HOST[:PORT]`; None: no origin (as `null` is none)."""
    try:
        parts = urlsplit(text.strip())
        port = parts.port
    except ValueError:
        return None
    host = (parts.hostname or "").lower()
    if parts.scheme not in _PORTS or parts.path not in ("", "/") or parts.query or parts.fragment:
        return None
    if not _HOST.fullmatch(host) or parts.username is not None:
        return None
    return parts.scheme, host, port if port is not None else _PORTS[parts.scheme]
