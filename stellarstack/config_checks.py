"""What no single key of daemon.toml shows: forms of URLs, origins and keys, and keys that need one another."""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode
from ipaddress import ip_address
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urlsplit

from stellarstack.config import Config
from stellarstack.core.claims import PERMISSIONS
from stellarstack.core.codec import is_server_id
from stellarstack.core.origin import parse_origin
from stellarstack.errors import ConfigError

# As a browser calls an origin, since the page compares it; and nothing that could end a directive of a header.
_ANCESTOR = re.compile(r"https?://([a-z0-9]([a-z0-9.-]*[a-z0-9])?|\[[0-9a-f:.]+\])(:[0-9]{1,5})?")

_LEAST_FLOOD = 65536  # bytes a second: less is what games honestly print, or a screen drawn anew


def check_together(config: Config, path: Path) -> None:
    """Raises ConfigError, one line like those of the loader."""

    def refuse(section: str, key: str, found: str, allowed: str) -> NoReturn:
        raise ConfigError(f"{path}: [{section}] {key}: found {found}, allowed is {allowed}")

    _check_redis(config, refuse)
    _check_origins(config, refuse)
    _check_ancestors(config, refuse)
    _check_auth(config, refuse)
    _check_flood(config, refuse)
    _check_ssh(config, refuse)
    tls = config.tls
    if (tls.certificate is None) != (tls.key is None):
        refuse("tls", "key" if tls.key is None else "certificate", "nothing", "both certificate and key, or neither")
    if config.heartbeat.offline_after <= config.heartbeat.unhealthy_after:
        found = f"{config.heartbeat.offline_after}"
        refuse("heartbeat", "offline_after", found, f"more than unhealthy_after ({config.heartbeat.unhealthy_after})")
    url = config.control_plane.url
    if url is not None and not _good_panel_url(url):
        refuse("control_plane", "url", "another URL", "https://HOST… (http:// for loopback), without user or password")


def _check_redis(config: Config, refuse: Any) -> None:
    if config.redis.embedded_port is not None and config.node.api_token is None:
        refuse("redis", "embedded_port", "a port without a password", "a port together with [node] api_token")


def _check_origins(config: Config, refuse: Any) -> None:
    for number, origin in enumerate(config.server.allowed_origins, 1):
        if parse_origin(origin) is None:
            shown = f"in entry {number}: {origin!a:.80}"
            refuse("server", "allowed_origins", shown, "https://HOST or https://HOST:PORT (or http://), one an entry")


def _check_ancestors(config: Config, refuse: Any) -> None:
    for number, origin in enumerate(config.server.frame_ancestors, 1):
        if not _ANCESTOR.fullmatch(origin):
            shown = f"in entry {number}: {origin!a:.80}"
            refuse("server", "frame_ancestors", shown, "https://HOST or https://HOST:PORT (or http://), lower case")


def _check_flood(config: Config, refuse: Any) -> None:
    for key in ("flood_bytes_per_second", "flood_viewer_bytes_per_second"):
        found = getattr(config.console, key)
        if 0 < found < _LEAST_FLOOD:
            refuse("console", key, str(found), f"0 (off), or {_LEAST_FLOOD} and more")


def _check_auth(config: Config, refuse: Any) -> None:
    auth = config.auth
    if auth.jwt_algorithm == "HS256" and auth.jwt_public_key is not None:
        refuse("auth", "jwt_public_key", "a public key", "one only where jwt_algorithm is EdDSA, ES256 or RS256")
    if auth.jwt_algorithm != "HS256" and auth.jwt_public_key is None:
        refuse("auth", "jwt_public_key", "nothing", f"a public key in PEM, which {auth.jwt_algorithm} needs")
    for name, entry in auth.command_keys.items():
        text = entry.key.reveal()
        try:
            size = len(urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        except ValueError:
            size = 0
        good = size == 32 if entry.algorithm == "ed25519" else size >= 32
        if not good or not re.fullmatch(r"[A-Za-z0-9_-]+={0,2}", text):
            need = "32 bytes" if entry.algorithm == "ed25519" else "32 bytes or more"
            refuse(f"auth.command_keys.{name}", "key", f"a key of {size} bytes", f"base64url of {need}")
    if auth.require_signed_commands and not auth.command_keys:
        refuse(
            "auth", "require_signed_commands", "true without a key", "true together with an [auth.command_keys.NAME]"
        )


def _check_ssh(config: Config, refuse: Any) -> None:
    for name, user in config.ssh.users.items():
        section = f"ssh.users.{name}"
        for key, listed in (("keys", user.keys), ("servers", user.servers), ("permissions", user.permissions)):
            if not listed:
                refuse(section, key, "an empty list", "a list of one or more")
        for server in user.servers:
            if server != "*" and not is_server_id(server):
                refuse(section, "servers", f"{server!a:.80}", 'server ids, or "*" for every server')
        for permission in user.permissions:
            if permission not in PERMISSIONS:
                refuse(section, "permissions", f"{permission!a:.80}", ", ".join(sorted(PERMISSIONS)))


def _good_panel_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return False
    if not parts.hostname or parts.username is not None or parts.password is not None:
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and _is_loopback(parts.hostname))


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
