"""Bytes to commands (PROTOCOL 4): every shape of envelope, and every shape of nonsense (SECURITY K13)."""

from __future__ import annotations

import json
from itertools import count
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from stellarstack.core.codec import (
    MAX_CONTAINERS,
    MAX_MESSAGE,
    Envelope,
    RefusedMessage,
    SignedEnvelope,
    decode,
    is_server_id,
    peek,
    server_id_of,
    strict_object,
)
from stellarstack.core.messages import Command, Origin
from stellarstack.errors import InvalidCommand, InvalidPayload, StellarError, Unauthorized
from tests.examples import examples


def read(raw: bytes, origin: Origin = Origin.PUBSUB, entry_id: str | None = None) -> Any:
    names = count(1)
    return decode(raw, origin=origin, entry_id=entry_id, make_id=lambda: f"made_{next(names)}")


def message(**body: Any) -> bytes:
    return json.dumps(body).encode()


class CodecCase(SynchronousTestCase):
    def command(self, raw: bytes, **how: Any) -> Command:
        found = read(raw, **how)
        self.assertIsInstance(found, Envelope, found)
        command: Command = found.command
        return command

    def refusal(self, raw: bytes, kind: type[StellarError] = InvalidCommand, **how: Any) -> RefusedMessage:
        found = read(raw, **how)
        self.assertIsInstance(found, RefusedMessage, found)
        refused: RefusedMessage = found
        self.assertIs(type(refused.error), kind)
        return refused


class Envelopes(CodecCase):
    """What is a command."""

    def test_the_whole_envelope(self) -> None:
        """Id, type, payload and times of an envelope arrive as they were sent."""
        raw = message(id="c1", type="server.start", payload={"serverId": "srv_1"}, timestamp=5, expiresAt=7.5, extra=1)
        self.assertEqual(
            self.command(raw),
            Command("c1", "server.start", {"serverId": "srv_1"}, Origin.PUBSUB, "srv_1", 5.0, 7.5),
        )

    def test_flat_form(self) -> None:
        """Without a payload the other keys are the payload; the envelope's own are left out."""
        raw = message(id="c", type="server.stop", serverId="s", timeout=3, timestamp=1, expiresAt=2, nodeId="node_a")
        found = self.command(raw)
        self.assertEqual((found.payload, found.server_id), ({"serverId": "s", "timeout": 3}, "s"))
        self.assertEqual(self.command(message(id="c", type="node.info", payload=None)).payload, {})

    def test_flat_and_nested_ask_the_same(self) -> None:
        """The same command in either form has the same fingerprint, so a copy in the other form is a copy."""
        flat, nested = message(id="c", type="t", serverId="s"), message(id="c", type="t", payload={"serverId": "s"})
        self.assertEqual(self.command(flat).fingerprint, self.command(nested).fingerprint)

    def test_milliseconds(self) -> None:
        """Times over 1e11 are milliseconds."""
        found = self.command(message(id="c", type="t", timestamp=1_700_000_000_123, expiresAt=100_000_000_000))
        self.assertEqual((found.timestamp, found.expires_at), (1_700_000_000.123, 1e11))

    def test_missing_id(self) -> None:
        """A command without an id is named by its queue entry, or else by a new name."""
        for raw in (message(type="t"), message(type="t", id=None)):
            self.assertEqual(self.command(raw, origin=Origin.QUEUE, entry_id="5-1").id, "queue:5-1")
            self.assertEqual(self.command(raw).id, "made_1")
            self.assertFalse(read(raw).named)
        self.assertTrue(read(message(type="t", id="c")).named)

    def test_id_given_wins_over_the_entry(self) -> None:
        """A queue entry's command keeps the id it has: the same command on both ways is one command."""
        self.assertEqual(self.command(message(type="t", id="c"), origin=Origin.QUEUE, entry_id="5-1").id, "c")

    def test_node_named(self) -> None:
        """The node that an envelope names is told along."""
        self.assertEqual(read(message(type="t", nodeId="node_a")).node_id, "node_a")
        self.assertIsNone(read(message(type="t")).node_id)

    def test_server_id_forms(self) -> None:
        """Only a `serverId` of PROTOCOL 1's form is one."""
        bad: Any
        for good in ("a", "srv_8f2k", "0", "A.b-c_d", "x" * 64):
            self.assertEqual(server_id_of({"serverId": good}), good)
        for bad in ("", ".a", "_a", "-a", "a/b", "a\n", "a b", "x" * 65, "ä", 5, None, ["a"]):
            self.assertIsNone(server_id_of({"serverId": bad}))
        self.assertIsNone(server_id_of({}))
        self.assertFalse(is_server_id("../x"))

    def test_escapes_and_unicode(self) -> None:
        """Any Unicode is fine, surrogate pairs too; and white space before the object."""
        raw = b' \r\n\t{"id":"\\u00e9\xc3\xa9","type":"t","payload":{"s":"\\ud83d\\ude00"}}'
        found = self.command(raw)
        self.assertEqual((found.id, found.payload), ("éé", {"s": "😀"}))

    def test_many_brackets_in_a_text(self) -> None:
        """Brackets in a string count for nothing: a file full of JSON can be written."""
        content = '{"a":[' * 30_000 + "\\"
        self.assertEqual(
            self.command(message(id="c", type="t", payload={"content": content})).payload["content"], content
        )

    def test_depth_that_is_fine(self) -> None:
        """64 levels are fine."""
        inside = b"[" * 62 + b"]" * 62
        self.command(b'{"id":"c","type":"t","payload":{"a":' + inside + b"}}")

    def test_exactly_the_largest(self) -> None:
        """A message of exactly 1 MiB is read."""
        raw = message(id="c", type="t", payload={"s": ""})
        self.command(raw[:-3] + b"x" * (MAX_MESSAGE - len(raw)) + raw[-3:])

    def test_integers_to_the_limit(self) -> None:
        """64-bit integers keep every digit."""
        for number in (2**63 - 1, -(2**63), 10**18, -(10**17)):
            self.assertEqual(self.command(message(type="t", payload={"n": number})).payload, {"n": number})


