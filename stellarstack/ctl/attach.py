"""Finds where a server's console is, mints its tokens, and opens it on the operator's terminal."""

from __future__ import annotations

import argparse
import ssl
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from stellarstack.config import Config
from stellarstack.ctl.arguments import Usage
from stellarstack.ctl.console import READ, WRITE, Console
from stellarstack.ctl.control import ControlSocket, Refused
from stellarstack.ctl.terminal import Terminal
from stellarstack.ctl.websocket import Address


def open_console(options: argparse.Namespace, config: Config, control: ControlSocket) -> int:
    """Until the operator leaves. Answers the exit status."""

    def mint() -> str:
        asked = {"serverId": options.server, "permissions": READ if options.read_only else WRITE}
        return str(control.post("/v1/tokens", asked)["token"])

    with Terminal() as terminal:
        Console(
            server_id=options.server,
            address=lambda: console_address(options.url, config),
            mint=mint,
            screen=terminal,
            read_only=options.read_only,
            since=options.since,
        ).run()
    return 0


def console_address(url: str | None, config: Config) -> Address:
    """From `--url`, or the config's [server] and [tls]. Raises Usage and Refused."""
    if url is not None:
        return _from_url(url)
    if not config.server.port:
        raise Usage("[server] port is 0: say with --url ws://HOST:PORT where the console listens")
    return Address(_reachable(config.server.host), config.server.port, _pinned(config))


def _from_url(url: str) -> Address:
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError:
        port = 0
    if (
        parts.scheme not in ("ws", "wss")
        or not parts.hostname
        or port == 0
        or parts.path.strip("/") not in ("", "console")
    ):
        raise Usage(f"{url!r}: allowed is ws://HOST:PORT or wss://HOST:PORT")
    secure = parts.scheme == "wss"
    return Address(parts.hostname, port or (443 if secure else 80), ssl.create_default_context() if secure else None)


def _reachable(host: str) -> str:
    """A listener on all addresses is reached on loopback."""
    try:
        address = ip_address(host)
    except ValueError:
        return host
    if not address.is_unspecified:
        return host
    return "127.0.0.1" if address.version == 4 else "::1"


def _pinned(config: Config) -> ssl.SSLContext | None:
    """Trusts the daemon's own certificate file, whatever name it bears: both ends are on this machine."""
    files: Any = config.tls
    if files.certificate is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    try:
        context.load_verify_locations(files.certificate)
        if files.client_ca is not None:
            context.load_cert_chain(files.certificate, files.key)
    except OSError as error:
        raise Refused(f"[tls] certificate and key: {error.strerror or error}") from None
    return context
