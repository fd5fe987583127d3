"""Where the daemon's log goes and from which level on (`[logging]` in daemon.toml)."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import IO

from twisted.logger import (
    FilteringLogObserver,
    ILogObserver,
    LogLevel,
    LogLevelFilterPredicate,
    textFileLogObserver,
)

from stellarstack.config import LoggingConfig
from stellarstack.errors import ConfigError

_LEVELS = {"debug": LogLevel.debug, "info": LogLevel.info, "warn": LogLevel.warn, "error": LogLevel.error}


def log_observer(config: LoggingConfig, otherwise: Path | None) -> ILogObserver:
    """Lines to `[logging] file`, else to `otherwise`, else to standard output. ConfigError: it cannot be written."""
    stream: IO[str] = sys.stdout
    path = config.file or otherwise
    if path is not None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            stream = open(path, "a", encoding="utf-8")  # noqa: SIM115  -- open as long as the process lives
        except OSError as error:
            raise ConfigError(f"[logging] file: {path} cannot be written: {error.strerror}") from None
    predicate = LogLevelFilterPredicate(_LEVELS[config.level])
    # the connections of treq and the endpoints announce each factory at info
    predicate.setLogLevelForNamespace("twisted.internet", LogLevel.warn)
    predicate.setLogLevelForNamespace("twisted.web", LogLevel.warn)
    # what still speaks through twisted.python.log: ports that open and close
    predicate.setLogLevelForNamespace("log_legacy", LogLevel.warn)
    observer: ILogObserver = FilteringLogObserver(textFileLogObserver(stream), [predicate])
    return observer
