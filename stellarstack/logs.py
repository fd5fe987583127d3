"""Where the daemon's log goes and from which level on (`[logging]` in daemon.toml)."""

from __future__ import annotations

import sys
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


def log_observer(config: LoggingConfig) -> ILogObserver:
    """Lines to `file`, else to standard output. ConfigError: the file cannot be written."""
    stream: IO[str] = sys.stdout
    if config.file is not None:
        try:
            config.file.parent.mkdir(parents=True, exist_ok=True)
            stream = open(config.file, "a", encoding="utf-8")  # noqa: SIM115  -- open as long as the process lives
        except OSError as error:
            raise ConfigError(f"[logging] file: {config.file} cannot be written: {error.strerror}") from None
    predicate = LogLevelFilterPredicate(_LEVELS[config.level])
    # the connections of treq and the endpoints announce each factory at info
    predicate.setLogLevelForNamespace("twisted.internet", LogLevel.warn)
    predicate.setLogLevelForNamespace("twisted.web", LogLevel.warn)
    observer: ILogObserver = FilteringLogObserver(textFileLogObserver(stream), [predicate])
    return observer
