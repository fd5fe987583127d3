"""`stellarctl console`: a live terminal on a game server, which outlasts broken connections (PROTOCOL 8)."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from typing import Any

from stellarstack.core.questions import PastOutput
from stellarstack.ctl.control import Refused
from stellarstack.ctl.screen import Screen
from stellarstack.ctl.websocket import Address, ConnectionLost, ConsoleRefused, ConsoleSocket
from stellarstack.errors import StellarError

LEAVE_KEY = b"\x1d"  # Ctrl-]
INTERRUPT_KEY = b"\x03"  # Ctrl-C
PING_EVERY = 20.0
SILENCE_LIMIT = 50.0
FIRST_DELAY, LONGEST_DELAY = 0.25, 5.0
LINGER = 2.0
# Below the daemon's bounds (64 KiB and 100 messages a second): a long paste or a piped file takes its time.
TYPED_A_SECOND = 32768
KEYS_PAUSE = 0.012
RENEW_BEFORE, RENEW_AGAIN, RENEW_SOONEST = 45.0, 10.0, 1.0  # seconds; the daemon's own word comes 60 s before the end

READ = ["console.read", "stats.read"]
WRITE = [*READ, "console.write"]


class _Left(Exception):
    """The operator pressed Ctrl-], the piped input has ended, or all that was asked for is shown."""


class Console:
    """One server's console on one screen. `mint` makes a token and raises Refused where it cannot.

    `since` 0 is all that is kept. `once`: leaves when everything is shown that was there at the beginning.
    `greet`: says the server's status and how to leave.
    """

    def __init__(
        self, *, server_id: str, address: Callable[[], Address], mint: Callable[[], str], screen: Screen,
        read_only: bool = False, since: int | None = None, once: bool = False, greet: bool = True,
        dial: Callable[[Address, str, str], ConsoleSocket] = ConsoleSocket.open,
    ) -> None:  # fmt: skip
        self._server_id = server_id
        self._address = address
        self._mint = mint
        self._screen = screen
        self._read_only = read_only
        self._offset = since
        self._once = once
        self._greet = greet
        self._dial = dial
        self._goal: int | None = None  # the newest byte when it began; not greeted yet
        self._past = PastOutput(0)
        self._status = ""
        self._ready = False
        self._heard = 0.0
        self._pinged = 0.0
        self._keys_from = 0.0
        self._keys_ended: float | None = None
        self._renew_at: float | None = None

    def run(self) -> None:
        """Until Ctrl-]. ConsoleRefused, Refused: the daemon said no. ConnectionLost: none answered at the first try."""
        delays = retry_delays()
        lost = False
        try:
            while True:
                try:
                    self._session()
                except (ConnectionLost, Refused, ConsoleRefused) as error:
                    if self._final(error):
                        raise
                    if self._ready:
                        delays = retry_delays()
                    if self._ready or not lost:
                        self._screen.say(f"{error}; trying again{self._hint()}")
                    lost, self._ready = True, False
                self._rest(next(delays))
        except _Left:
            return
        except KeyboardInterrupt:
            if not self._read_only:
                raise

    def _final(self, error: StellarError) -> bool:
        """Never connected at all, or the daemon is there and refuses."""
        if self._status == "" or (isinstance(error, Refused) and error.answer != ""):
            return True
        if isinstance(error, ConsoleRefused) and error.answer == "invalid_request" and self._offset is not None:
            # a new server under this name: its offsets begin anew
            self._screen.warn("the console has begun anew; what it had before is gone")
            self._offset, self._past = None, PastOutput(0)
            self._goal = None if self._goal is None else 0
            return False
        return isinstance(error, ConsoleRefused)

    # ------------------------------------------------------------------ one connection

    def _session(self) -> None:
        since = "" if self._offset is None else f"?since={self._offset}"
        socket = self._dial(self._address(), f"/console/{self._server_id}{since}", self._mint())
        self._heard = self._pinged = time.monotonic()
        self._renew_at = None
        try:
            self._received(socket, socket.waiting())
            socket.raise_if_closed()
            while True:
                now = time.monotonic()
                ready, typed, resized = self._screen.wait(
                    [socket], self._until_next(now), keys=self._listens() and now >= self._keys_from
                )
                if ready:
                    self._received(socket, socket.receive())
                if typed:
                    self._typed(socket, typed)
                if resized:
                    self._resize(socket)
                self._keep_alive(socket)
                socket.raise_if_closed()
        except (_Left, KeyboardInterrupt):
            socket.leave()
            raise
        finally:
            socket.close()

    def _received(self, socket: ConsoleSocket, frames: list[bytes | dict[str, Any]]) -> None:
        self._heard = time.monotonic()
        for frame in frames:
            if isinstance(frame, bytes):
                self._show(frame)
            else:
                self._told(socket, frame)
            if self._goal is not None and (self._offset or 0) >= self._goal:
                self._caught_up()

    def _show(self, output: bytes) -> None:
        offset = self._offset or 0
        if self._once and self._goal is not None:
            output = output[: max(0, self._goal - offset)]
        self._offset = offset + len(output)
        shown = self._past.show(offset, output)
        if shown:
            self._screen.show(shown)

    def _caught_up(self) -> None:
        """What was there at the beginning is shown: only now can a greeting be seen."""
        self._goal = None
        if self._once:
            raise _Left
        if self._greet:
            self._screen.say(f"{self._server_id} is {self._status}{self._hint()}")

    def _told(self, socket: ConsoleSocket, frame: dict[str, Any]) -> None:
        match frame:
            case {"type": "ready", "from": int(start), "status": str(status)}:
                self._begin(socket, frame, start, status)
            case {"type": "gap"}:
                self._gap(frame)
            case {"type": "status", "status": str(status)}:
                self._show_status(status)
            case {"type": "token.expiring"}:
                self._renew(socket)
            case {"type": "auth.ok"}:
                self._renew_before(frame.get("expiresAt"))
            case {"type": "notice" | "error", "message": str(message)}:
                self._screen.say(message)

    def _begin(self, socket: ConsoleSocket, frame: dict[str, Any], start: int, status: str) -> None:
        first = self._status == ""
        self._offset, self._ready = start, True
        end = frame.get("end")
        self._past.end = max(start, end) if isinstance(end, int) else start
        self._renew_before(frame.get("expiresAt"))
        if not frame.get("canWrite", True):
            self._read_only = True
        if first:
            self._status = status
            self._goal = self._past.end
        else:
            self._screen.say("connected again")
            self._show_status(status)
        self._resize(socket)

    def _gap(self, frame: dict[str, Any]) -> None:
        if held := self._past.break_off():
            self._screen.show(held)
        missed, start, to = "some output", frame.get("from"), frame.get("to")
        if isinstance(to, int):
            if isinstance(start, int):
                missed = f"{to - start} bytes"
            self._offset = to
        self._screen.warn(f"{missed} not shown here")

    def _show_status(self, status: str) -> None:
        if status != self._status:
            self._status = status
            if self._goal is None:
                self._screen.say(f"{self._server_id} is {status}")

    def _hint(self) -> str:
        if not self._screen.interactive:
            return ""
        return "; read-only, Ctrl-C leaves" if self._read_only else "; Ctrl-] leaves"

    # ------------------------------------------------------------------ keys

    def _listens(self) -> bool:
        """Piped input that nobody would get is not read."""
        return self._screen.interactive or not self._read_only

    def _typed(self, socket: ConsoleSocket, typed: bytes) -> None:
        leave = self._leaves(typed)
        keys = typed.partition(LEAVE_KEY)[0] if leave else typed
        if keys and not self._read_only:
            socket.type(keys)
            self._keys_from = time.monotonic() + max(KEYS_PAUSE, len(keys) / TYPED_A_SECOND)
        if leave:
            raise _Left

    def _leaves(self, typed: bytes) -> bool:
        """Ctrl-] in a terminal; where nothing can be typed anyway, Ctrl-C does as well."""
        return self._screen.interactive and (LEAVE_KEY in typed or (self._read_only and INTERRUPT_KEY in typed))

    def _resize(self, socket: ConsoleSocket) -> None:
        size = self._screen.size()
        if size is not None and self._screen.interactive and self._ready and not self._read_only:
            socket.send({"type": "resize", "cols": size[0], "rows": size[1]})

    # ------------------------------------------------------------------ time

    def _renew_before(self, expires_at: Any) -> None:
        """Sees to a new token in time, should the daemon's own word not come or not be answered."""
        if isinstance(expires_at, int | float):
            left = expires_at - time.time()
            self._renew_at = time.monotonic() + max(left - RENEW_BEFORE, left / 2, RENEW_SOONEST)

    def _renew(self, socket: ConsoleSocket) -> None:
        """A new token on the same connection; where none can be had the session lives on to its token's end."""
        self._renew_at = time.monotonic() + RENEW_AGAIN
        try:
            token = self._mint()
        except Refused:
            return
        socket.send({"type": "auth", "token": token})

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
        if self._renew_at is not None and now >= self._renew_at:
            self._renew(socket)

    def _until_next(self, now: float) -> float:
        ends = [self._pinged + PING_EVERY]
        if self._keys_ended is not None:
            ends.append(self._keys_ended + LINGER)
        if self._renew_at is not None:
            ends.append(self._renew_at)
        if self._keys_from > now:
            ends.append(self._keys_from)
        return max(0.0, min(ends) - now) + 0.001

    def _rest(self, seconds: float) -> None:
        """A pause that Ctrl-] ends."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            _, typed, _ = self._screen.wait([], left, keys=self._screen.interactive)
            if self._screen.keys_ended or self._leaves(typed):
                raise _Left


def retry_delays() -> Iterator[float]:
    """Seconds between two attempts to connect: doubling up to five, with jitter."""
    delay = FIRST_DELAY
    while True:
        yield delay * random.uniform(0.7, 1.3)  # noqa: S311 (jitter, no secret)
        delay = min(delay * 2, LONGEST_DELAY)
