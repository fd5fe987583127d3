"""RFC 6455 against the daemon's own listener and options: the cases of the public suite, frames made by hand.

autobahntestsuite, the public one, is written in Python 2; its cases stand here as rows (rfc6455_cases.py) with its
numbers: all of sections 1 to 7 and 10 as they stand, section 9 with our 64 KiB (its larger messages must end with
1009), and the offers of sections 12 and 13, which are all declined, as the RFC allows. `test_number` holds how many.
The suite wants an echo: what is typed comes back from a real container's terminal in raw mode.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.hand_socket import BINARY, CLOSE, PING, PONG, TEXT, Frame, HandSocket, frame
from tests.integration.node_process import NodeProcess
from tests.integration.rfc6455_cases import (
    ASK,
    Answer,
    Case,
    Closed,
    Echo,
    Ponged,
    Said,
    asks,
    closing,
    fail_fast,
    filled,
    fragments,
    framing,
    opcodes,
    pings,
    reserved_bits,
    suite_names,
    utf8,
)

GAME = "stty raw -echo; echo Done; exec cat"
CONFIG = "[console]\ninput_bytes_per_second = 104857600\ninput_messages_per_second = 100000\n"
OFFERS = (
    "permessage-deflate",
    "permessage-deflate; client_max_window_bits",
    "permessage-deflate; client_no_context_takeover; server_no_context_takeover",
    "permessage-deflate; client_max_window_bits=9; server_max_window_bits=9",
    "permessage-deflate; client_max_window_bits=15; server_max_window_bits=15",
    "permessage-deflate; server_no_context_takeover; server_max_window_bits=9",
    "permessage-deflate; server_no_context_takeover; server_max_window_bits=15",
    "permessage-deflate; server_max_window_bits=9, permessage-deflate; server_no_context_takeover, permessage-deflate",
)


class ConformanceCase(SynchronousTestCase):
    """One daemon with one server that echoes bytes as they are."""

    def setUp(self) -> None:
        self.node = NodeProcess(extra=CONFIG)
        self.addCleanup(self.node.close)
        self.node.start()
        self.node.create("srv_1", GAME)
        self.token = self.node.token("srv_1")

    def session(self, **how: object) -> HandSocket:
        made = HandSocket(self.node.port).hello(self.token, path="/console?scrollback=0", **how)
        made.until("ready")
        return made

    def check(self, cases: Iterable[Case]) -> None:
        """Each case in a session of its own; then the next session is as good as the first."""
        for case in cases:
            session = self.session()
            try:
                self._play(session, case)
            except (AssertionError, OSError) as error:
                self.fail(f"case {case.name}: {type(error).__name__} {error}")
            finally:
                session.close()

    def _play(self, session: HandSocket, case: Case) -> None:
        for piece in case.sent:
            step = case.chop or len(piece) or 1
            for at in range(0, len(piece), step):
                session.try_send(piece[at : at + step])  # who has failed us may be gone
        for answer in case.answers:
            self._await(session, answer)
        if not (case.answers and isinstance(case.answers[-1], Closed)):
            session.send(frame(PING, b"still there") + frame(CLOSE, struct.pack("!H", 1000)))
            self._await(session, Ponged(b"still there"))
            self._await(session, Closed((1000,)))

    def _await(self, session: HandSocket, answer: Answer) -> None:
        match answer:
            case Echo(data):
                seen = b""
                while len(seen) < len(data):
                    try:
                        seen += self._next(session, BINARY).payload
                    except AssertionError as error:
                        raise AssertionError(f"after {len(seen)} bytes of {len(data)}: {error}") from None
                if seen != data:
                    raise AssertionError(f"{seen[:100]!r} for {data[:100]!r}")
            case Said(kind):
                found = self._next(session, TEXT).json()
                if found["type"] != kind:
                    raise AssertionError(f"{found} for {kind}")
            case Ponged(payload):
                if (found := self._next(session, PONG)).payload != payload:
                    raise AssertionError(f"{found} for pong {payload!r}")
            case Closed(codes, amid):
                self._ended(session, codes, amid)

    def _next(self, session: HandSocket, opcode: int) -> Frame:
        """The next frame, which must be of this kind; the daemon neither masks nor fragments."""
        while (found := session.receive(20)) is not None and found.opcode == TEXT:
            if found.json()["type"] not in ("stats", "status"):  # these come by themselves
                break
        if found is None or found.opcode != opcode or found.masked or found.rsv or not found.fin:
            raise AssertionError(f"{found} where opcode {opcode} was due")
        return found

    def _ended(self, session: HandSocket, codes: tuple[int, ...], amid: bool) -> None:
        """One close frame, nothing after it, then the end of the connection."""
        found = self._next(session, CLOSE)
        code = struct.unpack("!H", found.payload[:2])[0] if found.payload else 1005
        if code not in codes:
            raise AssertionError(f"closed with {code} {found.payload[2:]!r}, not {codes}")
        session.try_send(frame(CLOSE, found.payload))
        if not amid and (after := session.receive(20)) is not None:
            raise AssertionError(f"{after} after the close frame")


class ConformanceTests(ConformanceCase):
    def test_framing(self) -> None:
        """1.1 and 1.2: text and binary messages of all lengths' forms, up to our 64 KiB."""
        self.check(framing())

    def test_pings(self) -> None:
        """2: pings are answered in order with what they hold, pongs are not; over 125 bytes is an error."""
        self.check(pings())

    def test_reserved_bits_and_opcodes(self) -> None:
        """3 and 4: reserved bits and opcodes fail the connection; what came before them is still answered."""
        self.check([*reserved_bits(), *opcodes()])

    def test_fragments(self) -> None:
        """5: fragmented messages with control frames between, and fragments that belong to nothing."""
        self.check(fragments())

    def test_utf8(self) -> None:
        """6: text is UTF-8 and nothing else, wherever it is cut, alone and inside a message of ours."""
        self.check(utf8())

    def test_fail_fast(self) -> None:
        """6.4: bad UTF-8 fails the connection when it comes, not when the message ends."""
        self.check(fail_fast())

    def test_closing(self) -> None:
        """7: close frames, their codes and reasons; nothing is answered after them."""
        self.check(closing())

    def test_sizes(self) -> None:
        """9.1 to 9.6: 64 KiB is read, more is 1009 as soon as it is known, in one frame, in fragments, in pieces."""
        exact, echo = filled(65536)
        self.check([Case("9.1.1", (frame(TEXT, exact),), (echo,)),
                    Case("9.2.1", (frame(BINARY, b"b" * 65536),), (Echo(b"b" * 65536),))])  # fmt: skip
        over = Closed((1009,), amid=True)
        sizes = (64, 256, 1 << 10, 4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20, 4 << 20)
        for opcode, section in ((TEXT, 1), (BINARY, 2)):
            for number, size in enumerate((256 << 10, 1 << 20, 4 << 20, 8 << 20, 16 << 20), 2):
                head = bytes([0x80 | opcode, 0x80 | 127]) + struct.pack("!Q", size) + b"mask"
                self.check([Case(f"9.{section}.{number}", (head,), (over,))])
        for opcode, section in ((TEXT, 3), (BINARY, 4)):
            for number, size in enumerate(sizes, 1):
                first, more = frame(opcode, b"*" * size, fin=False), frame(0, b"*" * size, fin=False)
                sent = (first, more * (65536 // size))
                amid = size > 65536  # the first frame says all
                self.check([Case(f"9.{section}.{number}", sent, (Closed((1009,), amid),))])
        for opcode, section in ((TEXT, 5), (BINARY, 6)):
            for number, chop in enumerate((64, 128, 256, 512, 1024, 2048), 1):
                begun = frame(opcode, b"*" * (1 << 20))[:131072]
                self.check([Case(f"9.{section}.{number}", (begun,), (over,), chop)])

    def test_round_trips(self) -> None:
        """9.7 and 9.8: a thousand messages there and back, of each size, in one session."""
        session = self.session()
        for size in (22, 64, 256, 1024, 4096):
            for _ in range(1000):
                session.send(frame(TEXT, asks(size)))
                self._await(session, Said("pong"))
        for size in (16, 64, 256, 1024, 4096):
            for _ in range(1000):
                session.send(frame(BINARY, b"r" * size))
                self._await(session, Echo(b"r" * size))
        session.close()

    def test_many_small_fragments(self) -> None:
        """10.1.1: a message in frames of 1 300 bytes."""
        message, echo = filled(65536)
        parts = [message[at : at + 1300] for at in range(0, len(message), 1300)]
        last = len(parts) - 1
        sent = tuple(frame(0 if at else TEXT, part, fin=at == last) for at, part in enumerate(parts))
        self.check([Case("10.1.1", sent, (echo,))])

    def test_keys_that_engines_detach_at(self) -> None:
        """Nothing that is typed ends the daemon's own attach: not Ctrl-P Ctrl-Q, not any byte many times over."""
        session = self.session()
        for keys in (b"\x10\x11" * 4 + b".", *(bytes([byte]) * 8 + b"." for byte in range(256))):
            session.send(frame(BINARY, keys))
            self._await(session, Echo(keys))
        session.close()

    def test_compression(self) -> None:
        """12 and 13, A02: each offer of permessage-deflate is declined; a compressed frame is then an error."""
        for offer in OFFERS:
            session = self.session(headers={"Sec-WebSocket-Extensions": offer})
            self.assertNotIn("sec-websocket-extensions", session.headers, offer)
            session.send(frame(TEXT, ASK))
            self._await(session, Said("pong"))
            session.send(frame(TEXT, b"\xaa\x56\x2a\xa9\x2c\x48\x55\xb2", rsv=4))
            self._await(session, Closed((1002,)))
            session.close()


class NumberTests(SynchronousTestCase):
    def test_number(self) -> None:
        """243 cases of sections 1 to 7 stand in the tables: all that the suite has there."""
        tables = (framing, pings, reserved_bits, opcodes, fragments, utf8, fail_fast, closing)
        names = set().union(*(suite_names(table()) for table in tables))
        sections = {number: sum(name.startswith(f"{number}.") for name in names) for number in range(1, 8)}
        self.assertEqual(sections, {1: 16, 2: 11, 3: 7, 4: 10, 5: 20, 6: 145, 7: 37})
