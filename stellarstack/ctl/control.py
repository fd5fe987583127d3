"""Speaks to the daemon on this machine through its control socket (PROTOCOL 10)."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from stellarstack.errors import StellarError

ANSWER_TIMEOUT = 30.0
ANSWER_LIMIT = 64 * 2**20
LINE_LIMIT = 8 * 2**20


class Refused(StellarError):
    """The node said no, or did not answer. The text is what the operator reads."""

    def __init__(self, message: str, code: str = "") -> None:
        super().__init__(message)
        self.answer = code


class ControlSocket:
    """HTTP over the UNIX socket, one connection a request.

    Raises Refused for whatever the daemon refuses, and where none answers.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def get(self, target: str) -> Any:
        """The JSON that GET answers."""
        return self._whole("GET", target, None)

    def post(self, target: str, body: Mapping[str, Any]) -> Any:
        """The JSON that POST of a JSON object answers."""
        return self._whole("POST", target, body)

    def lines(
        self, method: str, target: str, body: Mapping[str, Any] | None = None, timeout: float | None = None
    ) -> Iterator[dict[str, Any]]:
        """Each JSON line as it comes, until the daemon ends the answer. `timeout`: seconds of silence allowed."""
        connection = self._connect(timeout)
        try:
            response = self._ask(connection, method, target, body)
            while line := response.readline(LINE_LIMIT):
                if line.strip():
                    yield json.loads(line)
        except TimeoutError:
            raise Refused(f"no answer within {timeout:g} s; the command may still run") from None
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise self._broken(error) from None
        finally:
            connection.close()

    def _whole(self, method: str, target: str, body: Mapping[str, Any] | None) -> Any:
        connection = self._connect(ANSWER_TIMEOUT)
        try:
            return json.loads(self._ask(connection, method, target, body).read(ANSWER_LIMIT))
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise self._broken(error) from None
        finally:
            connection.close()

    def _connect(self, timeout: float | None) -> http.client.HTTPConnection:
        connection = http.client.HTTPConnection("localhost", timeout=ANSWER_TIMEOUT)
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(ANSWER_TIMEOUT)
        try:
            connection.sock.connect(str(self._path))
        except OSError as error:
            connection.close()
            raise self._unreachable(error) from None
        connection.sock.settimeout(timeout)
        return connection

    def _ask(
        self, connection: http.client.HTTPConnection, method: str, target: str, body: Mapping[str, Any] | None
    ) -> http.client.HTTPResponse:
        content = None if body is None else json.dumps(body).encode()
        connection.request(method, target, content, {"Content-Type": "application/json"} if content else {})
        response = connection.getresponse()
        if response.status >= 400:
            raise _refusal(response.status, response.read(ANSWER_LIMIT))
        return response

    def _unreachable(self, error: OSError) -> Refused:
        if isinstance(error, PermissionError):
            return Refused(f"{self._path}: permission denied; run stellarctl as the daemon's user (often root)")
        if isinstance(error, FileNotFoundError | ConnectionRefusedError):
            return Refused(f"no daemon answers at {self._path}; is it running, and is this its [paths] control_socket?")
        return Refused(f"{self._path}: {error.strerror or error}")

    def _broken(self, error: Exception) -> Refused:
        return Refused(f"{self._path}: the daemon's answer broke off ({error or type(error).__name__})")


def _refusal(status: int, body: bytes) -> Refused:
    """The daemon's own words out of `{"error": {"code", "message"}}`."""
    try:
        told = json.loads(body)["error"]
        return Refused(f"{told['code']}: {told['message']}", str(told["code"]))
    except (ValueError, KeyError, TypeError):
        return Refused(f"the daemon answered with HTTP status {status}")