class UnreadableMessages(CodecCase):
    """K13: what has no readable id is refused without one."""

    def test_no_object(self) -> None:
        """K13: what is no JSON object has no id to answer to."""
        for raw in (
            b"", b" ", b"garbage", b"null", b"1", b'"x"', b"[]", b'["id"]', b"{", b"{}x", b'{"id":"c"',
            b"{'id':'c'}", b"\x00",
            b'{"id":"c","type":"t",}', b'{"id":"c"}{"id":"d"}', b'\xef\xbb\xbf{"id":"c"}', b'{"id":NaN}',
            b'{"id":"c","a":NaN}',
            b'{"id":"c","a":-Infinity}', b'{"id":"c","a":01}', b'{"id":"c\n"}', b'{"id":"\xff"}',
            b'{"id":"\xed\xa0\x80"}',
        ):  # fmt: skip
            refused = self.refusal(raw)
            self.assertEqual((refused.command_id, refused.command, refused.server_id), (None, None, None), raw)

    def test_too_large(self) -> None:
        """K13: over 1 MiB is refused by its size alone."""
        refused = self.refusal(b'{"id":"c"' + b" " * MAX_MESSAGE + b"}")
        self.assertIsNone(refused.command_id)
        self.assertIn(str(MAX_MESSAGE), str(refused.error))
        self.refusal(b"\x00" * (16 * MAX_MESSAGE))

    def test_deep(self) -> None:
        """K13: nesting of 10^5, closed or not, of lists or objects, is refused and nothing overflows."""
        for raw in (
            b'{"a":' * 100_000, b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
            b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
            b'{"a":' + b"[" * 15_000 + b"]" * 15_000 + b"}",
        ):  # fmt: skip
            self.assertIsNone(self.refusal(raw).command_id)

    def test_many_containers(self) -> None:
        """K13: a MiB of empty lists is refused before it takes thirty times its size."""
        self.refusal(b'{"id":"c","type":"t","a":[' + b"[]," * MAX_CONTAINERS + b"[]]}")
        self.refusal(b'{"a":[' + b'"\\",[' * 100_000)

    def test_unreadable_ids(self) -> None:
        """An id that is no printable string of 1 to 256 characters is no id."""
        bad: Any
        for bad in ("", "x" * 257, "a\nb", "a\x00", "\x7f", 5, 5.5, True, False, [], ["c"], {}):
            refused = self.refusal(message(id=bad, type="t", payload={"serverId": "s"}))
            self.assertEqual((refused.command_id, refused.command, refused.server_id), (None, "t", "s"))
        self.assertIsNone(self.refusal(b'{"id":"\\ud800","type":"t"}').command_id)
        self.assertIsNone(self.refusal(b'{"id":"a","id":"b","type":"t"}').command_id)
        self.assertIsNone(self.refusal(b'{"id":"a","id":"b","id":"c","type":"t"}').command_id)

    def test_no_id_and_no_command(self) -> None:
        """What names neither id nor type is answered without an id, even in the queue."""
        self.assertIsNone(self.refusal(b"{}", origin=Origin.QUEUE, entry_id="5-1").command_id)


