"""Console tokens: what is accepted, and everything that is not (PROTOCOL 1; SECURITY J01 to J06, W16, P04, K22)."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from stellarstack.auth.denylist import GRACE, Denylist
from stellarstack.auth.token import PREFIX, ConsoleTokens
from stellarstack.config import AuthConfig, Secret
from stellarstack.core.claims import Claims
from stellarstack.errors import ConfigError, Forbidden, InvalidState, StoreFailed, TokenExpired, Unauthorized

SECRET = "a-secret-of-more-than-thirty-two-bytes!"
NOW = 1_700_000_000.0
ED25519 = ed25519.Ed25519PrivateKey.generate()
P256 = ec.generate_private_key(ec.SECP256R1())
RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)


class DenyStore:
    """The part of the store that tokens use; `failing` refuses every commit."""

    def __init__(self) -> None:
        self.rows: dict[str, float] = {}
        self.failing = False
        self.meanwhile: Callable[[], Awaitable[None]] | None = None  # happens once, while the next commit is under way

    async def deny(self, jti: str, expires_at: float) -> None:
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile is not None:
            await meanwhile()
        if self.failing:
            raise StoreFailed("the disk is full")
        self.rows[jti] = expires_at

    async def denied(self) -> Mapping[str, float]:
        return dict(self.rows)


class Wall:
    """A wall clock that a test sets."""

    def __init__(self) -> None:
        self.time = NOW

    def __call__(self) -> float:
        return self.time


def pem(key: Any) -> str:
    text: bytes = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return text.decode()


def good_claims(**changes: Any) -> dict[str, Any]:
    """Claims that are good; a change to `...` takes one away."""
    body: dict[str, Any] = {
        "iss": "stellarstack", "sub": "user_1", "aud": "node_a", "iat": NOW, "exp": NOW + 300, "jti": "j1",
        "serverId": "srv_1", "permissions": {"canRead": True, "canWrite": False},
    }  # fmt: skip
    body.update(changes)
    return {key: value for key, value in body.items() if value is not ...}


def b64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def hs256(header: str, body: str, secret: bytes = SECRET.encode()) -> str:
    """A token signed by hand, so that header and body can be any text."""
    signing_input = f"{b64(header.encode())}.{b64(body.encode('utf-8', 'surrogatepass'))}"
    return f"{signing_input}.{b64(hmac.digest(secret, signing_input.encode(), hashlib.sha256))}"


def signed(**changes: Any) -> str:
    return hs256('{"alg":"HS256","typ":"JWT"}', json.dumps(good_claims(**changes)))


def with_header(**header: Any) -> str:
    return hs256(json.dumps({"alg": "HS256", **header}), json.dumps(good_claims()))


class TokenCase(SynchronousTestCase):
    """A node `node_a` whose clock stands at NOW."""

    def setUp(self) -> None:
        self.store = DenyStore()
        self.wall = Wall()
        self.tokens = self.make()

    def make(self, secret: str | None = None, **auth: Any) -> ConsoleTokens:
        if "jwt_algorithm" not in auth and "jwt_secret" not in auth and secret is None:
            auth["jwt_secret"] = Secret(SECRET)
        found = ConsoleTokens(
            node_id="node_a", auth=AuthConfig(**auth), secret=Secret(secret) if secret is not None else None,
            store=self.store, now=self.wall,  # type: ignore[arg-type]
        )  # fmt: skip
        self.successResultOf(Deferred.fromCoroutine(found.start()))
        return found

    def verify(self, token: str, tokens: ConsoleTokens | None = None) -> Claims:
        return self.successResultOf(Deferred.fromCoroutine((tokens or self.tokens).verify(token)))

    def refused(self, token: str, kind: type[Exception] = Unauthorized, tokens: ConsoleTokens | None = None) -> str:
        """Asserts that exactly this kind of error comes, and answers its text."""
        failure = self.failureResultOf(Deferred.fromCoroutine((tokens or self.tokens).verify(token)))
        self.assertIs(failure.type, kind, f"{failure.value} for {token[:300]}")
        return str(failure.value)


class GoodTokens(TokenCase):
    """What is accepted."""

    def test_claims_are_read(self) -> None:
        """A good token tells who it speaks for, on which server, and until when."""
        found = self.verify(signed(metadata={"username": "Ann", "ip": "192.0.2.1", "more": 1}))
        self.assertEqual((found.user_id, found.server_id, found.jti), ("user_1", "srv_1", "j1"))
        self.assertEqual((found.issued_at, found.expires_at), (NOW, NOW + 300))
        self.assertEqual((found.username, found.ip), ("Ann", "192.0.2.1"))
        self.assertEqual(found.permissions, {"console.read", "stats.read"})

    def test_prefix_is_optional(self) -> None:
        """`strk_console_` + JWT and the bare JWT are the same token."""
        self.assertEqual(self.verify(PREFIX + signed()), self.verify(signed()))

    def test_times_may_be_floats(self) -> None:
        """Times are numbers: a fraction of a second is fine."""
        self.assertEqual(self.verify(signed(iat=NOW - 0.5, exp=NOW + 300.25)).expires_at, NOW + 300.25)

    def test_the_other_algorithms(self) -> None:
        """EdDSA, ES256 and RS256 tokens are checked with a public key from daemon.toml."""
        for algorithm, key in (("EdDSA", ED25519), ("ES256", P256), ("RS256", RSA)):
            tokens = self.make(jwt_algorithm=algorithm, jwt_public_key=pem(key))
            token = jwt.encode(good_claims(), key, algorithm=algorithm)
            self.assertEqual(self.verify(token, tokens).user_id, "user_1")
            self.refused(token[:-8] + "AAAAAAAA", tokens=tokens)

    def test_two_keys_while_rotating(self) -> None:
        """Tokens of the previous secret or public key are good beside those of the present one."""
        both = self.make(jwt_secret=Secret("n" * 40), jwt_previous_secret=Secret(SECRET))
        self.assertEqual(self.verify(signed(), both).jti, "j1")
        other = ed25519.Ed25519PrivateKey.generate()
        keys = self.make(jwt_algorithm="EdDSA", jwt_public_key=pem(other), jwt_previous_public_key=pem(ED25519))
        for key in (other, ED25519):
            self.assertEqual(self.verify(jwt.encode(good_claims(), key, algorithm="EdDSA"), keys).jti, "j1")

    def test_a_made_secret_serves_where_none_is_configured(self) -> None:
        """Without a key in daemon.toml the secret of the state folder signs and checks."""
        tokens = self.make(secret=SECRET)
        self.assertEqual(self.verify(signed(), tokens).jti, "j1")

    def test_j04_kid_that_is_a_name_is_ignored(self) -> None:
        """J04: a `kid` of an honest issuer changes nothing, for no key is looked up by it."""
        self.assertEqual(self.verify(with_header(kid="2024-05:key.1")).jti, "j1")


class MintedTokens(TokenCase):
    """Tokens of the node's own."""

    def test_minted_is_verified(self) -> None:
        """A minted token is accepted, carries what was asked and lives as long as asked."""
        made = self.tokens.mint("srv_9", ["console.read", "files.read"], "ann", lifetime=60, metadata={"username": "A"})
        self.assertTrue(made.token.startswith(PREFIX))
        found = self.verify(made.token)
        self.assertEqual((found.server_id, found.user_id, found.username), ("srv_9", "ann", "A"))
        self.assertEqual(found.permissions, {"console.read", "files.read"})
        self.assertEqual((found.expires_at, made.expires_at), (NOW + 60, NOW + 60))

    def test_each_has_its_own_jti(self) -> None:
        """Two minted tokens never share a `jti`."""
        first, second = (self.verify(self.tokens.mint("s", [], "u").token) for _ in range(2))
        self.assertNotEqual(first.jti, second.jti)

    def test_bounds(self) -> None:
        """Neither a longer life than 310 s nor an unknown permission is minted."""
        for lifetime in (0, 311, float("nan")):
            self.assertRaises(ValueError, self.tokens.mint, "s", [], "u", lifetime=lifetime)
        self.assertRaises(ValueError, self.tokens.mint, "s", ["root"], "u")

    def test_only_where_the_secret_is(self) -> None:
        """With a public key there is nothing to sign with."""
        tokens = self.make(jwt_algorithm="EdDSA", jwt_public_key=pem(ED25519))
        self.assertFalse(tokens.can_mint)
        self.assertRaises(InvalidState, tokens.mint, "s", [], "u")

    def test_repr_hides_the_token(self) -> None:
        """P07: what is minted shows in no repr."""
        made = self.tokens.mint("s", [], "u")
        self.assertNotIn(made.token, repr(made))


