"""Reads the fields of SSH packets strictly (RFC 4251): what is short, or has something behind it, is Broken."""

from __future__ import annotations

import struct

from stellarstack.ssh.order import Broken


class Fields:
    """A packet's payload, read from the front."""

    def __init__(self, payload: bytes) -> None:
        self._payload = payload
        self._at = 0

    def _take(self, size: int) -> bytes:
        end = self._at + size
        if end > len(self._payload):
            raise Broken("a packet is too short")
        found = self._payload[self._at : end]
        self._at = end
        return found

    def string(self) -> bytes:
        return self._take(self.number())

    def number(self) -> int:
        """A uint32."""
        found: int = struct.unpack(">L", self._take(4))[0]
        return found

    def boolean(self) -> bool:
        return self._take(1) != b"\0"

    def rest(self) -> bytes:
        """Whatever follows."""
        found = self._payload[self._at :]
        self._at = len(self._payload)
        return found

    def end(self) -> None:
        """Nothing may follow."""
        if self._at != len(self._payload):
            raise Broken("a packet is too long")


def string(text: bytes) -> bytes:
    """A string as it stands in a packet."""
    return struct.pack(">L", len(text)) + text
