"""What a console session's rules say is to be done, and its close codes (PROTOCOL 8). Performs no I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from stellarstack.core.claims import Claims
from stellarstack.core.console_audit import Typed
from stellarstack.core.messages import Json
from stellarstack.core.records import PtySize


class CloseCode:
    """Why a session ends, as WebSocket close codes (PROTOCOL 8's table)."""

    STOPPING = 1001
    POLICY = 1008
    TOO_MANY = 1013
    UNAUTHORIZED = 4401
    FORBIDDEN = 4403
    NOT_FOUND = 4404
    EXPIRED = 4410


@dataclass(frozen=True, slots=True)
class Say:
    """One message to this viewer alone."""

    message: Mapping[str, Json]


@dataclass(frozen=True, slots=True)
class Close:
    """The end of the session. Nothing follows it."""

    code: int
    reason: str


@dataclass(frozen=True, slots=True)
class Verify:
    """A token to be judged; the answer comes back by `verified` or `refused`."""

    token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Begin:
    """The session is open to this person: show the console (`ready` is the first frame)."""

    claims: Claims


@dataclass(frozen=True, slots=True)
class Renewed:
    """Other claims hold from now on."""

    claims: Claims


@dataclass(frozen=True, slots=True)
class Keys:
    """Keystrokes to the PTY. `entered` tells which lines they end; those are told (viewing.TypedLines) before."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Resize:
    """The terminal's new size."""

    size: PtySize


@dataclass(frozen=True, slots=True)
class History:
    """A page of scrollback that ends at `before` (None: at the end), `limit` bytes at most."""

    before: int | None
    limit: int


@dataclass(frozen=True, slots=True)
class Power:
    """A power action to be ordered for the session's server: start, stop, restart or kill."""

    action: str


@dataclass(frozen=True, slots=True)
class Audit:
    """A `command_sent` for `console.audit`."""

    typed: Typed


Effect: TypeAlias = "Say | Close | Verify | Begin | Renewed | Keys | Resize | History | Power | Audit"