class RefusedCommands(CodecCase):
    """What is refused, but can be answered."""

    def test_flaws_keep_the_id(self) -> None:
        """A flawed message whose id can be told is answered under that id."""
        for flaw in (
            b'"n":1e999', b'"n":-1e999', b'"n":' + b"9" * 5000, b'"n":9223372036854775808', b'"n":-9223372036854775809',
            b'"n":1,"n":2', b'"n":{"a":1,"a":1}', b'"n":"\\ud800"', b'"n":["\\uDFFF"]', b'"n":{"\\uD800x":1}',
            b'"n":' + b"[" * 64 + b"]" * 64, b'"n":' + b'{"a":' * 70 + b"1" + b"}" * 70,
        ):  # fmt: skip
            refused = self.refusal(b'{"id":"c","type":"server.stop","serverId":"s",' + flaw + b"}")
            self.assertEqual((refused.command_id, refused.command, refused.server_id), ("c", "server.stop", "s"), flaw)

    def test_types(self) -> None:
        """`type` is a string of 1 to 64 printable characters."""
        bad: Any
        for bad in (None, "", 5, True, ["t"], {}, "x" * 65, "a\nb"):
            refused = self.refusal(message(id="c", type=bad))
            self.assertEqual((refused.command_id, refused.command), ("c", None))
        self.assertEqual(self.refusal(message(id="c")).command_id, "c")

    def test_payloads(self) -> None:
        """`payload` is an object."""
        bad: Any
        for bad in (5, "x", [], True, 0, False, ""):
            refused = self.refusal(message(id="c", type="t", payload=bad), InvalidPayload)
            self.assertEqual((refused.command_id, refused.command), ("c", "t"))

    def test_times(self) -> None:
        """A time is a number that can be a time; a boolean is no number."""
        bad: Any
        for key in ("timestamp", "expiresAt"):
            for bad in ("5", True, False, [], {}, -1, -0.5, 1e15, 1e300, 2**62):
                self.assertEqual(self.refusal(message(id="c", type="t", **{key: bad})).command_id, "c", bad)

    def test_node_ids(self) -> None:
        """`nodeId`, where it stands, is a string."""
        self.assertEqual(self.refusal(message(id="c", type="t", nodeId=5)).command_id, "c")

    def test_refused_in_the_queue(self) -> None:
        """A queue entry without an id is answered under its entry's name once it has a type."""
        refused = self.refusal(message(type="t", payload=5), InvalidPayload, origin=Origin.QUEUE, entry_id="5-1")
        self.assertEqual(refused.command_id, "queue:5-1")


