"""A segment of scrollback that is written no more, compressed in blocks that are read each by itself.

The file holds the blocks (zlib, each with its own checksum), their lengths as u32, then a tail: bytes unpacked (u64),
blocks (u32), CRC of the lengths (u32), a word to know it by. Everything here blocks and is called in threads.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import BinaryIO

BLOCK = 128 * 1024  # bytes; a page of 64 KiB unpacks two at most
_LEVEL = 4
_TAIL = struct.Struct("<QII8s")
_WORD = b"stellar1"
_BLOCKS_MOST = 1 << 20


def pack(source: Path, target: Path, size: int) -> bool:
    """Writes `target` from the `size` bytes of `source`, to the disk itself. False: it would not be smaller, or
    `source` is not what it should be. OSError: the disk takes it not; in both cases there is no `target`."""
    try:
        with source.open("rb") as plain, target.open("wb") as packed:
            lengths = [packed.write(zlib.compress(block, _LEVEL)) for block in iter(lambda: plain.read(BLOCK), b"")]
            good = plain.tell() == size and sum(lengths) < size
            index = struct.pack(f"<{len(lengths)}I", *lengths)
            packed.write(index + _TAIL.pack(size, len(lengths), zlib.crc32(index), _WORD))
            packed.flush()
            os.fsync(packed.fileno())
    except BaseException:
        target.unlink(missing_ok=True)
        raise
    if not good:
        target.unlink()
    return good


def packed_size(path: Path) -> int | None:
    """How many bytes it holds, unpacked. None: that cannot be read."""
    try:
        with path.open("rb") as file:
            return _open(file)[0]
    except (OSError, ValueError):
        return None


def read_packed(path: Path, at: int, length: int) -> tuple[int, bytes]:
    """Up to `length` bytes from `at` on, and where they begin: later where those at `at` cannot be read. They end
    before the next that cannot; none at all: all from `at` on are lost."""
    parts: list[bytes] = []
    begins = at
    try:
        with path.open("rb") as file:
            size, lengths = _open(file)
            places = [0, *accumulate(lengths)]
            for number in range(at // BLOCK, len(lengths)):
                if parts and number * BLOCK >= begins + length:
                    break
                file.seek(places[number])
                block = _unpack(file.read(lengths[number]), min(BLOCK, size - number * BLOCK))
                if block is None and parts:
                    break
                if block is None:
                    begins = (number + 1) * BLOCK
                else:
                    start = number * BLOCK
                    parts.append(block[max(0, begins - start) : begins + length - start])
    except (OSError, ValueError):
        pass
    return begins, b"".join(parts)


def _open(file: BinaryIO) -> tuple[int, Sequence[int]]:
    """Its size and the lengths of its blocks. ValueError: it is damaged."""
    end = file.seek(0, os.SEEK_END)
    if end < _TAIL.size:
        raise ValueError("no tail")
    file.seek(end - _TAIL.size)
    size, count, checksum, word = _TAIL.unpack(file.read(_TAIL.size))
    if word != _WORD or count > _BLOCKS_MOST or not (count - 1) * BLOCK < size <= count * BLOCK:
        raise ValueError("not a tail")
    start = end - _TAIL.size - 4 * count
    if start < 0:
        raise ValueError("no index")
    file.seek(start)
    index = file.read(4 * count)
    lengths = struct.unpack(f"<{count}I", index)
    if zlib.crc32(index) != checksum or sum(lengths) != start:
        raise ValueError("a damaged index")
    return size, lengths


def _unpack(packed: bytes, size: int) -> bytes | None:
    unpacking = zlib.decompressobj()
    try:
        block = unpacking.decompress(packed, size + 1)
    except zlib.error:
        return None
    return block if len(block) == size and unpacking.eof else None
