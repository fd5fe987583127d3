"""The front door: `twistd stellarstack -c daemon.toml` begins and ends here; `node.py` makes the rooms behind it."""

from __future__ import annotations

import gc
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twisted.application.service import IService
from twisted.logger import ILogObserver, Logger
from twisted.python import usage
from twisted.python.components import Componentized

from stellarstack.config_loader import load_config
from stellarstack.errors import ConfigError, StellarError
from stellarstack.heap import collapse, keep_freed
from stellarstack.logs import log_observer
from stellarstack.reactor import install
from stellarstack.stages import StagedService
from stellarstack.statefolder import StateFolder, StateFolderTaken

if TYPE_CHECKING:
    from stellarstack.node import Node

EXIT_BUG, EXIT_TAKEN, EXIT_CONFIG = 1, 75, 78


class Options(usage.Options):
    """The options of `twistd stellarstack`."""

    synopsis = "[-c daemon.toml]"
    optParameters = [["config", "c", "/etc/stellarstack/daemon.toml", "the daemon's configuration file"]]


def makeService(options: usage.Options) -> IService:
    """Reads the configuration, takes the state folder, and answers the service that runs the node.

    Ends the process with one line on standard error: status 78 where the configuration is at fault, 75 where another
    daemon holds the state folder.
    """
    keep_freed()
    install()
    from twisted.internet import reactor  # enters the daemon here, and only here

    from stellarstack.node import Node  # brings libraries that import the reactor

    try:
        config = load_config(Path(options["config"]), os.environ)
        observer = log_observer(config.logging, _log_of_twistd(options))
        folder = StateFolder.take(config.paths.state)
        node = Node(config, folder, reactor)
        node.probe()
    except StateFolderTaken as error:
        raise _refuse(error, EXIT_TAKEN) from None
    except ConfigError as error:
        raise _refuse(error, EXIT_CONFIG) from None
    return Daemon(node, observer, reactor, config.limits.stop_deadline)


def _log_of_twistd(options: usage.Options) -> Path | None:
    """Where twistd's own options send the log: `--logfile`, or twistd.log where it leaves the terminal."""
    parent: dict[str, Any] = options.parent or {}
    named = parent.get("logfile")
    if named == "-" or (named is None and parent.get("nodaemon")):
        return None
    return Path(named or "twistd.log").absolute()


def _refuse(error: StellarError, status: int) -> SystemExit:
    sys.stderr.write(f"stellarstack: {' '.join(str(error).split())}\n")
    return SystemExit(status)


class Daemon(StagedService):
    """The node as a service of twistd: begins its stages in order, ends them on SIGTERM and SIGINT with status 0."""

    _log = Logger()

    def __init__(self, node: Node, observer: ILogObserver, reactor: Any, stop_deadline: float) -> None:
        super().__init__(reactor, self._has_begun, self._failed, stop_deadline)
        self._node = node
        self._observer = observer
        self._reactor = reactor
        node.ended_by(self._stop)
        for stage in node.stages():
            stage.setServiceParent(self)  # type: ignore[no-untyped-call]  # Twisted's

    def setServiceParent(self, parent: Any) -> None:
        if isinstance(parent, Componentized):
            parent.setComponent(ILogObserver, self._observer)
        super().setServiceParent(parent)  # type: ignore[no-untyped-call]  # Twisted's

    def startService(self) -> None:
        self._node.sign()
        # twistd would end itself with the signal it got, which tells whoever watches that it failed
        self._reactor.callWhenRunning(self._take_signals)
        super().startService()

    def _has_begun(self) -> None:
        spare_the_collector()
        self._reactor.callInThread(collapse)
        self._node.begun()

    def _take_signals(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._reactor.callFromThread(self._stop))
        signal.signal(signal.SIGHUP, lambda *_: self._reactor.callFromThread(self._node.reload))

    def _stop(self) -> None:
        if self._reactor.running:
            self._node.stopping()
            self._reactor.stop()

    def _failed(self, error: StellarError) -> None:
        """A stage could not begin: ends what had begun, then the process."""
        self._log.critical("the daemon cannot start: {reason}", reason=str(error))
        self._reactor.addSystemEventTrigger("after", "shutdown", _end, error)
        self._stop()


def spare_the_collector() -> None:
    """What is here after the start stays: the garbage collector need not go through all of it again and again.

    Nor need it look after every 700 objects, as is Python's default; under a flood that took a fifth of the time.
    """
    gc.freeze()
    gc.set_threshold(10_000, 10, 10)


def _end(error: StellarError) -> None:
    """Ends the process after all else was logged, so that the reason is the last line on the terminal."""
    if sys.__stdout__ is not None:
        sys.__stdout__.flush()
    if sys.__stderr__ is not None:  # twistd has put its log in the place of sys.stderr
        sys.__stderr__.write(f"stellarstack: {' '.join(str(error).split())}\n")
        sys.__stderr__.flush()
    os._exit(EXIT_CONFIG if isinstance(error, ConfigError) else EXIT_BUG)
