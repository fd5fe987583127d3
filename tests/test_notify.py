"""What systemd is told, heard on a datagram socket."""

from __future__ import annotations

import socket

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from stellarstack.notify import ServiceNotifier


class NotifyTests(SynchronousTestCase):
    """A listener as systemd would be one."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.path = self.mktemp()
        self.door = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self.addCleanup(self.door.close)

    def _heard(self) -> list[str]:
        heard = []
        while True:
            try:
                heard.append(self.door.recv(4096).decode())
            except BlockingIOError:
                return heard

    def _notifier(self, **environ: str) -> ServiceNotifier:
        notifier = ServiceNotifier(environ=environ, clock=self.clock, pid=77)
        self.addCleanup(notifier.close)
        return notifier

    def test_life(self) -> None:
        """Ready, a status, stopping: each is one datagram (K30)."""
        self.door.bind(self.path)
        notifier = self._notifier(NOTIFY_SOCKET=self.path)
        notifier.ready("3 servers")
        notifier.status("two\nlines")
        notifier.stopping()
        self.assertEqual(self._heard(), ["READY=1\nSTATUS=3 servers", "STATUS=two lines", "STOPPING=1"])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_abstract(self) -> None:
        """A name that begins with `@` is one in the abstract namespace."""
        self.door.bind("\0stellarstack-test-notify")
        self._notifier(NOTIFY_SOCKET="@stellarstack-test-notify").ready()
        self.assertEqual(self._heard(), ["READY=1"])

    def test_watchdog(self) -> None:
        """A sign of life comes every half of WATCHDOG_USEC, from ready until close, also while it stops (K30)."""
        self.door.bind(self.path)
        notifier = self._notifier(NOTIFY_SOCKET=self.path, WATCHDOG_USEC="20000000", WATCHDOG_PID="77")
        self.clock.advance(30)
        self.assertEqual(self._heard(), [])
        notifier.ready()
        self.assertEqual(self._heard(), ["READY=1", "WATCHDOG=1"])
        self.clock.pump([1.0] * 25)
        notifier.stopping()
        self.clock.pump([1.0] * 5)
        self.assertEqual(self._heard(), ["WATCHDOG=1", "WATCHDOG=1", "STOPPING=1", "WATCHDOG=1"])
        notifier.close()
        self.clock.advance(100)
        self.assertEqual(self._heard(), [])

    def test_no_watchdog(self) -> None:
        """A watchdog of another process, or one whose time is no number, is not ours."""
        self.door.bind(self.path)
        for environ in ({"WATCHDOG_USEC": "1000", "WATCHDOG_PID": "78"}, {"WATCHDOG_USEC": "soon"}):
            self._notifier(NOTIFY_SOCKET=self.path, **environ).ready()
            self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_without_systemd(self) -> None:
        """Without $NOTIFY_SOCKET nothing is sent and no timer runs."""
        notifier = self._notifier(WATCHDOG_USEC="1000000")
        notifier.ready()
        notifier.stopping()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_nobody_listens(self) -> None:
        """A socket that is gone is no error for the daemon."""
        self._notifier(NOTIFY_SOCKET=self.path).ready()
