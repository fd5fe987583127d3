"""Reads `redis.url` strictly into its parts (PROTOCOL 2). Performs no I/O.

Nothing here ever shows a password: the errors name the part that is wrong, `str(url)` leaves credentials out.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import Enum
from ipaddress import ip_address
from urllib.parse import parse_qsl, unquote

from stellarstack.errors import ConfigError

FORMS = (
    "redis://[user:pw@]host[:6379][/db], rediss://…, unix:///path[?db=0], "
    "redis+sentinel://[user:pw@]h1[:26379],h2/NAME[?sentinel_password=…] (also rediss+sentinel://), or embedded"
)
REDIS_PORT = 6379
SENTINEL_PORT = 26379
_HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?\.?")
_SERVICE = re.compile(r"[A-Za-z0-9._-]+")
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")


class RedisKind(Enum):
    """How the address of Redis is found."""

    TCP = "tcp"
    UNIX = "unix"
    SENTINEL = "sentinel"
    EMBEDDED = "embedded"


@dataclass(frozen=True, slots=True)
class Address:
    """A host (name, IPv4 or bare IPv6) and a TCP port."""

    host: str
    port: int

    @property
    def loopback(self) -> bool:
        """Whether what is said to it never leaves this machine."""
        if self.host.lower().rstrip(".") == "localhost":
            return True
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return False

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class RedisUrl:
    """Where Redis is and how to speak to it. `addresses` are the sentinels' for SENTINEL, one for TCP, else none."""

    kind: RedisKind
    tls: bool = False
    addresses: tuple[Address, ...] = ()
    path: str | None = None
    service: str | None = None
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    sentinel_password: str | None = field(default=None, repr=False)
    db: int = 0

    @property
    def plaintext(self) -> bool:
        """Whether commands and tokens would cross a network unencrypted (`node.alert` `redis_plaintext`)."""
        return not self.tls and not all(address.loopback for address in self.addresses)

    def __str__(self) -> str:
        db = f"/{self.db}" if self.db else ""
        match self.kind:
            case RedisKind.EMBEDDED:
                return "embedded"
            case RedisKind.UNIX:
                return f"unix://{self.path}"
            case RedisKind.SENTINEL:
                scheme = "rediss+sentinel" if self.tls else "redis+sentinel"
                return f"{scheme}://{','.join(map(str, self.addresses))}/{self.service}"
        return f"{'rediss' if self.tls else 'redis'}://{self.addresses[0]}{db}"


def unix_url(path: str, password: str | None = None) -> RedisUrl:
    """The address of a Redis that listens on the UNIX socket `path`."""
    return RedisUrl(RedisKind.UNIX, path=path, password=password)


def parse_redis_url(text: str, *, require_tls: bool = False) -> RedisUrl:
    """Raises ConfigError: one line, without any secret. `require_tls` refuses plain text beyond this machine."""
    url = _parse(text)
    if require_tls and url.plaintext:
        raise _wrong(f"{url} is not encrypted, which [redis] require_tls = true refuses; allowed: rediss://")
    return url


def _wrong(what: str) -> ConfigError:
    return ConfigError(f"the Redis URL {what}")


def _parse(text: str) -> RedisUrl:
    if text == "embedded":
        return RedisUrl(RedisKind.EMBEDDED)
    if any(ord(character) <= 32 or ord(character) == 127 for character in text):
        raise _wrong("has a space or a control character in it")
    scheme, separator, rest = text.partition("://")
    if not separator:
        raise _wrong(f"has no scheme; allowed: {FORMS}")
    if "#" in rest:
        raise _wrong("has a '#' in it; in a password it is written %23")
    rest, _, query = rest.partition("?")
    match scheme:
        case "redis" | "rediss":
            return _parse_tcp(rest, _query(query, {"db"}), tls=scheme == "rediss")
        case "unix":
            return _parse_unix(rest, _query(query, {"db"}))
        case "redis+sentinel" | "rediss+sentinel":
            return _parse_sentinel(rest, _query(query, {"db", "sentinel_password"}), tls=scheme.startswith("rediss"))
    raise _wrong(f"is of an unknown kind; allowed: {FORMS}")


def _parse_tcp(rest: str, query: dict[str, str], *, tls: bool) -> RedisUrl:
    authority, path = _authority(rest)
    username, password, hosts = _credentials(authority)
    if path not in ("", "/") and "db" in query:
        raise _wrong("names the database twice, in the path and as ?db=")
    db = _db(query.get("db") or path.removeprefix("/") or "0")
    return RedisUrl(
        RedisKind.TCP, tls, (_address(hosts, REDIS_PORT),), username=username, password=password, db=db
    )  # fmt: skip


