"""Hears from the kernel when it kills in a container for want of memory, while the container is still there to be read.

A container that dies of it loses its cgroup some 15 ms later, and Docker's own `OOMKilled` is not to be relied on where
only a child was killed: so the counter is read at once.
"""

from __future__ import annotations

import os
import select
from collections.abc import Callable
from pathlib import Path

from twisted.internet.interfaces import IReactorFDSet, IReadDescriptor
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from stellarstack.metrics.cgroup import OpenCgroup


@implementer(IReadDescriptor)
class OomBell:
    """Rings a callable for each OOM in a cgroup.

    v1 tells an eventfd that is tied to `memory.oom_control`; of v2 `memory.events` itself becomes exceptional to
    poll(2). All of them are gathered in one epoll, which the reactor sees as one descriptor. Both ring also when the
    cgroup goes.
    """

    _log = Logger()

    def __init__(self, *, reactor: IReactorFDSet) -> None:
        self._reactor = reactor
        self._epoll: select.epoll | None = None
        self._rings: dict[int, Callable[[], None]] = {}
        self._eventfds: set[int] = set()

    def watch(self, cgroup: OpenCgroup, ring: Callable[[], None]) -> Callable[[], None]:
        """Calls `ring` from now on; answers how to stop, which comes before the cgroup is closed.

        OSError or KeyError: the container is gone. `ring` must not block.
        """
        if cgroup.files.version == 2:
            return self._register(cgroup.events_descriptor, select.EPOLLPRI, ring)
        eventfd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        try:
            control = Path(cgroup.files.memory_events).with_name("cgroup.event_control")
            control.write_text(f"{eventfd} {cgroup.events_descriptor}")
            self._eventfds.add(eventfd)
            return self._register(eventfd, select.EPOLLIN, ring)
        except BaseException:
            self._eventfds.discard(eventfd)
            os.close(eventfd)
            raise

    def close(self) -> None:
        """Ends all watches."""
        for descriptor in list(self._rings):
            self._unregister(descriptor)

    def fileno(self) -> int:
        return self._epoll.fileno() if self._epoll is not None else -1

    def logPrefix(self) -> str:
        return "oom"

    def connectionLost(self, reason: Failure) -> None:
        self.close()

    def doRead(self) -> None:
        if self._epoll is None:
            return
        for descriptor, _ in self._epoll.poll(0):
            if descriptor in self._eventfds:
                os.eventfd_read(descriptor)
            ring = self._rings.get(descriptor)
            if ring is not None:
                self._rung(ring)

    def _rung(self, ring: Callable[[], None]) -> None:
        try:
            ring()
        except Exception:
            self._log.failure("an OOM was not taken in")

    def _register(self, descriptor: int, mask: int, ring: Callable[[], None]) -> Callable[[], None]:
        if self._epoll is None:
            self._epoll = select.epoll()
            self._reactor.addReader(self)
        try:
            self._epoll.register(descriptor, mask | select.EPOLLET)
        except OSError:
            self._rest()
            raise
        self._rings[descriptor] = ring

        def stop() -> None:
            if self._rings.get(descriptor) is ring:
                self._unregister(descriptor)

        return stop

    def _unregister(self, descriptor: int) -> None:
        del self._rings[descriptor]
        if self._epoll is not None:
            self._epoll.unregister(descriptor)
        if descriptor in self._eventfds:
            self._eventfds.remove(descriptor)
            os.close(descriptor)
        self._rest()

    def _rest(self) -> None:
        """Leaves the reactor where nothing is watched any more."""
        if not self._rings and self._epoll is not None:
            self._reactor.removeReader(self)
            self._epoll.close()
            self._epoll = None
