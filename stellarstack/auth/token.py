"""Judges and makes console tokens: who may look at which server's console, and what else (PROTOCOL 1).

The one accepted algorithm and its keys come from daemon.toml. Nothing in a token's header chooses either.
"""

from __future__ import annotations

import secrets
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from twisted.logger import Logger

from stellarstack.auth.denylist import Denylist
from stellarstack.auth.jose import open_token
from stellarstack.config import AuthConfig, Secret
from stellarstack.core.claims import ISSUER, MAX_LIFETIME, PERMISSIONS, Claims, judge_claims
from stellarstack.core.messages import Json
from stellarstack.errors import ConfigError, Forbidden, InvalidState, StoreFailed, Unauthorized
from stellarstack.interfaces import Store

PREFIX = "strk_console_"
MIN_SECRET = 32
DEFAULT_LIFETIME = 300.0


@dataclass(frozen=True, slots=True)
class MintedToken:
    """A token just made, and its `exp` in Unix seconds. Never logged."""

    token: str = field(repr=False)
    expires_at: float


class ConsoleTokens:
    """The node's judge of console tokens, and their mint where it holds the secret (HS256)."""

    _log = Logger()

    def __init__(
        self,
        *,
        node_id: str | None,
        auth: AuthConfig,
        secret: Secret | None,
        store: Store,
        now: Callable[[], float],
    ) -> None:
        """`secret` is used where daemon.toml names none (own_secret). ConfigError: no usable key."""
        self._node_id = node_id
        self._algorithm = auth.jwt_algorithm
        self._single_use = auth.single_use_tokens
        self._now = now
        self._denylist = Denylist(store=store, now=now)
        self._keys = _secrets(auth, secret) if self._algorithm == "HS256" else _public_keys(auth)

    @property
    def can_mint(self) -> bool:
        return self._algorithm == "HS256" and self._node_id is not None

    async def start(self) -> None:
        """Loads the denylist. StoreFailed where the database does not answer."""
        await self._denylist.load()

    async def verify(self, token: str) -> Claims:
        """Unauthorized, TokenExpired or Forbidden (its `jti` is denied). Under `single_use_tokens` this is its use."""
        bare = token[len(PREFIX) :] if token.startswith(PREFIX) else token
        claims = judge_claims(open_token(bare, self._algorithm, self._keys), node_id=self._node_id, now=self._now())
        self._refuse_revoked(claims)
        if self._single_use:
            await self._use(claims)
            self._refuse_revoked(claims)  # it may have been meanwhile
        return claims

    def _refuse_revoked(self, claims: Claims) -> None:
        if self._denylist.is_denied(claims.jti) or self._denylist.is_revoked(
            claims.user_id, claims.server_id, claims.issued_at
        ):
            raise Forbidden("the token was revoked")

    async def revoke(self, user_id: str | None, server_id: str | None) -> None:
        """Refuses every token issued up to now for the user, the server or both. StoreFailed: only till the restart."""
        await self._denylist.revoke(user_id, server_id)

    async def deny(self, jti: str, expires_at: float) -> None:
        """Refuses the token of that `jti` from now on, also after a restart. StoreFailed: only until the restart."""
        await self._denylist.deny(jti, expires_at)

    def mint(
        self,
        server_id: str,
        permissions: Sequence[str],
        user_id: str,
        *,
        lifetime: float = DEFAULT_LIFETIME,
        metadata: Mapping[str, Json] | None = None,
    ) -> MintedToken:
        """A new token. `lifetime` is 1 to 310 s. InvalidState: only the control plane can sign them."""
        if not self.can_mint:
            raise InvalidState("this node holds no secret to sign console tokens with (jwt_public_key, or no node id)")
        if not 1 <= lifetime <= MAX_LIFETIME:
            raise ValueError(f"a token lives 1 to {MAX_LIFETIME:g} s")
        if not set(permissions) <= PERMISSIONS:
            raise ValueError(f"no such permission: {sorted(set(permissions) - PERMISSIONS)}")
        issued_at = int(self._now())
        body: dict[str, Any] = {
            "iss": ISSUER, "sub": user_id, "aud": self._node_id, "iat": issued_at, "exp": issued_at + lifetime,
            "jti": secrets.token_urlsafe(16), "serverId": server_id, "permissions": sorted(set(permissions)),
        }  # fmt: skip
        if metadata:
            body["metadata"] = dict(metadata)
        token = PREFIX + jwt.encode(body, self._keys[0], algorithm=self._algorithm)
        return MintedToken(token, issued_at + lifetime)

    async def _use(self, claims: Claims) -> None:
        try:
            fresh = await self._denylist.use(claims.jti, claims.expires_at)
        except StoreFailed as error:
            self._log.warn("A single-use token is refused: {reason}", reason=str(error))
            raise Unauthorized("the token cannot be marked as used just now") from error
        if not fresh:
            raise Unauthorized("the token was used before")


def _secrets(auth: AuthConfig, made: Secret | None) -> list[Any]:
    first = auth.jwt_secret or made
    if first is None:
        raise ConfigError("[auth] jwt_secret is missing: HS256 needs one of at least 32 bytes")
    keys = [_secret("jwt_secret", first)]
    if auth.jwt_previous_secret is not None:
        keys.append(_secret("jwt_previous_secret", auth.jwt_previous_secret))
    return keys


def _secret(name: str, secret: Secret) -> bytes:
    raw = secret.reveal().encode("utf-8")
    if len(raw) < MIN_SECRET:
        raise ConfigError(f"[auth] {name} has {len(raw)} bytes, at least {MIN_SECRET} are needed")
    try:
        with warnings.catch_warnings(action="ignore"):
            jwt.get_algorithm_by_name("HS256").prepare_key(raw)
    except jwt.InvalidKeyError:
        raise ConfigError(f"[auth] {name} is a public key or certificate: a secret is needed") from None
    return raw


def _public_keys(auth: AuthConfig) -> list[Any]:
    if auth.jwt_public_key is None:
        raise ConfigError(f"[auth] jwt_public_key is missing: jwt_algorithm is {auth.jwt_algorithm}")
    keys = [_public_key("jwt_public_key", auth.jwt_public_key, auth.jwt_algorithm)]
    if auth.jwt_previous_public_key is not None:
        keys.append(_public_key("jwt_previous_public_key", auth.jwt_previous_public_key, auth.jwt_algorithm))
    return keys


def _public_key(name: str, pem: str, algorithm: str) -> Any:
    try:
        key = load_pem_public_key(pem.strip().encode())
    except (ValueError, TypeError):
        raise ConfigError(f"[auth] {name} is no public key in PEM form") from None
    fits = {
        "EdDSA": isinstance(key, Ed25519PublicKey),
        "ES256": isinstance(key, EllipticCurvePublicKey) and isinstance(key.curve, SECP256R1),
        "RS256": isinstance(key, RSAPublicKey) and key.key_size >= 2048,
    }
    if not fits.get(algorithm, False):
        raise ConfigError(
            f"[auth] {name} does not fit jwt_algorithm {algorithm} (Ed25519, P-256, RSA of 2048 bits or more)"
        )
    return key