def _parse_unix(rest: str, query: dict[str, str]) -> RedisUrl:
    authority, path = _authority(rest)
    username, password, host = _credentials(authority)
    if host:
        raise _wrong("has a host, which unix:// has not: unix:///run/redis.sock, with three slashes")
    if len(path) < 2:
        raise _wrong("names no socket; allowed: unix:///run/redis.sock")
    return RedisUrl(
        RedisKind.UNIX, path=_unquote(path, "path"), username=username, password=password,
        db=_db(query.get("db", "0")),
    )  # fmt: skip


def _parse_sentinel(rest: str, query: dict[str, str], *, tls: bool) -> RedisUrl:
    authority, path = _authority(rest)
    username, password, hosts = _credentials(authority)
    service = _unquote(path.removeprefix("/"), "service name")
    if not _SERVICE.fullmatch(service):
        raise _wrong("does not end with the name of the watched primary: redis+sentinel://host/NAME")
    return RedisUrl(
        RedisKind.SENTINEL, tls, tuple(_address(host, SENTINEL_PORT) for host in hosts.split(",")),
        service=service, username=username, password=password,
        sentinel_password=query.get("sentinel_password"), db=_db(query.get("db", "0")),
    )  # fmt: skip


def _authority(rest: str) -> tuple[str, str]:
    """A raw '/' or '?' in a password would cut it: the '@' then lands in the path, which is refused by name."""
    authority, slash, path = rest.partition("/")
    if "@" in path:
        raise _wrong("has an '@' behind a '/'; in a password a '/' is written %2F, an '@' %40")
    return authority, slash + path


def _credentials(authority: str) -> tuple[str | None, str | None, str]:
    """(username, password, hosts): `user:pw@`, `:pw@` and `pw`-less forms; a user without a password is refused."""
    userinfo, at, hosts = authority.rpartition("@")
    if not at:
        return None, None, hosts
    if "@" in userinfo:
        raise _wrong("has more than one '@'; in a user name or password it is written %40")
    username, colon, password = userinfo.partition(":")
    if not colon or not password:
        raise _wrong("has a user name without a password; only a password is written redis://:PASSWORD@host")
    return _unquote(username, "user name") or None, _unquote(password, "password"), hosts


def _address(text: str, default_port: int) -> Address:
    host, port = _split_port(text)
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        try:
            if ip_address(host).version == 6:
                return Address(host, _port(port, default_port))
        except ValueError:
            pass
        raise _wrong("has something in [] that is no IPv6 address")
    if not _HOST.fullmatch(host):
        raise _wrong("has no usable host name (an IPv6 address stands in [])")
    return Address(host, _port(port, default_port))


def _split_port(text: str) -> tuple[str, str | None]:
    """Splits at the colon behind the host, not at those inside an IPv6 address."""
    if text.startswith("["):
        host, bracket, rest = text.partition("]")
        if rest and not rest.startswith(":"):
            raise _wrong("has something other than a port behind an IPv6 address")
        return host + bracket, rest[1:] if rest else None
    host, colon, port = text.partition(":")
    return host, port if colon else None


def _port(text: str | None, default: int) -> int:
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:6]) <= 65535):
        raise _wrong("has no usable port; allowed: 1 to 65535")
    return int(text)


def _db(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text[:6]) <= 99_999):
        raise _wrong("has no usable database number; allowed: 0 to 99999")
    return int(text)


def _query(query: str, allowed: set[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    if _BAD_ESCAPE.search(query):
        raise _wrong("has a '%' behind the '?' that is no escape; a '%' itself is written %25")
    # '+' is a plus here, not a space: passwords have them
    for key, value in parse_qsl(query.replace("+", "%2B"), keep_blank_values=True):
        if key not in allowed:
            raise _wrong(f"has an unknown parameter behind the '?'; allowed: {', '.join(sorted(allowed))}")
        if key in found or not value:
            raise _wrong(f"has the parameter {key} twice or empty")
        found[key] = value
    return found


def _unquote(text: str, part: str) -> str:
    if _BAD_ESCAPE.search(text):
        raise _wrong(f"has a '%' in its {part} that is no escape; a '%' itself is written %25")
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise _wrong(f"has an escape in its {part} that is not UTF-8") from None
