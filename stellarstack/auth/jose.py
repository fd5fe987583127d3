"""Opens a compact JWS with one algorithm and given keys, stricter than the standard asks. Performs no I/O."""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode
from collections.abc import Sequence
from typing import Any

import jwt

from stellarstack.core.codec import strict_object
from stellarstack.core.messages import Json
from stellarstack.errors import Unauthorized

MAX_TOKEN = 8 * 1024

_COMPACT = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
_KEY_NAME = re.compile(r"[A-Za-z0-9_.:=-]{1,128}")
# Headers that bring or name a key, or change how the rest is read: none has a meaning here.
_REFUSED_HEADERS = frozenset({"crit", "jku", "jwk", "x5u", "x5c", "b64", "zip"})


def open_token(token: str, algorithm: str, keys: Sequence[Any]) -> dict[str, Json]:
    """The token's claims, unjudged, once its signature is found good under one of `keys`. Else Unauthorized."""
    if len(token) > MAX_TOKEN or not _COMPACT.fullmatch(token):
        raise Unauthorized("the token is unreadable")
    header, body, _ = token.split(".")
    _check_header(_object(header, "header"), algorithm)
    if not any(_signed_by(key, token, algorithm) for key in keys):
        raise Unauthorized("the token's signature is not valid here")
    return _object(body, "claims")


def _check_header(header: dict[str, Json], algorithm: str) -> None:
    if header.get("alg") != algorithm:
        raise Unauthorized(f"the token's algorithm is not {algorithm}")
    refused = sorted(_REFUSED_HEADERS & header.keys())
    if refused:
        raise Unauthorized(f"the token's header has `{refused[0]}`")
    name = header.get("kid", "none")
    if not isinstance(name, str) or not _KEY_NAME.fullmatch(name):
        raise Unauthorized("the token's header has a `kid` that is no name")


def _signed_by(key: Any, token: str, algorithm: str) -> bool:
    try:
        jwt.PyJWS(algorithms=[algorithm]).decode(token, key, algorithms=[algorithm])
    except jwt.PyJWTError:
        return False
    return True


def _object(segment: str, what: str) -> dict[str, Json]:
    try:
        return strict_object(urlsafe_b64decode(segment + "=" * (-len(segment) % 4)).decode("utf-8"))
    except ValueError as error:
        raise Unauthorized(f"the token's {what} are unreadable: {error}") from None
