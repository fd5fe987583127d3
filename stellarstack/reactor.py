"""The daemon's reactor: Twisted's epoll, without a logging context around each event and each turn.

Twisted gives every event a context in which old-style log lines find out whose they are. Nobody here asks it (our
loggers have names of their own), and after a few idle milliseconds, when no cache has that code any more, it takes
longer than all else that a typed key needs to get to its game.
"""

from __future__ import annotations

import sys
from select import EPOLLIN

from twisted.internet.epollreactor import EPollReactor
from twisted.internet.main import installReactor
from twisted.logger import Logger


class QuietReactor(EPollReactor):
    """Whose errors are logged as Twisted's are, whatever is raised: where an event does, its connection is lost."""

    _log = Logger()

    def doPoll(self, timeout: float | None) -> None:
        """Waits for events, `timeout` seconds at most (None: for ever), and has their descriptors look after them."""
        descriptors = self._selectables
        for number, event in self._poller.poll(-1 if timeout is None else timeout, len(descriptors)):
            descriptor = descriptors.get(number)
            if descriptor is None:  # an earlier event of this turn has closed it
                continue
            try:
                if event != EPOLLIN:
                    self._doReadOrWrite(descriptor, number, event)  # type: ignore[no-untyped-call]  # Twisted's
                    continue
                try:  # the usual one, here: a call less on the way of a key
                    lost = descriptor.doRead()
                except BaseException as error:
                    self._log.failure("{descriptor} could not be read", descriptor=descriptor)
                    lost = error
                if lost:
                    self._disconnectSelectable(descriptor, lost, True)  # type: ignore[no-untyped-call]  # Twisted's
            except BaseException:
                self._log.failure("an event of {descriptor} could not be looked after", descriptor=descriptor)

    doIteration = doPoll

    def mainLoop(self) -> None:
        """Turns until it is stopped; an error of a turn is logged, and the next begins."""
        while self._started:
            try:
                while self._started:
                    self.runUntilCurrent()
                    self.doPoll(self.running and self.timeout())
            except BaseException:
                self._log.failure("a turn of the reactor failed")


def install() -> None:
    """Makes ours the reactor of this process, but for one that was chosen (`twistd --reactor`) or is there already."""
    if "twisted.internet.reactor" not in sys.modules:
        installReactor(QuietReactor())  # type: ignore[no-untyped-call]  # Twisted's