class SignedForm(CodecCase):
    """The outer envelope of signed commands."""

    def test_parts(self) -> None:
        """The parts are told as they are, `signed` as the bytes that were signed."""
        found = read(message(signed='{"é":1}', keyId="k", signature="AA"))
        self.assertEqual(found, SignedEnvelope('{"é":1}'.encode(), "k", "AA"))

    def test_parts_missing(self) -> None:
        """With a part missing or of another type it is unauthorized, under the id inside where that is readable."""
        inside = '{"id":"c","type":"t"}'
        for body in (
            {"signed": inside},
            {"signed": inside, "keyId": 1, "signature": "x"},
            {"signed": inside, "keyId": "k"},
        ):
            self.assertEqual(self.refusal(message(**body), Unauthorized).command_id, "c")
        self.assertIsNone(self.refusal(message(signed=5, keyId="k", signature="x"), Unauthorized).command_id)
        self.assertIsNone(self.refusal(message(signed=None), Unauthorized).command_id)

    def test_peek(self) -> None:
        """A refusal names what the message says it is, whether or not that could be obeyed."""
        error = Unauthorized("no")
        self.assertEqual(
            peek(b'{"id":"c","type":"t","payload":{"serverId":"s"}}', error), RefusedMessage(error, "c", "t", "s")
        )
        self.assertEqual(peek(b'{"id":"c","type":"t","n":1e999}', error), RefusedMessage(error, "c", "t", None))
        self.assertEqual(peek(b"nonsense", error), RefusedMessage(error))


class AnyBytes(CodecCase):
    """K13: whatever comes, nothing raises and what comes out can go on the wire."""

    def judge(self, raw: bytes) -> None:
        found = read(raw, origin=Origin.QUEUE, entry_id="1-0")
        if isinstance(found, Envelope):
            json.dumps(
                [found.command.id, found.command.type, found.command.payload], allow_nan=False, ensure_ascii=False
            ).encode()
            self.assertTrue(found.command.fingerprint)
        elif isinstance(found, RefusedMessage):
            json.dumps([found.command_id, found.command, str(found.error)], ensure_ascii=False).encode()

    @examples(90)
    @given(st.binary(max_size=300))
    def test_bytes(self, raw: bytes) -> None:
        """K13: any bytes."""
        self.judge(raw)

    @examples(90)
    @given(st.text(alphabet='{}[]":,\\ud8e019-.EeNaItrulfsn \n', max_size=120))
    def test_nearly_json(self, text: str) -> None:
        """K13: any text made of JSON's own signs."""
        self.judge(b'{"id":"c","type":"t","payload":{"a":' + text.encode())
        self.judge(b"{" + text.encode() + b"}")

    @examples(90)
    @given(
        st.dictionaries(
            st.sampled_from(
                [
                    "id",
                    "type",
                    "payload",
                    "timestamp",
                    "expiresAt",
                    "nodeId",
                    "serverId",
                    "signed",
                    "keyId",
                    "signature",
                    "x",
                ]
            ),
            st.recursive(
                st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=())),
                lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
                max_leaves=6,
            ),
        )
    )
    def test_any_values(self, body: dict[str, Any]) -> None:
        """K13: any value in any place of the envelope."""
        self.judge(json.dumps(body).encode())

    def test_a_hundred_thousand(self) -> None:
        """K13: 100 000 malformed messages are each refused, and the good one after them is read."""
        nonsense = [
            b"garbage",
            b"{",
            b'{"id":1}',
            b"[]",
            b'{"id":"x","type":5}',
            b'{"a":NaN}',
            b'{"a":' * 300,
            b"\xff\xfe{",
        ]
        refused = sum(isinstance(read(nonsense[n % 8]), RefusedMessage) for n in range(100_000))
        self.assertEqual(refused, 100_000)
        self.assertEqual(self.command(message(id="c", type="t")).id, "c")


class StrictObjects(CodecCase):
    """The reader that tokens share."""

    def test_refusals_are_value_errors(self) -> None:
        """Whatever is wrong, it is a ValueError."""
        for text in ("", "[]", "1", "{", '{"a":1,"a":1}', '{"a":' * 100_000, '{"a":1e999}', '{"a":"\\ud800"}'):
            self.assertRaises(ValueError, strict_object, text)
