"""Signed commands (PROTOCOL 4, "Signed commands"; SECURITY R03, K12, P01)."""

from __future__ import annotations

import base64
import hmac
import json
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from stellarstack.auth.signing import CommandAuthority
from stellarstack.config import CommandKeyConfig, Secret
from stellarstack.core.codec import RefusedMessage
from stellarstack.core.messages import Command, Origin
from stellarstack.errors import ConfigError, InvalidCommand, StellarError, Unauthorized
from tests.examples import examples

NOW = 1_700_000_000.0
DAY = 86400.0
PRIVATE = Ed25519PrivateKey.generate()
PUBLIC = PRIVATE.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
SHARED = b"a shared secret of more than 32 bytes"


def b64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode()


KEYS = {
    "panel": CommandKeyConfig(algorithm="ed25519", key=Secret(b64(PUBLIC))),
    "shared": CommandKeyConfig(algorithm="hmac-sha256", key=Secret(b64(SHARED).rstrip("="))),
}


def envelope(**changes: Any) -> str:
    """An envelope that is good; a change to `...` takes a key away."""
    body: dict[str, Any] = {
        "id": "c1", "type": "server.start", "payload": {"serverId": "srv_1"}, "nodeId": "node_a", "timestamp": NOW,
        "expiresAt": NOW + 600,
    }  # fmt: skip
    body.update(changes)
    return json.dumps({key: value for key, value in body.items() if value is not ...})


def sign(signed: str, key_id: str = "panel", signature: bytes | str | None = None) -> bytes:
    if signature is None:
        raw = signed.encode()
        signature = PRIVATE.sign(raw) if key_id == "panel" else hmac.digest(SHARED, raw, "sha256")
    text = signature if isinstance(signature, str) else b64(signature)
    return json.dumps({"signed": signed, "keyId": key_id, "signature": text}).encode()


class SigningCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.time = NOW
        self.authority = self.make()

    def make(self, **changes: Any) -> CommandAuthority:
        how: dict[str, Any] = {"keys": KEYS, "require_signed": True, "node_id": "node_a", "now": lambda: self.time}
        return CommandAuthority(**{**how, **changes})

    def opened(self, raw: bytes, origin: Origin = Origin.PUBSUB, authority: CommandAuthority | None = None) -> Command:
        found = (authority or self.authority).open_envelope(raw, origin, "7-0" if origin is Origin.QUEUE else None)
        self.assertIsInstance(found, Command, found)
        assert isinstance(found, Command)
        return found

    def refused(
        self, raw: bytes, origin: Origin = Origin.PUBSUB, kind: type[StellarError] = Unauthorized,
        authority: CommandAuthority | None = None,
    ) -> RefusedMessage:  # fmt: skip
        found = (authority or self.authority).open_envelope(raw, origin, "7-0" if origin is Origin.QUEUE else None)
        self.assertIsInstance(found, RefusedMessage, found)
        assert isinstance(found, RefusedMessage)
        self.assertIs(type(found.error), kind)
        return found


