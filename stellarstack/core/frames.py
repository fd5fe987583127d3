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

_TEXT, _BINARY = 0x81, 0x82  # FIN and the opcode; a server's frames carry no mask


class Encoding(Enum):
    """How a viewer gets terminal output: as JSON text, as its bytes in frames, or as bare bytes (no WebSocket: SSH).

    The values of the first two are their subprotocols.
    """

    JSON = "stellarstack.console.v1"
    RAW = "stellarstack.console.v1.raw"
    PLAIN = "plain"


def _frame(first: int, payload: bytes) -> bytes:
    size = len(payload)
    if size < 126:
        return struct.pack("!BB", first, size) + payload
    if size < 65536:
        return struct.pack("!BBH", first, 126, size) + payload
    return struct.pack("!BBQ", first, 127, size) + payload


def binary_frame(payload: bytes) -> bytes:
    """Terminal bytes, as they are."""
    return _frame(_BINARY, payload)


def event_frame(body: bytes) -> bytes:
    """An event as it stands on the wire: JSON text already."""
    return _frame(_TEXT, body)


def text_frame(message: Mapping[str, Json]) -> bytes:
    """One JSON message; a lone surrogate becomes a question mark, so that the text is valid UTF-8."""
    text = json.dumps(message, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return _frame(_TEXT, text.encode("utf-8", "replace"))


def output_frame(text: str, offset: int, end: int, timestamp: float) -> bytes:
    """`output`: `text` is what the bytes [offset, end) say."""
    quoted = json.dumps(text, ensure_ascii=False)
    tail = f',"timestamp":{timestamp!r},"offset":{offset},"end":{end}}}'
    return _frame(_TEXT, ('{"type":"output","data":' + quoted + tail).encode("utf-8", "replace"))


def terminal_line(text: str) -> bytes:
    """A line of the daemon's own on a bare terminal; CAN ends an escape sequence that may have been cut before it."""
    return f"\x18\r\n[stellarstack: {text}]\r\n".encode("utf-8", "replace")


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


def stats_frame(metrics: Mapping[str, Json]) -> bytes:
    """`stats`: the server's newest numbers."""
    return text_frame({"type": "stats", "metrics": dict(metrics)})
