"""`stellarctl console`: a live terminal on a game server, which outlasts broken connections (PROTOCOL 8)."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any, Protocol

from stellarstack.ctl.control import Refused
from stellarstack.ctl.websocket import Address, ConnectionLost, ConsoleSocket
from stellarstack.errors import StellarError

LEAVE_KEY = b"\x1d"  # Ctrl-]
INTERRUPT_KEY = b"\x03"  # Ctrl-C
PING_EVERY = 20.0
SILENCE_LIMIT = 50.0
FIRST_DELAY, LONGEST_DELAY = 0.25, 5.0
LINGER = 2.0

READ = ["console.read", "stats.read"]
WRITE = [*READ, "console.write"]


class Screen(Protocol):
    """What a console needs of a terminal."""

    interactive: bool
    keys_ended: bool

    def size(self) -> tuple[int, int] | None: ...

    def wait(self, others: list[Any], seconds: float) -> tuple[list[Any], bytes, bool]: ...

    def show(self, output: bytes) -> None: ...

    def say(self, text: str) -> None: ...


class _Left(Exception):
    """The operator pressed Ctrl-], or the piped input has ended."""


class Console:
    """One server's console on one screen. `mint` makes a token and raises Refused where it cannot."""

    def __init__(
        self,
        *,
        server_id: str,
        address: Callable[[], Address],
        mint: Callable[[], str],
        screen: Screen,
        read_only: bool = False,
        since: int | None = None,
        dial: Callable[[Address, str, str], ConsoleSocket] = ConsoleSocket.open,
    ) -> None:
        self._server_id = server_id
        self._address = address
        self._mint = mint
        self._screen = screen
        self._read_only = read_only
        self._offset = since
        self._dial = dial
        self._status = ""
        self._ready = False
        self._heard = 0.0
        self._pinged = 0.0
        self._keys_ended: float | None = None

    def run(self) -> None:
        """Until Ctrl-]. ConsoleRefused, Refused: the daemon said no. ConnectionLost: none answered at the first try."""
        delay = FIRST_DELAY
        lost = False
        try:
            while True:
                try:
                    self._session()
                except (ConnectionLost, Refused) as error:
                    if self._final(error):
                        raise
                    if self._ready:
                        delay = FIRST_DELAY
                    if self._ready or not lost:
                        self._screen.say(f"{error}; trying again, Ctrl-] leaves")
                    lost, self._ready = True, False
                self._rest(delay * random.uniform(0.7, 1.3))  # noqa: S311 (jitter, no secret)
                delay = min(delay * 2, LONGEST_DELAY)
        except _Left:
            return

    def _final(self, error: StellarError) -> bool:
        """Never connected at all, or the daemon is there and refuses."""
        return self._status == "" or (isinstance(error, Refused) and error.answer != "")

    def _session(self) -> None:
        since = "" if self._offset is None else f"?since={self._offset}"
        socket = self._dial(self._address(), f"/console/{self._server_id}{since}", self._mint())
        self._heard = self._pinged = time.monotonic()
        try:
            self._received(socket, socket.waiting())
            socket.raise_if_closed()
            while True:
                ready, typed, resized = self._screen.wait([socket], self._until_next())
                if ready:
                    self._received(socket, socket.receive())
                if typed:
                    self._typed(socket, typed)
                if resized:
                    self._resize(socket)
                self._keep_alive(socket)
                socket.raise_if_closed()
        except _Left:
            socket.leave()
            raise
        finally:
            socket.close()

    def _received(self, socket: ConsoleSocket, frames: list[bytes | dict[str, Any]]) -> None:
        self._heard = time.monotonic()
        for frame in frames:
            if isinstance(frame, bytes):
                self._offset = (self._offset or 0) + len(frame)
                self._screen.show(frame)
            else:
                self._told(socket, frame)

    def _told(self, socket: ConsoleSocket, frame: dict[str, Any]) -> None:
        match frame:
            case {"type": "ready", "from": int(start), "status": str(status)}:
                self._offset, self._ready = start, True
                self._show_status(status)
                if not self._read_only and not frame.get("canWrite", True):
                    self._read_only = True
                    self._screen.say("this console is read-only")
                self._resize(socket)
            case {"type": "gap"}:
                self._gap(frame)
            case {"type": "status", "status": str(status)}:
                self._show_status(status)
            case {"type": "token.expiring"}:
                socket.send({"type": "auth", "token": self._mint()})
            case {"type": "error", "message": str(message)}:
                self._screen.say(message)

    def _gap(self, frame: dict[str, Any]) -> None:
        to = frame.get("to")
        if isinstance(to, int):
            missed = f"{to - frame['from']} bytes" if isinstance(frame.get("from"), int) else "some output"
            self._offset = to
        else:
            missed = "some output"
        self._screen.say(f"{missed} not shown here")

    def _show_status(self, status: str) -> None:
        if status != self._status:
            self._status = status
            self._screen.say(f"{self._server_id} is {status}{'' if self._ready else '; Ctrl-] leaves'}")

    def _typed(self, socket: ConsoleSocket, typed: bytes) -> None:
        leave = self._leaves(typed)
        keys = typed.partition(LEAVE_KEY)[0] if leave else typed
        if keys and not self._read_only:
            socket.type(keys)
        if leave:
            raise _Left

    def _leaves(self, typed: bytes) -> bool:
        """Ctrl-] in a terminal; where nothing can be typed anyway, Ctrl-C does as well."""
        return self._screen.interactive and (LEAVE_KEY in typed or (self._read_only and INTERRUPT_KEY in typed))

    def _resize(self, socket: ConsoleSocket) -> None:
        size = self._screen.size()
        if size is not None and self._screen.interactive and self._ready and not self._read_only:
            socket.send({"type": "resize", "cols": size[0], "rows": size[1]})

    def _keep_alive(self, socket: ConsoleSocket) -> None:
        now = time.monotonic()
        if self._screen.keys_ended:
            self._keys_ended = self._keys_ended or now
            if now - self._keys_ended >= LINGER:
                raise _Left
        if now - self._heard > SILENCE_LIMIT:
            raise ConnectionLost("the daemon has fallen silent")
        if now - self._pinged > PING_EVERY:
            self._pinged = now
            socket.send({"type": "ping"})

    def _until_next(self) -> float:
        end = self._pinged + PING_EVERY
        if self._keys_ended is not None:
            end = min(end, self._keys_ended + LINGER)
        return end - time.monotonic() + 0.01

    def _rest(self, seconds: float) -> None:
        """A pause that Ctrl-] ends."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            _, typed, _ = self._screen.wait([], left)
            if self._screen.keys_ended or self._leaves(typed):
                raise _Left
