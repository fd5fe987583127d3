"""The channels of a connection that has logged in: each a terminal at the console, and nothing else (SECURITY S07).

No exec, environment, agent, X11, forwarding or subsystem: a shell, with or without a PTY, is the console.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable
from typing import Protocol

from twisted.conch.ssh.connection import (
    MSG_CHANNEL_FAILURE,
    MSG_CHANNEL_OPEN_FAILURE,
    MSG_CHANNEL_SUCCESS,
    MSG_GLOBAL_REQUEST,
    OPEN_ADMINISTRATIVELY_PROHIBITED,
    OPEN_RESOURCE_SHORTAGE,
)

from stellarstack.core.console_session import Bucket
from stellarstack.core.token_end import TokenEnd
from stellarstack.ssh.conch import Channel, Connection, QuietLog
from stellarstack.ssh.order import Broken
from stellarstack.ssh.packets import Fields, string
from stellarstack.ssh.turns import Turns
from stellarstack.ssh.wire import SshWire

CHANNELS = 8  # terminals of one connection; and openings of one a second, each of which is an audit event
WINDOW = 32768  # bytes of keys that may wait for their turn
_AT_ONCE = 16384  # bytes that are encrypted at a time
_PACKET_LEAST = 1024  # smaller packets would cost us more than they carry
_MOST_WINDOW = 2**32 - 1


class Screen(Protocol):
    """Who sits behind a terminal."""

    def keys(self, data: bytes) -> None: ...

    def resized(self, cols: int, rows: int) -> None: ...

    def full(self) -> None:
        """The viewer takes no more for now."""

    def free(self) -> None: ...

    def over(self) -> None:
        """The terminal is gone; called once."""


class Terminal(Channel):
    """One session channel. Its shell is the `screen` that `open_screen` gives it."""

    name = b"session"
    buf: bytes
    remoteWindowLeft: int
    _log = QuietLog()

    def __init__(self, conn: Terminals, window: int, packet: int, open_screen: Callable[[Terminal], object]) -> None:
        super().__init__(
            localWindow=WINDOW, localMaxPacket=WINDOW, remoteWindow=window, remoteMaxPacket=packet, conn=conn
        )
        self._open_screen = open_screen
        self.screen: Screen | None = None
        self.size: tuple[int, int] | None = None  # columns and rows of the PTY, where there is one
        self.granted = window  # bytes that the viewer has ever been ready to take
        self.blocked = False
        self._pieces: deque[bytes] = deque()  # output that waits for its turn
        self._shown = 0  # bytes of the first of them that are out
        self._queued = False
        self._finishing = False
        self._shell = False
        self._owed = 0  # bytes of keys that came and whose room was not given back yet

    # ---------------------------------------------------------------- what the viewer asks

    def asked(self, kind: bytes, fields: Fields) -> bool:
        """A channel request; answers whether it is granted."""
        match kind:
            case b"pty-req" if not self._shell:
                fields.string()
                self.size = self._size(fields)
                return True
            case b"window-change" if self.size is not None:
                self.size = self._size(fields)
                if self.screen is not None:
                    self.screen.resized(*self.size)
                return True
            case b"shell" if not (self._shell or self.localClosed or self.conn.wire.shut):
                self._shell = True
                return True
        return False

    def begin(self) -> None:
        """The shell was granted, and the viewer knows."""
        self._open_screen(self)

    def _size(self, fields: Fields) -> tuple[int, int]:
        return fields.number(), fields.number()

    def took(self, data: bytes) -> None:
        """Keys, within the window."""
        if len(data) > min(self.localWindowLeft, self.localMaxPacket):
            raise Broken("more than the window takes")
        self.localWindowLeft -= len(data)
        self._owed += len(data)
        if self.screen is not None:
            self.screen.keys(data)
        else:
            self.held(0)

    def held(self, waiting: int) -> None:
        """So many bytes of keys still wait: room for the others is given back."""
        room = self._owed - waiting
        if room >= WINDOW // 2:
            self._owed -= room
            self.conn.adjustWindow(self, room)

    def closeReceived(self) -> None:
        self.forget()
        super().closeReceived()

    def abandon(self) -> None:
        """Its viewer does not answer the end: it counts as gone, and of what waits nothing is shown."""
        self.forget()
        self.conn.sendClose(self)
        self.closed()

    def closed(self) -> None:
        screen, self.screen = self.screen, None
        if screen is not None:
            screen.over()

    # ---------------------------------------------------------------- what the viewer is shown

    @property
    def waiting(self) -> int:
        """Bytes of output that wait for the viewer's window, or for their turn."""
        return len(self.buf) + sum(map(len, self._pieces)) - self._shown

    def write(self, data: bytes) -> None:
        """What is short goes out at once; what is long, or comes behind it, in turns with all other terminals."""
        if self.localClosed or self.closing or self._finishing or not data:
            return
        if self._pieces or self.conn.wire.full or len(data) > _AT_ONCE:
            self._pieces.append(data)
        else:
            super().write(data)
        self.flow()

    def forget(self) -> None:
        """What waits is not shown any more."""
        self.buf = b""
        self._pieces.clear()
        self._shown = 0

    def _show_piece(self) -> bool:
        """The next bytes of what waits; answers whether it can go on at once."""
        self._queued = False
        if not self._may_go_on():
            return False
        data = self._pieces[0][self._shown : self._shown + _AT_ONCE]
        self._shown += len(data)
        if self._shown == len(self._pieces[0]):
            self._pieces.popleft()
            self._shown = 0
        super().write(data)
        self._queued = self._may_go_on()
        if not self._queued:
            self.flow()
        return self._queued

    def _may_go_on(self) -> bool:
        return bool(self._pieces) and not self.buf and not self.conn.wire.full and not self.localClosed

    def addWindowBytes(self, data: int) -> None:
        """As Conch's, but the screen goes on only once what waited is out."""
        self.granted += data
        self.remoteWindowLeft = min(self.remoteWindowLeft + data, _MOST_WINDOW)
        waiting, self.buf = self.buf, b""
        if waiting:
            super().write(waiting)
        self.flow()

    def flow(self) -> None:
        """Goes on with what waits; tells the screen where there is room again, or none."""
        if self._may_go_on() and not self._queued:
            self._queued = True
            self.conn.turns.add(self._show_piece)
        if self._finishing and not self._pieces and not self.closing:
            self.loseConnection()
        blocked = bool(self.buf or self._pieces) or self.conn.wire.full
        if blocked != self.blocked:
            self.blocked = blocked
            if self.screen is not None:
                (self.screen.full if blocked else self.screen.free)()

    def finish(self, status: int) -> None:
        """Nothing follows: the exit status, and the end once all is out."""
        if not (self.localClosed or self.closing or self._finishing):
            self._finishing = True
            self.conn.sendRequest(self, b"exit-status", struct.pack(">L", status))
            self.flow()


