"""A console's WebSocket spoken by hand on a blocking socket: no library hides what the daemon does wrong."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import socket
import struct
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
RAW = "stellarstack.console.v1.raw"
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


@dataclass(frozen=True)
class Frame:
    """One frame as it came."""

    opcode: int
    payload: bytes
    fin: bool = True
    rsv: int = 0
    masked: bool = False

    def json(self) -> Any:
        return json.loads(self.payload)


class Refused(Exception):
    """No 101: `status` and the whole answer."""

    def __init__(self, answer: bytes) -> None:
        super().__init__(answer[:200])
        self.answer = answer
        words = answer.split(None, 2)
        self.status = int(words[1]) if len(words) > 1 else 0

    @property
    def code(self) -> str:
        return str(json.loads(self.answer.partition(b"\r\n\r\n")[2])["error"]["code"])


def frame(
    opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0, mask: bytes | None = b"\x37\xfa\x21\x3d",
    length_form: int | None = None,
) -> bytes:  # fmt: skip
    """One frame as wrong as wanted; `length_form` 126 or 127 takes more length bytes than it needs."""
    size = len(payload)
    form = length_form or (size if size < 126 else 126 if size < 65536 else 127)
    head = bytes([(0x80 if fin else 0) | rsv << 4 | opcode, (0x80 if mask is not None else 0) | form])
    if form == 126:
        head += struct.pack("!H", size)
    elif form == 127:
        head += struct.pack("!Q", size)
    if mask is None:
        return head + payload
    long_mask = (mask * (size // 4 + 1))[:size]
    return head + mask + (int.from_bytes(payload, "big") ^ int.from_bytes(long_mask, "big")).to_bytes(size, "big")


class HandSocket:
    """One connection. `hello` shakes hands; `receive` answers frame by frame, None at the end of the connection."""

    def __init__(self, port: int, *, timeout: float = 20.0, buffer: int | None = None, source: str = "") -> None:
        made = socket.socket()
        if buffer is not None:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        made.settimeout(timeout)
        if source:
            made.bind((source, 0))
        made.connect(("127.0.0.1", port))
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket = made
        self.headers: dict[str, str] = {}
        self._port = port
        self._bytes = b""

    # ---------------------------------------------------------------- the handshake

    def request(
        self, token: str | None = None, *, path: str = "/console", subprotocol: str | None = RAW,
        headers: Mapping[str, str] | Iterable[tuple[str, str]] = (), without: Iterable[str] = (),
    ) -> tuple[bytes, bytes]:  # fmt: skip
        """The upgrade as bytes, and the key in it. `headers` come on top (again, where they are pairs)."""
        key = base64.b64encode(os.urandom(16))
        lines = {"Host": f"127.0.0.1:{self._port}", "Upgrade": "websocket", "Connection": "Upgrade"}
        lines |= {"Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": key.decode()}
        if subprotocol is not None:
            lines["Sec-WebSocket-Protocol"] = subprotocol
        if token is not None:
            lines["Authorization"] = f"Bearer {token}"
        pairs = list(lines.items())
        if isinstance(headers, Mapping):
            pairs = list({**lines, **headers}.items())
        else:
            pairs += list(headers)
        head = "".join(f"{name}: {value}\r\n" for name, value in pairs if name not in without)
        return f"GET {path} HTTP/1.1\r\n{head}\r\n".encode("latin-1"), key

    def hello(self, token: str | None = None, **how: Any) -> HandSocket:
        """Refused: the answer was no 101."""
        head, key = self.request(token, **how)
        self.send(head)
        return self.shaken(key)

    def shaken(self, key: bytes) -> HandSocket:
        """Reads the answer to the upgrade."""
        while b"\r\n\r\n" not in self._bytes:
            if not self._more():
                raise Refused(self._bytes)
        top, _, self._bytes = self._bytes.partition(b"\r\n\r\n")
        first, *lines = top.decode("latin-1").split("\r\n")
        self.headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        if first.split()[1] != "101":
            while len(self._bytes) < int(self.headers.get("content-length", 0)) and self._more():
                pass
            raise Refused(top + b"\r\n\r\n" + self._bytes)
        wanted = base64.b64encode(hashlib.sha1(key + _GUID).digest()).decode()
        if self.headers["sec-websocket-accept"] != wanted:
            raise AssertionError(f"a wrong Sec-WebSocket-Accept: {self.headers}")
        return self

    # ---------------------------------------------------------------- frames

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def try_send(self, data: bytes) -> bool:
        """The same to one who may have gone."""
        try:
            self.socket.sendall(data)
        except OSError:
            return False
        return True

    def say(self, **message: Any) -> None:
        """One text message in JSON."""
        self.send(frame(TEXT, json.dumps(message).encode()))

    def receive(self, timeout: float | None = None) -> Frame | None:
        """The next frame; None: the connection ended. TimeoutError."""
        if timeout is not None:
            self.socket.settimeout(timeout)
        while (found := self._frame()) is None:
            if not self._more():
                return None
        return found

    def _more(self) -> bool:
        try:
            data = self.socket.recv(262144)
        except (ConnectionResetError, BrokenPipeError):
            return False
        self._bytes += data
        return bool(data)

    def _frame(self) -> Frame | None:
        if len(self._bytes) < 2:
            return None
        first, size, at = self._bytes[0], self._bytes[1] & 0x7F, 2
        if size >= 126:
            form, at = ("!H", 4) if size == 126 else ("!Q", 10)
            if len(self._bytes) < at:
                return None
            (size,) = struct.unpack_from(form, self._bytes, 2)
        if len(self._bytes) < at + size:
            return None
        masked = bool(self._bytes[1] & 0x80)
        payload, self._bytes = self._bytes[at : at + size], self._bytes[at + size :]
        return Frame(first & 0x0F, payload, bool(first & 0x80), first >> 4 & 7, masked)

    # ---------------------------------------------------------------- what tests wait for

    def until(self, kind: str, timeout: float = 20.0) -> dict[str, Any]:
        """The next text message of this type; what comes before it is dropped. AssertionError: none came."""
        deadline = time.monotonic() + timeout
        while (left := deadline - time.monotonic()) > 0:
            found = self.receive(left)
            if found is None or found.opcode == CLOSE:
                raise AssertionError(f"closed while {kind!r} was waited for: {found}")
            if found.opcode == TEXT and found.json()["type"] == kind:
                message: dict[str, Any] = found.json()
                return message
        raise AssertionError(f"no {kind!r} came")

    def output(self, wanted: bytes, timeout: float = 20.0) -> bytes:
        """Terminal bytes of a raw session until `wanted` stands in them."""
        deadline, seen = time.monotonic() + timeout, b""
        while (left := deadline - time.monotonic()) > 0:
            found = self.receive(left)
            if found is None or found.opcode == CLOSE:
                raise AssertionError(f"closed while {wanted!r} was waited for: {found}, after {seen[-200:]!r}")
            if found.opcode == BINARY:
                seen += found.payload
                if wanted in seen:
                    return seen
        raise AssertionError(f"{wanted!r} never came, the output ends {seen[-200:]!r}")

    def close_code(self, timeout: float = 20.0) -> int | None:
        """Reads to the end: the code of the close frame, 1005 where it has none, None where there is no close frame."""
        deadline = time.monotonic() + timeout
        code: int | None = None
        while (left := deadline - time.monotonic()) > 0:
            found = self.receive(left)
            if found is None:
                return code
            if found.opcode == CLOSE and code is None:
                code = struct.unpack("!H", found.payload[:2])[0] if found.payload else 1005
                self.try_send(frame(CLOSE, found.payload))
        raise AssertionError(f"the connection was not ended; close code {code}")

    def close(self) -> None:
        self.socket.close()
