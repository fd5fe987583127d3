"""The answer to a request that asks for a raw stream: 101 and then bytes, or a refusal with words. Performs no I/O."""

from __future__ import annotations

import re

from stellarstack.docker.client import Answer
from stellarstack.errors import ContainerGone, DockerUnavailable, StellarError

HEAD_MAX = 16 << 10
REFUSAL_MAX = 64 << 10

_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})(?: [^\r\n]*)?", re.ASCII)
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d{1,9})[ \t]*(?:\r\n|$)", re.ASCII | re.IGNORECASE)


class UpgradeAnswer:
    """Reads the head of the answer, wherever its pieces were cut."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._body_at = -1
        self._length = 0
        self._status = 0
        self.refusal: StellarError | None = None

    def feed(self, data: bytes) -> bytes | None:
        """The stream's first bytes once the engine has agreed; None while more is needed or `refusal` is set.

        DockerUnavailable: this is no such answer, or one over 16 KiB.
        """
        self._buffer += data
        if self._body_at < 0 and not self._read_head():
            return None
        if self._status in (101, 200):
            return bytes(self._buffer[self._body_at :])
        body = bytes(self._buffer[self._body_at :][:REFUSAL_MAX])
        if len(body) >= min(self._length, REFUSAL_MAX):
            self._refuse(body)
        return None

    def _read_head(self) -> bool:
        end = self._buffer.find(b"\r\n\r\n", 0, HEAD_MAX)
        if end < 0:
            if len(self._buffer) >= HEAD_MAX:
                raise DockerUnavailable(f"Docker answers with a head of over {HEAD_MAX} bytes")
            return False
        first, _, _ = bytes(self._buffer[:end]).partition(b"\r\n")
        status = _STATUS.fullmatch(first)
        if status is None:
            raise DockerUnavailable("Docker answers with something that is no HTTP")
        length = _LENGTH.search(bytes(self._buffer[:end]))
        self._status, self._body_at = int(status.group(1)), end + 4
        self._length = int(length.group(1)) if length else 0
        return True

    def _refuse(self, body: bytes) -> None:
        try:
            Answer(self._status, body).require(missing=ContainerGone)
        except StellarError as error:
            self.refusal = error
        else:
            self.refusal = DockerUnavailable(f"Docker answers {self._status} where it should hand over the terminal")