class GoodSignatures(SigningCase):
    """What is obeyed."""

    def test_both_algorithms(self) -> None:
        """A command signed by either kind of key is the command inside."""
        for key_id in ("panel", "shared"):
            found = self.opened(sign(envelope(), key_id))
            self.assertEqual((found.id, found.type, found.server_id), ("c1", "server.start", "srv_1"))
            self.assertEqual((found.timestamp, found.expires_at), (NOW, NOW + 600))

    def test_padding_is_free(self) -> None:
        """base64url with and without padding is the same signature."""
        signature = b64(PRIVATE.sign(envelope().encode()))
        self.assertEqual(self.opened(sign(envelope(), signature=signature.rstrip("="))).id, "c1")

    def test_milliseconds(self) -> None:
        """Times in milliseconds are judged like seconds."""
        self.opened(sign(envelope(timestamp=NOW * 1000, expiresAt=(NOW + 60) * 1000)))

    def test_the_edges(self) -> None:
        """Exactly 24 h, 60 s ahead and 60 s old are still good."""
        self.opened(sign(envelope(expiresAt=NOW + DAY, timestamp=NOW + 60)))
        self.opened(sign(envelope(timestamp=NOW - 60)))

    def test_from_the_queue_expiry_alone_decides(self) -> None:
        """An old command in the queue is good as long as it has not expired; and if it has, its lane says so."""
        self.opened(sign(envelope(timestamp=NOW - 7200)), Origin.QUEUE)
        self.opened(sign(envelope(timestamp=...)), Origin.QUEUE)
        self.assertEqual(self.opened(sign(envelope(timestamp=NOW - 7200, expiresAt=NOW - 3600)), Origin.QUEUE).id, "c1")

    def test_signed_where_none_is_required(self) -> None:
        """A signature is checked and unwrapped also where none is required."""
        relaxed = self.make(require_signed=False)
        self.opened(sign(envelope()), authority=relaxed)
        self.refused(sign(envelope(), signature=b"x" * 64), authority=relaxed)

    def test_control_socket_needs_none(self) -> None:
        """The control socket needs no signature, and names what comes without an id."""
        found = self.opened(b'{"type":"node.info"}', Origin.CONTROL)
        self.assertTrue(found.id.startswith("cmd_"))
        self.assertNotEqual(found.id, self.opened(b'{"type":"node.info"}', Origin.CONTROL).id)

    def test_w16_power_at_a_console(self) -> None:
        """W16: from a console power actions need no signature, and nothing else is obeyed, signed or not required."""
        for action in ("start", "stop", "restart", "kill"):
            raw = json.dumps({"id": "ws_1", "type": f"server.{action}", "payload": {"serverId": "srv_1"}}).encode()
            self.assertEqual(self.opened(raw, Origin.CONSOLE).id, "ws_1")
        for kind in ("server.delete", "server.command", "node.shutdown", "files.read", "console.revoke"):
            raw = json.dumps({"id": "ws_1", "type": kind, "payload": {"serverId": "srv_1"}}).encode()
            for authority in (None, self.make(require_signed=False)):
                self.assertEqual(self.refused(raw, Origin.CONSOLE, authority=authority).command, kind)

    def test_k12_the_same_again(self) -> None:
        """K12: a replay opens to the very same command, so the journal's id and fingerprint stop it."""
        first, second = (self.opened(sign(envelope(), key_id)) for key_id in ("panel", "shared"))
        self.assertEqual((first.id, first.fingerprint), (second.id, second.fingerprint))


