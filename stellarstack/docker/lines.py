"""Cuts the engine's streams: JSON lines, and the frames of containers without a terminal. Performs no I/O."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from stellarstack.errors import DockerUnavailable

LINE_MAX = 1 << 20
FRAME_MAX = 1 << 24


class JsonLines:
    """Hands on each JSON object of a stream of lines, wherever its pieces were cut. DockerUnavailable on a bad line."""

    def __init__(self, received: Callable[[dict[str, Any]], None]) -> None:
        self._received = received
        self._rest = bytearray()

    def feed(self, data: bytes) -> None:
        *lines, rest = data.split(b"\n")
        for line in lines:
            self._rest += line
            whole, self._rest = bytes(self._rest), bytearray()
            self._line(whole)
        self._rest += rest
        if len(self._rest) > LINE_MAX:
            raise DockerUnavailable(f"Docker sent a line of over {LINE_MAX} bytes")

    def _line(self, line: bytes) -> None:
        if len(line) > LINE_MAX:
            raise DockerUnavailable(f"Docker sent a line of over {LINE_MAX} bytes")
        if not line.strip():
            return
        try:
            found = json.loads(line)
        except (ValueError, RecursionError):
            raise DockerUnavailable("Docker sent a line that is no JSON") from None
        if isinstance(found, dict):
            self._received(found)


class Frames:
    """Takes the 8-byte heads (stream, 3 zeros, length) out of a multiplexed stream and hands on the bytes alone."""

    def __init__(self, received: Callable[[bytes], None]) -> None:
        self._received = received
        self._head = bytearray()
        self._left = 0

    def feed(self, data: bytes) -> None:
        """DockerUnavailable: the stream is no multiplexed one."""
        view, at = memoryview(data), 0
        while at < len(view):
            if self._left:
                piece = view[at : at + self._left]
                self._left -= len(piece)
                at += len(piece)
                self._received(bytes(piece))
            else:
                wanted = view[at : at + 8 - len(self._head)]
                self._head += wanted
                at += len(wanted)
                self._open_frame()

    def _open_frame(self) -> None:
        if len(self._head) < 8:
            return
        stream, zeros, self._left = self._head[0], self._head[1:4], int.from_bytes(self._head[4:])
        self._head.clear()
        if stream > 3 or any(zeros) or self._left > FRAME_MAX:
            raise DockerUnavailable("Docker sent a stream that is cut otherwise than it says")