class RefusedTokens(TokenCase):
    """What is refused."""

    def test_j01_algorithm_none(self) -> None:
        """J01: no spelling of `none`, no other algorithm and no missing one is accepted."""
        body = json.dumps(good_claims())
        alg: Any
        for alg in ("none", "None", "nOnE", "", "hs256", "HS512", "HS384", "RS256", None, 1, ["HS256"], {}):
            header = b64(json.dumps({"alg": alg}).encode())
            for token in (f"{header}.{b64(body.encode())}.", f"{header}.{b64(body.encode())}.AA"):
                self.refused(token)
            self.refused(hs256(json.dumps({"alg": alg}), body))
        self.refused(hs256("{}", body))

    def test_j01_public_key_as_a_secret(self) -> None:
        """J01: HS256 signed with the public key's own text (or its JWK) is refused by a verifier of that key."""
        for algorithm, key in (("EdDSA", ED25519), ("RS256", RSA), ("ES256", P256)):
            tokens = self.make(jwt_algorithm=algorithm, jwt_public_key=pem(key))
            raw = pem(key).encode()
            as_der = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
            for secret in (raw, b" " + raw, raw.strip(), raw + b"\n", as_der):
                for alg in ("HS256", algorithm):
                    self.refused(hs256(json.dumps({"alg": alg}), json.dumps(good_claims()), secret), tokens=tokens)

    def test_j01_public_key_where_a_secret_belongs(self) -> None:
        """J01: a public key as `jwt_secret` is a config error, for everybody knows it."""
        self.assertRaises(ConfigError, self.make, jwt_secret=Secret(pem(ED25519)))

    def test_j02_crit(self) -> None:
        """J02: whatever `crit` says must be understood, and nothing of it is."""
        for crit in (["x"], [], ["exp"], "x", None):
            self.refused(with_header(crit=crit))

    def test_j03_issuer(self) -> None:
        """J03: `iss` is exactly the string."""
        for iss in ("__stellarstack__", "stellar", "Stellarstack", "", ["stellarstack"], 1, None, ..., True):
            self.refused(signed(iss=iss))

    def test_j04_header_keys(self) -> None:
        """J04: a header that brings or names a key outside is refused, and so is a `kid` that is no name."""
        jwk = {"kty": "oct", "k": b64(b"x" * 32)}
        for name, value in (("jku", "http://127.0.0.1/"), ("x5u", "http://127.0.0.1/"), ("jwk", jwk), ("x5c", ["AA"])):
            self.refused(with_header(**{name: value}))
        for kid in ("../../etc/passwd", "x' OR '1'='1", "k" * 1_000_000, "", 5, None, ["a"]):
            self.refused(with_header(kid=kid))

    def test_payload_form_headers(self) -> None:
        """`b64` and `zip` would have the claims read otherwise, so they are refused."""
        self.refused(with_header(b64=False))
        self.refused(with_header(zip="DEF"))

    def test_j05_weak_secret(self) -> None:
        """J05: a secret under 32 bytes refuses the start, wherever it stands."""
        self.assertRaises(ConfigError, self.make, jwt_secret=Secret("x" * 31))
        self.assertRaises(ConfigError, self.make, secret="x" * 31)
        self.assertRaises(ConfigError, self.make, jwt_secret=Secret(SECRET), jwt_previous_secret=Secret("short"))
        ConsoleTokens(node_id="n", auth=AuthConfig(jwt_secret=Secret("x" * 32)), secret=None, store=self.store, now=self.wall)  # type: ignore[arg-type]  # fmt: skip  # noqa: E501

    def test_unusable_keys(self) -> None:
        """A key that is missing, no PEM, or of another algorithm refuses the start."""
        small = rsa.generate_private_key(public_exponent=65537, key_size=1024)
        self.assertRaises(ConfigError, self.make, jwt_algorithm="EdDSA")
        self.assertRaises(ConfigError, self.make, jwt_algorithm="HS256")
        self.assertRaises(ConfigError, self.make, jwt_algorithm="EdDSA", jwt_public_key="hello")
        self.assertRaises(ConfigError, self.make, jwt_algorithm="EdDSA", jwt_public_key=pem(P256))
        self.assertRaises(ConfigError, self.make, jwt_algorithm="RS256", jwt_public_key=pem(small))

    def test_j06_expiry(self) -> None:
        """J06: `exp` has no leeway at all."""
        self.wall.time = NOW + 299.999
        self.assertEqual(self.verify(signed()).jti, "j1")
        self.wall.time = NOW + 300
        self.refused(signed(), TokenExpired)
        self.refused(signed(exp=NOW - 1, iat=NOW - 200), TokenExpired)

    def test_j06_times_are_numbers(self) -> None:
        """J06: a time is a number in range: no string, no boolean, no NaN, nothing missing."""
        value: Any
        for claim in ("exp", "iat", "nbf"):
            for value in ("1700000100", True, False, None, [NOW], {}, -1, 1e308, 1e12, 10**30):
                self.refused(signed(**{claim: value}))
        for claim in ("exp", "iat"):
            self.refused(signed(**{claim: ...}))
        for text in ("NaN", "Infinity", "1e999", "-Infinity"):
            body = json.dumps(good_claims(exp=4242)).replace("4242", text)
            self.refused(hs256('{"alg":"HS256"}', body))

    def test_j06_leeway_ahead(self) -> None:
        """J06: `iat` and `nbf` may lie 30 s ahead and not more."""
        self.verify(signed(iat=NOW + 30, nbf=NOW + 30, exp=NOW + 40))
        self.refused(signed(iat=NOW + 31, exp=NOW + 40))
        self.refused(signed(nbf=NOW + 31))

    def test_j06_lifetime(self) -> None:
        """J06: 310 s is the longest life; none or less than none is refused too."""
        self.verify(signed(exp=NOW + 310))
        self.refused(signed(exp=NOW + 310.5))
        self.refused(signed(iat=NOW - 20, exp=NOW + 300))
        self.refused(signed(iat=NOW + 20, exp=NOW + 10))

    def test_j06_duplicate_keys(self) -> None:
        """J06: a claim or header that stands twice is refused, whichever reader would win."""
        body = json.dumps(good_claims())
        self.refused(hs256('{"alg":"HS256"}', body[:-1] + ',"aud":"node_a"}'))
        self.refused(hs256('{"alg":"HS256"}', body.replace('"canRead"', '"canWrite": true, "canRead"')))
        self.refused(hs256('{"alg":"none","alg":"HS256"}', body))

    def test_p01_audience(self) -> None:
        """P01: `aud` is this node's id as a string, not a list with it."""
        for aud in ("node_b", "node_", "", ["node_a"], None, ..., 1, "node_a "):
            self.refused(signed(aud=aud))

    def test_a_node_without_id_accepts_nothing(self) -> None:
        """Before the registration no token can be meant for this node."""
        tokens = ConsoleTokens(node_id=None, auth=AuthConfig(jwt_secret=Secret(SECRET)), secret=None, store=self.store, now=self.wall)  # type: ignore[arg-type]  # fmt: skip  # noqa: E501
        for aud in (None, ..., "", "None", "node_a"):
            self.refused(signed(aud=aud), tokens=tokens)
        self.assertRaises(InvalidState, tokens.mint, "s", [], "u")

    def test_missing_and_wrong_claims(self) -> None:
        """Each claim must be there and of its form."""
        for claim in ("sub", "jti", "serverId", "permissions"):
            for value in (..., None, "", 1, True, [1], {"a": 1}, "x" * 300, "a\nb"):
                if claim == "permissions" and value == "":
                    value = "console.read"
                self.refused(signed(**{claim: value}))
        for server in ("../x", ".x", "-x", "a/b", "a b", "x" * 65):
            self.refused(signed(serverId=server))
        metadata: Any
        for metadata in ("x", [], 1, {"username": 1}, {"ip": ["1"]}, {"username": "x" * 300}):
            self.refused(signed(metadata=metadata))

    def test_garbage(self) -> None:
        """What is no token at all is refused, a huge one before it is looked at."""
        good = signed()
        head, body, tail = good.split(".")
        for token in (
            "", ".", "..", "...", "a.b.c", PREFIX, PREFIX + PREFIX + good, good + ".", "é.é.é", good + "=",
            f"{head}.{body}.", f"{head}..{tail}", f"{head} .{body}.{tail}", f"{head}.{body}.{tail}\n", "x" * 100_000,
            hs256('{"alg":"HS256"}', "[]"), hs256('{"alg":"HS256"}', "1"), hs256('{"alg":"HS256"}', "{"),
            hs256("[]", "{}"), hs256('{"alg":"HS256"}', "[" * 3000), hs256('{"alg":"HS256"}', '{"sub":"\\ud800"}'),
            hs256('{"alg":"HS256"}', '{"sub":"\ud800"}'),
        ):  # fmt: skip
            self.refused(token)

    def test_every_single_change_is_noticed(self) -> None:
        """A good token with one character of header, claims or signature changed is refused."""
        good = signed()
        for at in range(len(good) - 1):
            if good[at] != ".":
                self.refused(good[:at] + ("A" if good[at] != "A" else "B") + good[at + 1 :])

    def test_k22_clock_jumps(self) -> None:
        """K22: tokens are judged by the wall clock, whichever way it jumps."""
        token = signed()
        for jump, kind in ((3600, TokenExpired), (-3600, Unauthorized), (86400, TokenExpired), (-86400, Unauthorized)):
            self.wall.time = NOW + jump
            self.refused(token, kind)
        self.wall.time = NOW
        self.verify(token)


