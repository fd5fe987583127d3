"""Tells systemd how the daemon does: ready, alive, stopping (sd_notify)."""

from __future__ import annotations

import socket
from collections.abc import Mapping

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger


class ServiceNotifier:
    """Datagrams to `$NOTIFY_SOCKET`; without that variable every call does nothing.

    `environ` is read once: `NOTIFY_SOCKET` is a path or, with a leading `@`, an abstract name; `WATCHDOG_USEC` the
    microseconds within which systemd wants a sign of life. One is sent every half of it, from the reactor's own loop,
    so a daemon whose reactor hangs is restarted.
    """

    _log = Logger()

    def __init__(self, *, environ: Mapping[str, str], clock: IReactorTime, pid: int) -> None:
        address = environ.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._watchdog = LoopingCall(self._send, "WATCHDOG=1")
        self._watchdog.clock = clock
        self._interval = _watchdog_interval(environ, pid)

    def ready(self, status: str = "") -> None:
        """The daemon is up. Begins the signs of life."""
        self._send("READY=1" + (f"\nSTATUS={status}" if status else ""))
        if self._address and self._interval and not self._watchdog.running:
            self._watchdog.start(self._interval, now=True)

    def status(self, text: str) -> None:
        """One line for `systemctl status`."""
        self._send("STATUS=" + text.replace("\n", " "))

    def stopping(self) -> None:
        """The daemon ends; the signs of life go on until `close`, since the stop takes its time."""
        self._send("STOPPING=1")

    def close(self) -> None:
        """Ends the signs of life."""
        if self._watchdog.running:
            self._watchdog.stop()

    def _send(self, message: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK) as door:
                door.sendto(message.encode(), self._address)
        except OSError as error:
            self._log.warn("systemd was not told: {reason}", reason=str(error))


def _watchdog_interval(environ: Mapping[str, str], pid: int) -> float:
    """Seconds between signs of life; 0 where systemd wants none (of us: `WATCHDOG_PID` may name another process)."""
    if environ.get("WATCHDOG_PID", str(pid)) != str(pid):
        return 0.0
    try:
        return max(0.0, int(environ.get("WATCHDOG_USEC", "0")) / 2_000_000)
    except ValueError:
        return 0.0