class Terminals(Connection):
    """The `ssh-connection` service: a few terminals of one login, which is over at its `end`."""

    _log = QuietLog()

    def __init__(
        self, wire: SshWire, end: TokenEnd, turns: Turns, open_screen: Callable[[Terminal], object]
    ) -> None:  # fmt: skip
        super().__init__()
        self.wire = wire
        self.end = end
        self.turns = turns
        self._open_screen = open_screen
        self._openings = Bucket(CHANNELS, wire.heard_at)
        self.asked_at = wire.heard_at  # when `keep_alive` last asked
        wire.flow = self._flow

    def terminals(self) -> list[Terminal]:
        return list(self.channels.values())

    def _flow(self) -> None:
        for terminal in self.terminals():
            terminal.flow()

    def keep_alive(self) -> None:
        """Asks for a sign of life; whatever the answer is, it is one."""
        if not self.wire.exchanging:
            self.transport.sendPacket(MSG_GLOBAL_REQUEST, string(b"keepalive@openssh.com") + b"\1")

    # ---------------------------------------------------------------- Conch's messages, read strictly

    def packetReceived(self, messageNum: int, packet: bytes) -> None:
        if self.wire.ended:
            return
        super().packetReceived(messageNum, packet)

    def ssh_GLOBAL_REQUEST(self, packet: bytes) -> None:
        fields = Fields(packet)
        fields.string()
        if fields.boolean():
            self.transport.sendPacket(82, b"")  # REQUEST_FAILURE: no forwarding, nothing

    def ssh_REQUEST_SUCCESS(self, packet: bytes) -> None:
        """An answer to `keep_alive`."""

    def ssh_REQUEST_FAILURE(self, packet: bytes) -> None:
        """An answer to `keep_alive`."""

    def ssh_CHANNEL_OPEN(self, packet: bytes) -> None:
        fields = Fields(packet)
        kind, sender, _, largest = fields.string(), fields.number(), fields.number(), fields.number()
        if kind != b"session":
            self._refuse_channel(sender, OPEN_ADMINISTRATIVELY_PROHIBITED, b"the console is all there is")
        elif self.wire.shut:
            self._refuse_channel(sender, OPEN_ADMINISTRATIVELY_PROHIBITED, b"the login is over")
        elif len(self.channels) >= CHANNELS or not self._openings.take(1, self.wire.heard_at):
            self._refuse_channel(sender, OPEN_RESOURCE_SHORTAGE, b"too many terminals")
        elif largest < _PACKET_LEAST:
            self._refuse_channel(sender, OPEN_RESOURCE_SHORTAGE, b"too small packets")
        else:
            super().ssh_CHANNEL_OPEN(packet)

    def _refuse_channel(self, sender: int, code: int, why: bytes) -> None:
        body = struct.pack(">2L", sender, code) + string(why) + string(b"")
        self.transport.sendPacket(MSG_CHANNEL_OPEN_FAILURE, body)

    def getChannel(self, channelType: bytes, windowSize: int, maxPacket: int, data: bytes) -> Terminal:
        return Terminal(self, windowSize, min(maxPacket, WINDOW), self._open_screen)

    def _terminal(self, fields: Fields) -> Terminal:
        found: Terminal | None = self.channels.get(fields.number())
        if found is None:
            raise Broken("no such channel")
        return found

    def ssh_CHANNEL_WINDOW_ADJUST(self, packet: bytes) -> None:
        fields = Fields(packet)
        terminal, more = self._terminal(fields), fields.number()
        fields.end()
        terminal.addWindowBytes(more)

    def ssh_CHANNEL_DATA(self, packet: bytes) -> None:
        fields = Fields(packet)
        terminal, keys = self._terminal(fields), fields.string()
        fields.end()
        terminal.took(keys)

    def ssh_CHANNEL_EOF(self, packet: bytes) -> None:
        """The viewer types no more; it may watch on."""
        fields = Fields(packet)
        self._terminal(fields)
        fields.end()

    def ssh_CHANNEL_CLOSE(self, packet: bytes) -> None:
        fields = Fields(packet)
        self._terminal(fields)
        fields.end()
        super().ssh_CHANNEL_CLOSE(packet)

    def ssh_CHANNEL_REQUEST(self, packet: bytes) -> None:
        fields = Fields(packet)
        terminal, kind, answer = self._terminal(fields), fields.string(), fields.boolean()
        granted = terminal.asked(kind, fields)
        if answer and not terminal.localClosed:
            number = MSG_CHANNEL_SUCCESS if granted else MSG_CHANNEL_FAILURE
            self.transport.sendPacket(number, struct.pack(">L", self.localToRemoteChannel[terminal.id]))
        if granted and kind == b"shell":
            terminal.begin()

    def ssh_CHANNEL_SUCCESS(self, packet: bytes) -> None:
        """We ask nothing of a channel that wants an answer."""

    ssh_CHANNEL_FAILURE = ssh_CHANNEL_SUCCESS
