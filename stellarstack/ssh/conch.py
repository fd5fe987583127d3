"""What we build on of Twisted Conch, whose types are half there: its bases as Any, and a log for its own words."""

from __future__ import annotations

from typing import Any

from twisted.conch.ssh import channel, connection, service, transport
from twisted.logger import Logger

ServerTransport: Any = transport.SSHServerTransport
Service: Any = service.SSHService
Connection: Any = connection.SSHConnection
Channel: Any = channel.SSHChannel


class QuietLog:
    """Conch's own words: what strangers send is no news (and could hold passwords); its bugs are."""

    _log = Logger(namespace="conch")

    def _nothing(self, *_args: object, **_fields: object) -> None:
        pass

    debug = info = warn = error = _nothing

    def failure(self, text: str, **fields: Any) -> None:
        self._log.failure(text, **fields)
