"""The frames of the console WebSocket as bytes on the wire (RFC 6455, PROTOCOL 8), and their like for a bare terminal.

A frame is built once and the same bytes go to every viewer, which is why they are not left to a WebSocket library.
Performs no I/O.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from enum import Enum

from stellarstack.core.messages import Json

_ENCODER = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, allow_nan=False)
_TEXT, _BINARY = 0x81, 0x82  # FIN and the opcode; a server's frames carry no mask
_MASKED, _KEY_HEAD = 0x80, 6  # a viewer's frame of up to 125 bytes: two bytes, then the four of its mask


class Encoding(Enum):
    """How a viewer gets terminal output: as JSON text, as its bytes in frames, or as bare bytes (no WebSocket: SSH).

    The values of the first two are their subprotocols.
    """

    JSON = "stellarstack.console.v1"
    RAW = "stellarstack.console.v1.raw"
    PLAIN = "plain"


_SMALL = tuple(bytes((_BINARY, size)) for size in range(126))  # heads of binary frames, by their size


def _head(first: int, size: int) -> bytes:
    if size < 126:
        return bytes((first, size))
    if size < 65536:
        return struct.pack("!BBH", first, 126, size)
    return struct.pack("!BBQ", first, 127, size)


def _frame(first: int, payload: bytes) -> bytes:
    return _head(first, len(payload)) + payload


def binary_frame(payload: bytes) -> bytes:
    """Terminal bytes, as they are."""
    size = len(payload)
    return (_SMALL[size] if size < 126 else _head(_BINARY, size)) + payload


def binary_head(size: int) -> bytes:
    """What stands before so many terminal bytes, where they are not to be copied."""
    return _head(_BINARY, size)


def event_frame(body: bytes) -> bytes:
    """An event as it stands on the wire: JSON text already."""
    return _frame(_TEXT, body)


def lone_message(received: bytes) -> str | bytes | None:
    """What one whole, small, masked frame says, and nothing else was received: a key, most often.

    None: it is anything else (cut, longer than 125 bytes, several, a control frame, broken), which is for a WebSocket
    library to read.
    """
    size = len(received) - _KEY_HEAD
    if not 0 < size < 126 or received[0] not in (_TEXT, _BINARY) or received[1] != _MASKED | size:
        return None
    key = (received[2:_KEY_HEAD] * 32)[:size]
    payload = (int.from_bytes(received[_KEY_HEAD:], "big") ^ int.from_bytes(key, "big")).to_bytes(size, "big")
    if received[0] == _BINARY:
        return payload
    try:
        return payload.decode()
    except UnicodeDecodeError:
        return None


def text_frame(message: Mapping[str, Json]) -> bytes:
    """One JSON message; a lone surrogate becomes a question mark, so that the text is valid UTF-8."""
    return _frame(_TEXT, _ENCODER.encode(message).encode("utf-8", "replace"))


def output_frame(text: str, offset: int, end: int, timestamp: float) -> bytes:
    """`output`: `text` is what the bytes [offset, end) say."""
    quoted = json.dumps(text, ensure_ascii=False)
    tail = f',"timestamp":{timestamp!r},"offset":{offset},"end":{end}}}'
    return _frame(_TEXT, ('{"type":"output","data":' + quoted + tail).encode("utf-8", "replace"))


def terminal_line(text: str, *, dim: bool = False) -> bytes:
    """A line of the daemon's own on a bare terminal; CAN ends an escape sequence that may have been cut before it."""
    on, off = ("\x1b[2m", "\x1b[22m") if dim else ("", "")
    return f"\x18\r\n{on}[stellarstack: {text}]{off}\r\n".encode("utf-8", "replace")


def gap_frame(start: int, to: int | None, encoding: Encoding = Encoding.JSON) -> bytes:
    """`gap`: the bytes [start, to) are missing; `to` None where nobody knows how many they are."""
    if encoding is Encoding.PLAIN:
        return terminal_line("some output is missing here" if to is None else f"{to - start} bytes are missing here")
    return text_frame({"type": "gap", "from": start, "to": to})


def status_frame(status: str, **more: Json) -> bytes:
    """`status`: the server's new state; `more`: how its run ended."""
    return text_frame({"type": "status", "status": status, **more})


def status_line(status: str, exit_code: int | None = None) -> bytes:
    """The same on a bare terminal."""
    return terminal_line(f"the server is {status}" + ("" if exit_code is None else f", exit code {exit_code}"))


def notice_frame(code: str, message: str, **more: Json) -> bytes:
    """`notice`: something about the console that people should see."""
    return text_frame({"type": "notice", "code": code, "message": message, **more})


def notice_line(message: str) -> bytes:
    """The same on a bare terminal, dim."""
    return terminal_line(message, dim=True)


def stats_frame(metrics: Mapping[str, Json]) -> bytes:
    """`stats`: the server's newest numbers."""
    return text_frame({"type": "stats", "metrics": dict(metrics)})