class Permissions(TokenCase):
    """W16: the permissions are the token's purpose."""

    def test_w16_objects(self) -> None:
        """W16: canRead is console.read and stats.read, canWrite adds console.write, and neither gives anything else."""
        for shape, expected in (
            ({"canRead": True}, {"console.read", "stats.read"}),
            ({"canRead": True, "canWrite": True}, {"console.read", "stats.read", "console.write"}),
            ({"canRead": False, "canWrite": False}, set()),
            ({"canWrite": True}, {"console.write"}),
        ):
            self.assertEqual(self.verify(signed(permissions=shape)).permissions, expected)

    def test_w16_lists(self) -> None:
        """W16: a list gives what it names, and a name nobody knows gives nothing."""
        found = self.verify(signed(permissions=["files.read", "backup-download", "*", "console"]))
        self.assertEqual(found.permissions, {"files.read"})
        self.assertTrue(found.allows("files.read"))
        self.assertFalse(found.allows("console.read"))

    def test_w16_other_shapes(self) -> None:
        """W16: no third shape is guessed at."""
        for shape in ("console.read", 1, True, None, {}, {"canRead": 1}, {"canRead": "true"}, [["console.read"]],
                      [None], {"read": True}, ["console.read"] * 65):  # fmt: skip
            self.refused(signed(permissions=shape))