class BadSignatures(SigningCase):
    """R03: what is refused, each under the id it claims."""

    def test_r03_unsigned(self) -> None:
        """R03: where signatures are required an unsigned command is unauthorized, over both ways of Redis."""
        for origin in (Origin.PUBSUB, Origin.QUEUE):
            found = self.refused(envelope().encode(), origin)
            self.assertEqual((found.command_id, found.command, found.server_id), ("c1", "server.start", "srv_1"))

    def test_r03_tampered(self) -> None:
        """R03: with any byte of the envelope or signature changed it is unauthorized."""
        for key_id in ("panel", "shared"):
            good = envelope()
            signature = (
                PRIVATE.sign(good.encode()) if key_id == "panel" else hmac.digest(SHARED, good.encode(), "sha256")
            )
            self.refused(sign(good.replace("srv_1", "srv_2"), key_id, signature))
            self.refused(sign(good + " ", key_id, signature))
            for at in range(len(signature)):
                bad = signature[:at] + bytes([signature[at] ^ 1]) + signature[at + 1 :]
                self.assertEqual(self.refused(sign(good, key_id, bad)).command_id, "c1")

    def test_r03_signatures_of_other_shapes(self) -> None:
        """R03: what is no base64url, or empty, short or long, is no signature."""
        good = b64(PRIVATE.sign(envelope().encode()))
        for bad in (
            "",
            "=",
            "A",
            "AA",
            "é" * 86,
            good + "A",
            good[:-4],
            good.replace("=", "") + "===",
            "A" * 100_000,
            good + "\n",
        ):
            self.refused(sign(envelope(), signature=bad))

    def test_r03_the_algorithm_is_the_keys(self) -> None:
        """R03: a message cannot choose its algorithm: HMAC made with the public key's bytes is refused."""
        self.refused(sign(envelope(), "panel", hmac.digest(PUBLIC, envelope().encode(), "sha256")))
        self.refused(sign(envelope(), "shared", PRIVATE.sign(envelope().encode())))

    def test_r03_unknown_keys(self) -> None:
        """R03: a key that daemon.toml does not name signs nothing."""
        good = PRIVATE.sign(envelope().encode())
        for key_id in ("other", "", "PANEL", "panel\x00", "../panel"):
            self.refused(sign(envelope(), key_id, good))
        self.refused(sign(envelope()), authority=self.make(keys={}))

    def test_r03_wrong_node(self) -> None:
        """R03, P01: a command signed for another node, or for none, is unauthorized here."""
        for node in ("node_b", "", ..., None, "node_a "):
            self.refused(sign(envelope(nodeId=node)))
        self.refused(sign(envelope(nodeId=...)), authority=self.make(node_id=None))
        self.refused(sign(envelope()), authority=self.make(node_id=None))

    def test_p01_unsigned_for_another_node(self) -> None:
        """P01: an unsigned command that names another node is not ours either."""
        relaxed = self.make(require_signed=False)
        self.refused(envelope(nodeId="node_b").encode(), authority=relaxed)
        self.opened(envelope().encode(), authority=relaxed)
        self.opened(envelope(nodeId=...).encode(), authority=relaxed)

    def test_r03_no_id(self) -> None:
        """R03: without its own id a signed command could be run twice, also from the queue."""
        for origin in (Origin.PUBSUB, Origin.QUEUE, Origin.CONTROL):
            for missing in (..., None):
                self.assertIsNone(self.refused(sign(envelope(id=missing)), origin).command_id)

    def test_r03_times(self) -> None:
        """R03: no `expiresAt`, one over 24 h ahead, a `timestamp` ahead, and over pub/sub a stale one are refused."""
        for origin in (Origin.PUBSUB, Origin.QUEUE):
            for changes in ({"expiresAt": ...}, {"expiresAt": NOW + DAY + 1}, {"timestamp": NOW + 61}):
                self.assertEqual(self.refused(sign(envelope(**changes)), origin).command_id, "c1")
        for changes in ({"timestamp": NOW - 61}, {"timestamp": ...}):
            self.refused(sign(envelope(**changes)), Origin.PUBSUB)
        self.time = NOW + 61
        self.refused(sign(envelope()))

    def test_signed_nonsense(self) -> None:
        """A good signature over what is no command makes no command of it."""
        self.refused(sign("nonsense"), kind=InvalidCommand)
        self.refused(sign(sign(envelope()).decode()))
        self.assertEqual(self.refused(sign(envelope(type=5)), kind=InvalidCommand).command_id, "c1")
        self.refused(b"nonsense", kind=InvalidCommand)

    @examples(50)
    @given(st.text(max_size=60), st.sampled_from(["panel", "shared", "x"]), st.text(max_size=100))
    def test_r03_forgeries(self, signed: str, key_id: str, signature: str) -> None:
        """R03: whatever is made without a key comes out as a refusal, never as a command or an exception."""
        self.refused(sign(signed, key_id, signature))


class Keys(SigningCase):
    """Keys of daemon.toml."""

    def test_unusable_keys(self) -> None:
        """A key that is no base64url, too short, or no public key refuses the start, and is not shown."""
        for algorithm, key in (
            ("ed25519", "not base64!" * 4), ("ed25519", b64(b"x" * 31)), ("ed25519", b64(b"x" * 33)),
            ("hmac-sha256", b64(b"x" * 31)), ("hmac-sha256", "A" * 45), ("rsa", b64(b"x" * 32)), ("hmac-sha256", ""),
        ):  # fmt: skip
            config = CommandKeyConfig(algorithm=algorithm, key=Secret(key))
            error = self.assertRaises(ConfigError, self.make, keys={"k": config})
            self.assertIn("auth.command_keys.k", str(error))
            if key:
                self.assertNotIn(key, str(error))
