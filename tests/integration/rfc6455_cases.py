"""The cases of autobahntestsuite's sections 1 to 7 as rows: what is sent, and what must come back.

The suite's echo server answers with what it got. The daemon speaks messages of its own, so a row names one of these:
`typed(…)` goes through the PTY of a game that echoes bytes as they are, `ASK` is answered by `pong` at once.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from tests.integration.hand_socket import BINARY, CLOSE, PING, PONG, TEXT, frame

CONTINUED = 0
ASK = b'{"type":"ping"}'


@dataclass(frozen=True)
class Echo:
    """These bytes come back from the terminal."""

    data: bytes


@dataclass(frozen=True)
class Said:
    """A text message of this type comes."""

    kind: str


@dataclass(frozen=True)
class Ponged:
    """A pong frame comes."""

    payload: bytes


@dataclass(frozen=True)
class Closed:
    """A close frame with one of these codes comes, and then the end of the connection.

    `amid`: in the middle of a frame of ours, where our own close frame cannot be read, so the end takes 10 s.
    """

    codes: tuple[int, ...]
    amid: bool = False


Answer = Echo | Said | Ponged | Closed
FAILED = Closed((1002,))
NO_UTF8 = Closed((1007,))
TOO_BIG = Closed((1009,))
NORMAL = Closed((1000,))


@dataclass(frozen=True)
class Case:
    """`sent` is written in pieces of `chop` bytes (0: as it stands). A case that does not end is closed by us."""

    name: str
    sent: tuple[bytes, ...]
    answers: tuple[Answer, ...] = ()
    chop: int = 0


def typed(data: bytes) -> bytes:
    """A text message that types `data`, which may be bytes that no text message may hold."""
    return b'{"type":"input","data":"' + data + b'"}'


def filled(size: int) -> tuple[bytes, Echo]:
    """A text message of exactly `size` bytes, and its echo."""
    data = b"*" * (size - len(typed(b"")))
    return typed(data), Echo(data)


def close(code: int, reason: bytes = b"") -> bytes:
    return frame(CLOSE, struct.pack("!H", code) + reason)


# ------------------------------------------------------------------ 1 framing, 2 pings


def framing() -> Iterator[Case]:
    for number, size in enumerate((0, 125, 126, 127, 128, 65535, 65536, 65536), 1):
        chop = 997 if number == 8 else 0
        message, echo = filled(size) if size else (b"", Said("error"))
        yield Case(f"1.1.{number}", (frame(TEXT, message),), (echo,), chop)
        data = bytes(range(255)) * (size // 255 + 1)  # without FF, which the engine holds back at the end of a write
        yield Case(f"1.2.{number}", (frame(BINARY, data[:size]),), (Echo(data[:size]),) if size else (), chop)


def pings() -> Iterator[Case]:
    odd = bytes([0x00, 0xFF, 0xFE, 0xFD, 0xFC, 0xFB, 0x00, 0xFF])
    ten = tuple(frame(PING, b"payload-%d" % number) for number in range(10))
    tens = tuple(Ponged(b"payload-%d" % number) for number in range(10))
    yield Case("2.1", (frame(PING),), (Ponged(b""),))
    yield Case("2.2", (frame(PING, b"Hello, world!"),), (Ponged(b"Hello, world!"),))
    yield Case("2.3", (frame(PING, odd),), (Ponged(odd),))
    yield Case("2.4", (frame(PING, b"\xfe" * 125),), (Ponged(b"\xfe" * 125),))
    yield Case("2.5", (frame(PING, b"\xfe" * 126),), (FAILED,))
    yield Case("2.6", (frame(PING, b"\xfe" * 125),), (Ponged(b"\xfe" * 125),), 1)
    yield Case("2.7", (frame(PONG),))
    yield Case("2.8", (frame(PONG, b"unsolicited"),))
    yield Case("2.9", (frame(PONG, b"unsolicited"), frame(PING, b"ping")), (Ponged(b"ping"),))
    yield Case("2.10", ten, tens)
    yield Case("2.11", ten, tens, 1)


# ------------------------------------------------------------------ 3 reserved bits, 4 opcodes


def reserved_bits() -> Iterator[Case]:
    ask, said = frame(TEXT, ASK), Said("pong")
    for number, (bad, before) in enumerate(
        (
            (frame(TEXT, ASK, rsv=1), False),
            (frame(TEXT, ASK, rsv=2), True),
            (frame(TEXT, ASK, rsv=3), True),
            (frame(TEXT, ASK, rsv=4), True),
            (frame(BINARY, b"\x00\xff", rsv=5), False),
            (frame(PING, b"Hello", rsv=6), False),
            (frame(CLOSE, b"", rsv=7), False),
        ),
        1,
    ):
        chop = 1 if number == 4 else 0
        if before:
            sent = (ask, bad, frame(PING)) if number == 3 else (ask + bad + frame(PING),)
            yield Case(f"3.{number}", sent, (said, FAILED), chop)
        else:
            yield Case(f"3.{number}", (bad,), (FAILED,), chop)


def opcodes() -> Iterator[Case]:
    for kind, first in ((1, 3), (2, 11)):
        for number in range(1, 6):
            opcode = first + number - 1
            payload = b"reserved opcode payload" if number in (2, 4) else b""
            bad = frame(opcode, payload)
            before = (frame(TEXT, ASK),) if number > 2 else ()
            answers = (Said("pong"), FAILED) if before else (FAILED,)
            yield Case(f"4.{kind}.{number}", (*before, bad, frame(PING)), answers, 1 if number == 5 else 0)


# ------------------------------------------------------------------ 5 fragmentation


def pieces(message: bytes, count: int, opcode: int = TEXT, between: bytes = b"") -> tuple[bytes, ...]:
    """The message in `count` frames, with `between` between them."""
    size = -(-len(message) // count)
    parts = [message[at : at + size] for at in range(0, len(message), size)]
    last = len(parts) - 1
    made = [frame(CONTINUED if at else opcode, part, fin=at == last) for at, part in enumerate(parts)]
    return tuple(
        one for at, one in enumerate(made) for one in ((one,) if at == last or not between else (one, between))
    )


def fragments() -> Iterator[Case]:
    whole = typed(b"fragment1fragment2")
    echo, two = Echo(b"fragment1fragment2"), pieces(whole, 2)
    ping, ponged = frame(PING, b"ping payload"), Ponged(b"ping payload")
    pinged = pieces(whole, 2, between=ping)
    lone = frame(CONTINUED, b"non-continuation payload")
    lone_open = frame(CONTINUED, b"non-continuation payload", fin=False)
    ask, said = frame(TEXT, ASK), Said("pong")
    halves = pieces(ASK, 2)
    split = (frame(PING, b"fragment1", fin=False), frame(CONTINUED, b"fragment2"))
    split_pong = (frame(PONG, b"fragment1", fin=False), frame(CONTINUED, b"fragment2"))
    six = pieces(typed(b"fragment" * 6), 6, between=ping)
    yield Case("5.1", split, (FAILED,))
    yield Case("5.2", split_pong, (FAILED,))
    yield Case("5.3", (b"".join(two),), (echo,))
    yield Case("5.4", two, (echo,))
    yield Case("5.5", two, (echo,), 1)
    yield Case("5.6", (b"".join(pinged),), (ponged, echo))
    yield Case("5.7", pinged, (ponged, echo))
    yield Case("5.8", pinged, (ponged, echo), 1)
    yield Case("5.9", (lone + ask,), (FAILED,))
    yield Case("5.10", (lone, ask), (FAILED,))
    yield Case("5.11", (lone, ask), (FAILED,), 1)
    yield Case("5.12", (lone_open + ask,), (FAILED,))
    yield Case("5.13", (lone_open, ask), (FAILED,))
    yield Case("5.14", (lone_open, ask), (FAILED,), 1)
    yield Case("5.15", (*halves, frame(CONTINUED, b"fragment3", fin=False), ask), (said, FAILED))
    yield Case("5.16", (lone_open, frame(TEXT, b"fragment2"), lone_open), (FAILED,))
    yield Case("5.17", (lone, frame(TEXT, b"fragment2"), lone), (FAILED,))
    yield Case("5.18", (frame(TEXT, b"fragment1", fin=False), frame(TEXT, b"fragment2")), (FAILED,))
    yield Case("5.19", six, (*[ponged] * 5, Echo(b"fragment" * 6)))
    yield Case("5.20", six, (*[ponged] * 5, Echo(b"fragment" * 6)), 1)


# ------------------------------------------------------------------ 6 UTF-8

_GOOD, _BAD = True, False
_KOSME = bytes.fromhex("cebae1bdb9cf83cebcceb5")
_INCOMPLETE = "c0 e080 f08080 f8808080 fc80808080 df efbf f7bfbf fbbfbfbf fdbfbfbfbf"
_SEQUENCES: tuple[tuple[str, bool, str], ...] = (
    ("7", _GOOD, "00 c280 e0a080 f0908080"),
    ("8", _BAD, "f888808080 fc8480808080"),
    ("9", _GOOD, "7f dfbf efbfbf f48fbfbf"),
    ("10", _BAD, "f7bfbfbf fbbfbfbfbf fdbfbfbfbfbf"),
    ("11", _GOOD, "ed9fbf ee8080 efbfbd f48fbfbf"),
    ("11", _BAD, "f4908080"),
    ("12", _BAD, "80 bf 80bf 80bf80 80bf80bf 80bf80bf80 80bf80bf80bf " + bytes(range(0x80, 0xBF)).hex()),
    ("13", _BAD, " ".join(bytes(b for one in range(low, high) for b in (one, 0x20)).hex() for low, high in (
        (0xC0, 0xE0), (0xE0, 0xF0), (0xF0, 0xF8), (0xF8, 0xFC), (0xFC, 0xFE)))),
    ("14", _BAD, _INCOMPLETE),
    ("15", _BAD, _INCOMPLETE.replace(" ", "")),
    ("16", _BAD, "fe ff fefeffff"),
    ("17", _BAD, "c0af e080af f08080af f8808080af fc80808080af"),
    ("18", _BAD, "c1bf e09fbf f08fbfbf f887bfbfbf fc83bfbfbfbf"),
    ("19", _BAD, "c080 e08080 f0808080 f880808080 fc8080808080"),
    ("20", _BAD, "eda080 edadbf edae80 edafbf edb080 edbe80 edbfbf"),
    ("21", _BAD, "eda080edb080 eda080edbfbf edadbfedb080 edadbfedbfbf "
                 "edae80edb080 edae80edbfbf edafbfedb080 edafbfedbfbf"),
    ("22", _GOOD, " ".join(chr(plane << 16 | last).encode().hex() for plane in range(17) for last in (0xFFFE, 0xFFFF))),
    ("23", _GOOD, " ".join(chr(one).encode().hex() for one in range(0xFFF9, 0x10000))),
)  # fmt: skip


def sequences() -> Iterator[tuple[str, bool, bytes]]:
    """(case, whether it is UTF-8, the text) of sections 6.5 to 6.23."""
    words = (b"hello$world", b"hello\xc2\xa2world", b"hello\xe2\x82\xacworld", b"hello\xf0\xa4\xad\xa2world", _KOSME)
    for number, word in enumerate(words, 1):
        yield f"6.5.{number}", True, word
    for size in range(1, len(_KOSME) + 1):
        yield f"6.6.{size}", size in (2, 5, 7, 9, 11), _KOSME[:size]
    counts: dict[str, int] = {}
    for section, good, texts in _SEQUENCES:
        for text in texts.split():
            counts[section] = counts.get(section, 0) + 1
            yield f"6.{section}.{counts[section]}", good, bytes.fromhex(text)


def utf8() -> Iterator[Case]:
    text = "Hello-µ@ßöäüàá-UTF-8!!".encode()
    message, echo, error = typed(text), Echo(text), Said("error")
    bad = _KOSME + b"\xed\xa0\x80edited"
    yield Case("6.1.1", (frame(TEXT),), (error,))
    yield Case("6.1.2", (frame(TEXT, fin=False), frame(0, fin=False), frame(0)), (error,))
    yield Case("6.1.3", (frame(TEXT, fin=False), frame(0, ASK, fin=False), frame(0)), (Said("pong"),))
    yield Case("6.2.1", (frame(TEXT, message),), (echo,))
    cut = message.index("ß".encode())
    yield Case("6.2.2", (frame(TEXT, message[:cut], fin=False), frame(0, message[cut:])), (echo,))
    yield Case("6.2.3", pieces(message, len(message)), (echo,))
    kosme = typed(_KOSME)
    yield Case("6.2.4", pieces(kosme, len(kosme)), (Echo(_KOSME),))
    yield Case("6.3.1", (frame(TEXT, bad),), (NO_UTF8,))
    yield Case("6.3.2", pieces(bad, len(bad)), (NO_UTF8,))
    for name, good, found in sequences():
        alone = error if good else NO_UTF8
        yield Case(name, (frame(TEXT, found),), (alone,))
        if good and found != b"\x00":
            yield Case(f"{name}, typed", (frame(TEXT, typed(found)),), (Echo(found),))
        elif not good:
            yield Case(f"{name}, typed", (frame(TEXT, typed(found)),), (NO_UTF8,))


def fail_fast() -> Iterator[Case]:
    """What stands in `sent` is all that is sent: the end of the message never comes."""
    first, over, rest = _KOSME, b"\xf4\x90\x80\x80", b"edited"
    yield Case("6.4.1", (frame(TEXT, first, fin=False), frame(0, over, fin=False)), (NO_UTF8,))
    yield Case("6.4.2", (frame(TEXT, first + over[:1], fin=False), frame(0, over[1:2], fin=False)), (NO_UTF8,))
    whole = frame(TEXT, first + over + rest)
    head = len(whole) - len(first + over + rest)
    yield Case("6.4.3", (whole[: head + len(first)], whole[head + len(first) : head + len(first + over)]), (NO_UTF8,))
    yield Case("6.4.4", (whole[: head + len(first) + 1], whole[head + len(first) + 1 :][:1]), (NO_UTF8,))


# ------------------------------------------------------------------ 7 closing


def closing() -> Iterator[Case]:
    ask, said, bye = frame(TEXT, ASK), Said("pong"), close(1000)
    yield Case("7.1.1", (ask, bye), (said, NORMAL))
    yield Case("7.1.2", (bye, bye), (NORMAL,))
    yield Case("7.1.3", (bye, frame(PING, b"after")), (NORMAL,))
    yield Case("7.1.4", (bye, ask), (NORMAL,))
    halves = pieces(ASK, 2)
    yield Case("7.1.5", (halves[0], bye, halves[1]), (NORMAL,))
    padded = b'{"type":"ping","x":"' + b"*" * (65536 - 22) + b'"}'
    yield Case("7.1.6", (frame(TEXT, padded), bye, frame(PING, b"after")), (said, NORMAL))
    yield Case("7.3.1", (frame(CLOSE),), (Closed((1000, 1005)),))
    yield Case("7.3.2", (frame(CLOSE, b"a"),), (FAILED,))
    yield Case("7.3.3", (bye,), (NORMAL,))
    yield Case("7.3.4", (close(1000, b"Hello World!"),), (NORMAL,))
    yield Case("7.3.5", (close(1000, b"*" * 123),), (NORMAL,))
    yield Case("7.3.6", (close(1000, b"*" * 124),), (FAILED,))
    yield Case("7.5.1", (close(1000, _KOSME + b"\xed\xa0\x80edited"),), (NO_UTF8,))
    good = (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999)
    bad = (0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999)
    for number, code in enumerate(good, 1):
        yield Case(f"7.7.{number}", (close(code),), (Closed((1000, code)),))
    for number, code in enumerate(bad, 1):
        yield Case(f"7.9.{number}", (close(code),), (FAILED,))
    for number, code in enumerate((5000, 65535), 1):
        yield Case(f"7.13.{number}", (close(code),), (Closed((1000, 1002)),))


def suite_names(cases: Iterable[Case]) -> set[str]:
    """The suite's own ids among them."""
    return {case.name.partition(",")[0] for case in cases}


def asks(size: int) -> bytes:
    """A `ping` message of exactly `size` bytes, 22 at least."""
    return json.dumps({"type": "ping", "x": "*" * (size - 22)}, separators=(",", ":")).encode()
