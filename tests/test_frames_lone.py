"""A key's frame, read without a WebSocket library: only where it is whole, alone and sound."""

from __future__ import annotations

import struct

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from stellarstack.core.frames import lone_message

TEXT, BINARY = 0x81, 0x82


def frame(first: int, payload: bytes, key: bytes, *, mask: bool = True) -> bytes:
    """As RFC 6455 5.2 has it, byte by byte."""
    bit, size = 0x80 if mask else 0, len(payload)
    head = struct.pack("!BB", first, bit | size) if size < 126 else struct.pack("!BBH", first, bit | 126, size)
    body = bytes(byte ^ key[at % 4] for at, byte in enumerate(payload)) if mask else payload
    return head + (key if mask else b"") + body


KEYS = st.binary(min_size=4, max_size=4)


class TestLoneMessage(SynchronousTestCase):
    """What is read, and what is left to Autobahn."""

    @given(st.binary(min_size=1, max_size=125), KEYS)
    def test_binary(self, payload: bytes, key: bytes) -> None:
        """A whole binary frame is its bytes; cut anywhere, or with one byte more, it is not for us."""
        whole = frame(BINARY, payload, key)
        self.assertEqual(lone_message(whole), payload)
        for other in (whole[:-1], whole[:5], whole + b"x", whole + whole):
            self.assertIsNone(lone_message(other))

    @given(st.text(min_size=1, max_size=30), KEYS)
    def test_text(self, text: str, key: bytes) -> None:
        """A whole text frame is its text."""
        payload = text.encode("utf-8", "replace")
        self.assertEqual(lone_message(frame(TEXT, payload, key)), payload.decode())

    def test_rest(self) -> None:
        """Anything else is None: control frames, fragments, reserved bits, no mask, bad UTF-8, too long, empty."""
        key, ping, close, start, rest, reserved = b"abcd", 0x89, 0x88, 0x02, 0x80, 0xC2
        rows = [frame(first, b"x", key) for first in (ping, close, start, rest, reserved, 0x83)]
        rows += [frame(BINARY, b"x", key, mask=False), frame(BINARY, b"x" * 5, key, mask=False)]
        rows += [frame(TEXT, b"\xff", key), frame(BINARY, b"x" * 126, key), frame(BINARY, b"", key), b"", b"\x82"]
        self.assertEqual([lone_message(row) for row in rows], [None] * len(rows))
