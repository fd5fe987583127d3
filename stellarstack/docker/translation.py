"""What the engine's refusals mean: HTTP status and message in, one error of our taxonomy out. Performs no I/O."""

from __future__ import annotations

import re

from stellarstack.errors import DockerUnavailable, EngineConflict, EngineRefused, StellarError

_SHOWN = 400
_PORT_TAKEN = ("port is already allocated", "address already in use")
_HOST_PORT = re.compile(
    r"(?:Bind for|listen (?:tcp|udp|sctp)[46]?|bind (?:host )?port(?: for)?) \[?[0-9A-Fa-f.:]*?\]?:(\d{1,5})(?!\d)"
)


def one_line(text: str) -> str:
    """`text` on one line, without control characters, bounded to what a person reads."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text[: 8 * _SHOWN]).split())
    return line if len(line) <= _SHOWN else line[: _SHOWN - 1] + "…"


def refusal(status: int, message: str, missing: type[StellarError] = EngineRefused) -> StellarError:
    """The error for an answer of 400 and above; `missing` is what a 404 means to who asked."""
    told = f"Docker: {one_line(message) or f'HTTP status {status}'}"
    if status == 404:
        return missing(told)
    if status == 409:
        return EngineConflict(told)
    if 400 <= status < 500 and not is_version_refused(message):
        return EngineRefused(told)
    return DockerUnavailable(told)


def is_version_refused(message: str) -> bool:
    """The engine was exchanged behind us for one that no longer speaks the API version chosen before."""
    return message.startswith("client version")


def taken_port(message: str) -> int | None:
    """The host port that the engine could not bind; 0 where it does not say which, None where that is not the cause."""
    if not any(words in message for words in _PORT_TAKEN):
        return None
    found = _HOST_PORT.search(message)
    return int(found.group(1)) if found else 0
