"""What players' games ask a server before they join it, spoken by hand: OpenTTD over TCP and UDP, Minetest over UDP."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

TIMEOUT = 3.0  # seconds for one answer
ATTEMPTS = 3  # of a datagram, which may get lost

_OPENTTD_GAME_INFO_ASKED, _OPENTTD_GAME_INFO = 7, 6
_OPENTTD_FIND_SERVER, _OPENTTD_SERVER_RESPONSE = 0, 1
_MINETEST_PROTOCOL = 0x4F457403
_MINETEST_RELIABLE, _MINETEST_ORIGINAL, _MINETEST_CONTROL, _MINETEST_SET_PEER_ID = 3, 1, 0, 1
_MINETEST_FIRST_SEQUENCE = 65500


@dataclass(frozen=True, slots=True)
class OpenttdGame:
    """What an OpenTTD server tells about its game."""

    name: str
    revision: str
    clients_max: int
    dedicated: bool


def openttd_game(host: str, port: int) -> OpenttdGame:
    """Asks for the game's description by TCP, as the game does for its server list."""
    with socket.create_connection((host, port), TIMEOUT) as connection:
        connection.sendall(struct.pack("<HB", 3, _OPENTTD_GAME_INFO_ASKED))
        stream = connection.makefile("rb")
        size, kind = struct.unpack("<HB", stream.read(3))
        body = stream.read(size - 3)
    if kind != _OPENTTD_GAME_INFO:
        raise ValueError(f"the answer is of type {kind}: {body!r}")
    return _openttd_game(body)


def _openttd_game(body: bytes) -> OpenttdGame:
    """Version 6 of it (OpenTTD 13), as its game_info.cpp writes it."""
    version, at = body[0], 1
    if version >= 6:
        at += 1  # how NewGRFs are described
    if version >= 5:
        _, at = _text(body, at + 4)  # the game script's version and name
    count = body[at]
    at += 1 + count * 20  # each NewGRF's id and checksum
    at += 8  # the date and the start's
    at += 3  # companies: most, now; spectators: most
    name, at = _text(body, at)
    revision, at = _text(body, at)
    clients_max = body[at + 1]  # behind whether it wants a password
    return OpenttdGame(name, revision, clients_max, dedicated=bool(body[-1]))


def _text(body: bytes, at: int) -> tuple[str, int]:
    end = body.index(b"\0", at)
    return body[at:end].decode(), end + 1


def openttd_found(host: str, port: int) -> bool:
    """Whether the server answers a search by UDP."""
    answer = _datagram(host, port, struct.pack("<HB", 3, _OPENTTD_FIND_SERVER))
    return len(answer) >= 3 and answer[2] == _OPENTTD_SERVER_RESPONSE


def minetest_peer(host: str, port: int) -> int:
    """Begins to connect by UDP as a Minetest game does; answers the peer id that the server gives."""
    header = struct.pack(">IHB", _MINETEST_PROTOCOL, 0, 0)
    asked = header + struct.pack(">BHB", _MINETEST_RELIABLE, _MINETEST_FIRST_SEQUENCE, _MINETEST_ORIGINAL)
    given = struct.pack(">BB", _MINETEST_CONTROL, _MINETEST_SET_PEER_ID)
    answer = _datagram(host, port, asked, lambda found: found[10:12] == given)
    protocol = struct.unpack(">I", answer[:4])[0]
    if protocol != _MINETEST_PROTOCOL:
        raise ValueError(f"no Minetest server: {answer!r}")
    peer: int = struct.unpack(">H", answer[12:14])[0]
    return peer


def _datagram(host: str, port: int, asked: bytes, wanted: Callable[[bytes], bool] = lambda found: True) -> bytes:
    """The first answer that is `wanted`; asks again where none came. TimeoutError: none ever came."""
    with socket.socket(type=socket.SOCK_DGRAM) as peer:
        peer.settimeout(TIMEOUT)
        peer.connect((host, port))
        for _ in range(ATTEMPTS):
            peer.send(asked)
            with suppress(TimeoutError, ConnectionRefusedError):
                while True:
                    answer = peer.recv(2048)
                    if wanted(answer):
                        return answer
    raise TimeoutError(f"{host}:{port} does not answer by UDP")
