"""Finds where a server's console is, mints its tokens, and opens it on the operator's terminal or as lines."""

from __future__ import annotations

import argparse
import contextlib
import platform
import ssl
from collections.abc import Callable, Sequence
from contextlib import closing
from ipaddress import ip_address
from typing import Any, TextIO
from urllib.parse import urlsplit

from stellarstack.config import Config
from stellarstack.ctl.arguments import Usage
from stellarstack.ctl.console import READ, WRITE, Console
from stellarstack.ctl.control import ControlSocket, Refused
from stellarstack.ctl.logs import LogLines, LogScreen, newest_lines
from stellarstack.ctl.recording import RecordedScreen, Recording
from stellarstack.ctl.screen import Screen
from stellarstack.ctl.terminal import Terminal
from stellarstack.ctl.websocket import Address, ConsoleSocket


def open_console(options: argparse.Namespace, config: Config, control: ControlSocket) -> int:
    """Until the operator leaves. Answers the exit status."""
    with contextlib.ExitStack() as opened:
        terminal = Terminal(watching=options.read_only)
        screen: Screen = terminal
        if options.record is not None:
            title = f"{options.server} on {platform.node()}"
            recording = Recording.begin(options.record, size=terminal.size(), title=title, force=options.force)
            opened.callback(recording.close)
            screen = RecordedScreen(terminal, recording)
        opened.enter_context(terminal)
        Console(
            server_id=options.server,
            address=lambda: console_address(options.url, config),
            mint=minting(control, options.server, READ if options.read_only else WRITE),
            screen=screen,
            read_only=options.read_only,
            since=options.since,
        ).run()
    return 0


def open_logs(options: argparse.Namespace, config: Config, control: ControlSocket, out: TextIO, err: TextIO) -> int:
    """The console's newest lines, and with `--follow` what comes. Answers the exit status."""
    mint = minting(control, options.server, READ)

    def address() -> Address:
        return console_address(options.url, config)

    lines = LogLines(out, colours=(options.color or out.isatty()) and not options.plain)
    since = options.since
    try:
        if since is None:
            with closing(ConsoleSocket.open(address(), f"/console/{options.server}?scrollback=0", mint())) as socket:
                newest, since = newest_lines(socket, options.lines)
            lines.feed(newest)
        if options.since is not None or options.follow:
            Console(
                server_id=options.server, address=address, mint=mint, screen=LogScreen(lines, err), read_only=True,
                since=since, once=not options.follow, greet=False, dial=ConsoleSocket.open,
            ).run()  # fmt: skip
        lines.end()
    except BrokenPipeError:
        lines.give_up()
    except KeyboardInterrupt:  # the way to leave what follows
        if not options.follow:
            raise
    return 0


def minting(control: ControlSocket, server_id: str, permissions: Sequence[str]) -> Callable[[], str]:
    """Makes tokens for one server through the control socket. They raise Refused."""

    def mint() -> str:
        asked = {"serverId": server_id, "permissions": list(permissions)}
        return str(control.post("/v1/tokens", asked)["token"])

    return mint


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
