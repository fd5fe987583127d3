"""The link that opens a server's console in a browser: the token stands in its fragment, which no server ever sees."""

from __future__ import annotations

from ipaddress import ip_address
from urllib.parse import urlsplit

from stellarstack.config import Config
from stellarstack.ctl.arguments import Usage


def console_link(url: str | None, config: Config, token: str) -> str:
    """`{node}/#token=…`; the node is `--url`, or the config's [server]. Raises Usage."""
    return f"{_node(url, config)}/#token={token}"


def _node(url: str | None, config: Config) -> str:
    if url is None:
        return _listener(config)
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if not good or parts.query or parts.fragment or parts.username is not None:
        raise Usage(f"{url!r}: allowed is http://HOST:PORT or https://HOST:PORT, with a path where a proxy adds one")
    return url.rstrip("/")


def _listener(config: Config) -> str:
    if not config.server.port:
        raise Usage("[server] port is 0: say with --url https://HOST where people reach this node")
    host = config.server.host
    try:
        address = ip_address(host)
    except ValueError:
        pass
    else:
        if address.is_unspecified:
            host = "127.0.0.1" if address.version == 4 else "::1"
        host = f"[{host}]" if address.version == 6 else host
    return f"{'http' if config.tls.certificate is None else 'https'}://{host}:{config.server.port}"
