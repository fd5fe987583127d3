"""Handshakes and frames that mean harm, by hand against the real daemon: refused for what they are, and cheap."""

from __future__ import annotations

import time
import zlib
from collections.abc import Iterator
from typing import Any

from tests.integration.door_case import JSON, MB, DoorCase
from tests.integration.hand_socket import BINARY, CLOSE, PING, RAW, TEXT, Refused, frame

PANEL = "https://panel.example.com"
OFFERS = (
    "permessage-deflate", "permessage-deflate; client_max_window_bits=8",
    "permessage-deflate; server_max_window_bits=8; client_max_window_bits=8; server_no_context_takeover",
    "x-webkit-deflate-frame", "constructor", "__proto__; toString=1",
)  # fmt: skip


def deflated(data: bytes, bits: int = 15) -> bytes:
    """A message as permessage-deflate would have it."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -bits)
    return (packer.compress(data) + packer.flush(zlib.Z_SYNC_FLUSH))[:-4]


def bombs() -> Iterator[tuple[str, bytes]]:
    """Each would be 40 MB and more of something typed."""
    typed = b'{"type":"input","data":"bombed\\r"' + b" " * (40 * MB) + b"}"
    for bits in (9, 15):
        packed = deflated(typed, bits)
        yield f"one frame, {bits} bits", frame(TEXT, packed, rsv=4)
        parts = [packed[at : at + 1000] for at in range(0, len(packed), 1000)]
        pieces = [
            frame(0 if at else TEXT, part, fin=part is parts[-1], rsv=0 if at else 4) for at, part in enumerate(parts)
        ]
        yield f"fragments, {bits} bits", b"".join(pieces)
    small = frame(TEXT, deflated(b'{"type":"input","data":"bombed\\r"' + b" " * 60000 + b"}"), rsv=4)
    yield "many small ones", small * 1000
    yield "as typed bytes", frame(BINARY, deflated(b"bombed\r" * 1_000_000), rsv=4)
    yield "in a continuation", frame(TEXT, b'{"type":"ping"', fin=False) + frame(0, deflated(b"}"), rsv=4)
    yield "in a ping", frame(PING, deflated(b"bombed\r"), rsv=4)


class HostileTests(DoorCase):
    server = f'allowed_origins = ["{PANEL}"]\n'

    def refused(self, **how: Any) -> tuple[int, str]:
        """The status and code of an upgrade that must be refused; the whole answer is JSON."""
        session = self.dial()
        with self.assertRaises(Refused) as caught:
            session.hello(**how)
        session.close()
        return caught.exception.status, caught.exception.code

    def test_compression(self) -> None:
        """A01, A02: compression is declined; a bomb is 1002 and reaches nothing; over 64 KiB in plain is 1009."""
        witness = self.enter()
        self.node.forget_peak()
        before = self.node.rss()
        for offer in OFFERS:
            session = self.enter(headers={"Sec-WebSocket-Extensions": offer})
            self.assertNotIn("sec-websocket-extensions", session.headers, offer)
            session.close()
        for name, bomb in bombs():
            for protocol in (RAW, JSON, ""):
                offered = {"Sec-WebSocket-Extensions": OFFERS[1]}
                if protocol:
                    session = self.enter(headers=offered, subprotocol=protocol)
                else:
                    session = self.dial().hello(headers=offered)  # a stranger: judged before it is known
                session.try_send(bomb)
                self.assertEqual(session.close_code(), 1002, (name, protocol))
                session.close()
        for opcode in (TEXT, BINARY):
            for sent in (
                frame(opcode, b" " * MB), frame(opcode, b" " * 65537),
                frame(opcode, b" " * 4096, fin=False) + frame(0, b" " * 4096, fin=False) * 16,
                frame(opcode, b" " * 65536, fin=False) + frame(0, b" "),
            ):  # fmt: skip
                session = self.enter()
                session.try_send(sent)
                self.assertEqual(session.close_code(), 1009)
                session.close()
        self.assert_grew_less(16 * MB, before)
        witness.send(frame(BINARY, b"the end\r"))
        self.assertNotIn(b"bombed", witness.output(b"you said the end\r\n"))

    def test_handshakes(self) -> None:
        """A03: what a handshake may not be is 4xx in JSON; extensions nobody speaks are declined; others go on."""
        token = self.node.token("srv_1")
        other, logged = self.enter(), len(self.node.log)
        bad_request = (400, "invalid_request")
        many = "permessage-deflate" + "".join(f"; p{number}={number}" for number in range(1000))
        for headers, wanted in (
            ([("Sec-WebSocket-Extensions", "x" * 65536)], (431, "too_large")),
            ([("X-Long", "x" * 65536)], (431, "too_large")),
            ([(f"X-{number}", "1") for number in range(1000)], bad_request),
            ([("Sec-WebSocket-Extensions", many)], bad_request),
            ([("Sec-WebSocket-Extensions", "a, " * 1000 + "a")], bad_request),
            ([("Sec-WebSocket-Extensions", "a; b")] * 60, bad_request),
            ([("Sec-WebSocket-Version", "13")], bad_request),
            ([("Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAA==")], bad_request),
            ([("Host", "other.example.com")], bad_request),
            ([("Origin", PANEL), ("Origin", PANEL)], (403, "forbidden")),
            ([("Authorization", f"Bearer {token}")], (401, "unauthorized")),
            ([("User-Agent", "a"), ("User-Agent", "b")], bad_request),
        ):  # fmt: skip
            self.assertEqual(self.refused(token=token, headers=headers), wanted, str(headers)[:80])
        for version in ("8", "12", "14", "", "013", "13, 8", "-13", "x"):
            self.assertEqual(
                self.refused(token=token, headers={"Sec-WebSocket-Version": version}), bad_request, version
            )
        for name in ("Host", "Upgrade", "Connection", "Sec-WebSocket-Key", "Sec-WebSocket-Version"):
            self.assertEqual(self.refused(token=token, without=[name]), bad_request, name)
        self.answers(other, self.enter())
        self.assertNotIn("Traceback", self.node.log[logged:])

    def test_origins(self) -> None:
        """A04: the daemon's own page, a listed one and who has none get in; others 403 or 4403; no token in a URL."""
        own = f"http://127.0.0.1:{self.node.port}"
        for good in ({}, {"Origin": own}, {"Origin": PANEL}):
            self.enter(headers=good).close()
            self.enter(first_frame=True, headers=good).close()
        token = self.node.token("srv_1")
        for origin in ("null", "https://evil.example", own.replace("http", "https"), f"{own}.evil.example", f"{own}1",
                       "http://127.0.0.1", "file://", f"{PANEL}:444", f"{PANEL}.evil.example", "", "*"):  # fmt: skip
            headers = {"Origin": origin}
            self.assertEqual(self.refused(token=token, headers=headers), (403, "forbidden"), origin)
            late = self.dial().hello(headers=headers)
            self.assertEqual(late.close_code(), 4403, origin)
        for path in (f"/console?token={token}", "/console?token=", f"/console/srv_1?since=0&token={token}"):
            for header in (token, None):
                self.assertEqual(self.refused(token=header, path=path), (400, "invalid_request"))
        self.assertNotIn(token, self.node.log)

    def test_frames_that_cost(self) -> None:
        """W13, A01: frames that are no messages are bounded too: endless empty fragments, pings by the thousand."""
        other = self.enter()
        self.node.forget_peak()
        before = self.node.rss()
        for begin, again in (
            (frame(TEXT, b"", fin=False), frame(0, b"", fin=False)),
            (b"", frame(PING, b"")),
            (b"", frame(PING, b"p" * 125)),
        ):
            for session in (self.enter(buffer=4096), self.dial(buffer=4096).hello()):
                session.socket.settimeout(0.1)  # it reads nothing: neither pongs nor what it is told
                end = time.monotonic() + 0.3
                sent = session.try_send(begin)
                while sent and time.monotonic() < end:
                    sent = session.try_send(again * 10000)
                self.answers(other)
        self.assert_grew_less(16 * MB, before)
        session = self.enter()
        session.try_send(frame(TEXT, b"", fin=False) + frame(0, b"", fin=False) * 100_000)
        while (found := session.receive()) is not None and found.opcode != CLOSE:
            pass
        assert found is not None
        self.assertEqual(found.payload[:2], b"\x03\xf0")  # 1008