class Revoked(TokenCase):
    """The denylist and single use."""

    def test_denied(self) -> None:
        """A denied `jti` is forbidden at once, and still after a restart."""
        self.verify(signed())
        self.successResultOf(Deferred.fromCoroutine(self.tokens.deny("j1", NOW + 300)))
        self.refused(signed(), Forbidden)
        self.refused(signed(), Forbidden, self.make())
        self.verify(signed(jti="j2"))

    def test_denied_though_the_store_fails(self) -> None:
        """Where the database cannot commit, the denial is told as failed but holds until the restart."""
        self.store.failing = True
        self.failureResultOf(Deferred.fromCoroutine(self.tokens.deny("j1", NOW + 300)), StoreFailed)
        self.refused(signed(), Forbidden)

    def test_many_uses_by_default(self) -> None:
        """Without `single_use_tokens` a token may be shown again."""
        self.verify(signed())
        self.verify(signed())
        self.assertEqual(self.store.rows, {})

    def test_w12_all_tokens_of_a_user(self) -> None:
        """W12: a revoked user's earlier tokens are refused, also after a restart; another's are not, nor a new one."""
        self.successResultOf(Deferred.fromCoroutine(self.tokens.revoke("user_1", None)))
        for tokens in (self.tokens, self.make()):
            self.refused(signed(), Forbidden, tokens)
            self.verify(signed(sub="user_2"), tokens)
            self.verify(signed(iat=NOW + 1), tokens)

    def test_w11_all_tokens_of_a_user_on_a_server(self) -> None:
        """W11: revoked for one server, the user's tokens for another hold."""
        self.successResultOf(Deferred.fromCoroutine(self.tokens.revoke("user_1", "srv_1")))
        self.refused(signed(), Forbidden)
        self.verify(signed(serverId="srv_2"))
        self.wall.time += 500
        self.verify(signed(iat=self.wall.time, exp=self.wall.time + 60))

    def test_p04_single_use(self) -> None:
        """P04: with `single_use_tokens` the second use is unauthorized, also after a restart."""
        tokens = self.make(jwt_secret=Secret(SECRET), single_use_tokens=True)
        self.verify(signed(), tokens)
        self.refused(signed(), Unauthorized, tokens)
        self.refused(signed(), Unauthorized, self.make(jwt_secret=Secret(SECRET), single_use_tokens=True))
        self.verify(signed(jti="j2"), tokens)

    def test_revoked_while_it_is_used(self) -> None:
        """P04, W12: a revoke that comes while the use is committed is not missed."""
        tokens = self.make(jwt_secret=Secret(SECRET), single_use_tokens=True)
        self.store.meanwhile = lambda: tokens.revoke("user_1", None)
        self.refused(signed(), Forbidden, tokens)

    def test_p04_a_bad_token_uses_nothing(self) -> None:
        """P04: a token that is refused does not burn its `jti`."""
        tokens = self.make(jwt_secret=Secret(SECRET), single_use_tokens=True)
        self.refused(signed(aud="node_b"), Unauthorized, tokens)
        self.verify(signed(), tokens)

    def test_p04_unmarked_is_unused(self) -> None:
        """P04: a use that cannot be committed is refused, and the token is good once the database is."""
        tokens = self.make(jwt_secret=Secret(SECRET), single_use_tokens=True)
        self.store.failing = True
        self.refused(signed(), Unauthorized, tokens)
        self.store.failing = False
        self.verify(signed(), tokens)

    def test_forgotten_after_the_grace(self) -> None:
        """The list does not grow for ever, and K22: a clock set back an hour revives no token."""
        kept = Denylist(store=self.store, now=self.wall)  # type: ignore[arg-type]

        def deny(jti: str, until: float) -> None:
            self.successResultOf(Deferred.fromCoroutine(kept.deny(jti, until)))

        deny("old", NOW + 10)
        self.wall.time = NOW + 10 + GRACE - 1
        deny("new", self.wall.time)
        self.assertTrue(kept.is_denied("old"))
        self.wall.time += 2
        deny("newer", self.wall.time)
        self.assertFalse(kept.is_denied("old"))
        self.assertEqual(len(kept), 2)

    def test_denied_longer_stays_longer(self) -> None:
        """A second denial of the same `jti` prolongs the first one and never shortens it."""
        kept = Denylist(store=self.store, now=self.wall)  # type: ignore[arg-type]
        for until in (NOW + 10, NOW + 5000, NOW + 20):
            self.successResultOf(Deferred.fromCoroutine(kept.deny("j", until)))
        self.wall.time = NOW + GRACE + 4000
        self.successResultOf(Deferred.fromCoroutine(kept.deny("other", self.wall.time)))
        self.assertTrue(kept.is_denied("j"))
