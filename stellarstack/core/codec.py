"""Turns the bytes of a message into a command, or into the reason why it is none (PROTOCOL 4). Performs no I/O.

Nothing that a sender can put into a message raises: each outcome is a value. A message is *readable* when it is one
JSON object of at most 1 MiB whose `id` can be told; a refusal carries what could be read, so that its sender learns it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import chain
from json import JSONDecoder
from typing import Any, NoReturn

from stellarstack.core.identifiers import SERVER_ID
from stellarstack.core.messages import Command, Json, Origin
from stellarstack.errors import InvalidCommand, InvalidPayload, StellarError, Unauthorized

MAX_MESSAGE = 1024 * 1024
MAX_DEPTH = 64
MAX_CONTAINERS = 20_000  # objects and lists in one message: a MiB of `[],[],` would take 30 MB
MAX_ID = 256
MAX_TYPE = 64
# Above this a time is meant in milliseconds; after the division nothing may lie above it (the year 5138).
MILLISECONDS_ABOVE = 1e11

_ENVELOPE_KEYS = frozenset({"id", "type", "payload", "timestamp", "expiresAt", "nodeId"})
_OPENING = re.compile(rb"[ \t\r\n]*\{")
_STRING = re.compile(r'"(?:[^"\\]|\\.)*+"?', re.DOTALL)  # an unfinished one matches too, or this were quadratic
_SURROGATE = re.compile(r"\\u[dD][89abcdefABCDEF]")
_INT_LENGTH = 18  # what surely fits into 64 bits
_INT_LIMIT = 2**63


@dataclass(frozen=True, slots=True)
class RefusedMessage:
    """A message that is no command. `command_id` is None where none could be read: such a result is transient."""

    error: StellarError
    command_id: str | None = None
    command: str | None = None
    server_id: str | None = None


@dataclass(frozen=True, slots=True)
class Envelope:
    """A good envelope. `node_id` is the node it names, if any; `named` whether the sender gave the id."""

    command: Command
    node_id: str | None
    named: bool


@dataclass(frozen=True, slots=True)
class SignedEnvelope:
    """An envelope inside a signature that nobody has checked yet. `signed` are the very bytes that were signed."""

    signed: bytes
    key_id: str
    signature: str


class Flaw(ValueError):
    """Text that is JSON by its grammar, but whose meaning is not the same for every reader."""


def server_id_of(payload: Mapping[str, Json]) -> str | None:
    """The payload's `serverId` where it has the form of PROTOCOL 1, else None."""
    found = payload.get("serverId")
    return found if isinstance(found, str) and is_server_id(found) else None


def is_server_id(text: str) -> bool:
    return SERVER_ID.fullmatch(text) is not None


def decode(
    raw: bytes, *, origin: Origin, entry_id: str | None = None, make_id: Callable[[], str]
) -> Envelope | SignedEnvelope | RefusedMessage:
    """Reads one message. `entry_id` is its id in the queue; `make_id` names a command that came without an id."""
    body = _read(raw)
    if isinstance(body, RefusedMessage):
        return body
    if "signed" in body:
        return _signed(body)
    return _envelope(body, origin, entry_id, make_id)


def peek(raw: bytes, error: StellarError) -> RefusedMessage:
    """A refusal for `error` that names what the envelope in `raw` says it is, as far as that can be read."""
    return refusal_of(_read(raw), error)


def strict_object(text: str) -> dict[str, Json]:
    """The JSON object in `text`. ValueError where it is none, a key stands twice, a number is NaN or beyond 64 bits (an
    integer) or a double, a string is no Unicode, or it is nested more than 64 deep."""
    try:
        found = _STRICT.decode(text)
    except RecursionError:
        raise ValueError("nested too deep") from None
    if not isinstance(found, dict):
        raise ValueError("no JSON object")
    if _too_deep(text, found):
        raise Flaw(f"it is nested more than {MAX_DEPTH} deep")
    if _SURROGATE.search(text) and not _encodable(found):
        raise Flaw("it has a string that is no Unicode (a lone surrogate)")
    return found


# ------------------------------------------------------------------ the text


def _read(raw: bytes) -> dict[str, Json] | RefusedMessage:
    if len(raw) > MAX_MESSAGE:
        return RefusedMessage(InvalidCommand(f"the message has {len(raw)} bytes, allowed are {MAX_MESSAGE}"))
    if _OPENING.match(raw) is None:
        return RefusedMessage(InvalidCommand("the message is no JSON object"))
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        return RefusedMessage(InvalidCommand("the message is not UTF-8"))
    if _too_many_containers(text):
        return RefusedMessage(InvalidCommand(f"the message has more than {MAX_CONTAINERS} objects and lists"))
    try:
        return strict_object(text)
    except Flaw as flaw:
        return refusal_of(_loose_object(text), InvalidCommand(f"the message cannot be taken: {flaw}"))
    except (ValueError, RecursionError):
        return RefusedMessage(InvalidCommand("the message is no JSON object"))


def _loose_object(text: str) -> dict[str, Json]:
    """What can surely be told of a flawed message: keys that stand twice are left out."""
    try:
        found = _LOOSE.decode(text)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _integer(text: str) -> int:
    if len(text) <= _INT_LENGTH:
        return int(text)
    number = int(text) if len(text) <= _INT_LENGTH + 2 else _INT_LIMIT
    if not -_INT_LIMIT <= number < _INT_LIMIT:
        raise Flaw("an integer in it is beyond 64 bits")
    return number


def _float(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise Flaw("a number in it is too large")
    return number


def _no_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is no JSON")


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise Flaw("a key stands twice in it")
    return found


def _only_sure(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) == len(pairs):
        return found
    seen: set[str] = set()
    for key, _ in pairs:
        if key in seen:
            found.pop(key, None)
        seen.add(key)
    return found


_STRICT = JSONDecoder(parse_int=_integer, parse_float=_float, parse_constant=_no_constant, object_pairs_hook=_each_once)
_LOOSE = JSONDecoder(parse_int=float, parse_constant=_no_constant, object_pairs_hook=_only_sure)


def _too_many_containers(text: str) -> bool:
    if text.count("[") + text.count("{") <= MAX_CONTAINERS:
        return False
    bare = _STRING.sub("", text)
    return bare.count("[") + bare.count("{") > MAX_CONTAINERS


def _too_deep(text: str, found: dict[str, Json]) -> bool:
    if text.count("[") + text.count("{") <= MAX_DEPTH:
        return False
    level: list[Any] = [found]
    for _ in range(MAX_DEPTH):
        within: Iterable[Any] = chain.from_iterable(v.values() if type(v) is dict else v for v in level)
        level = [value for value in within if type(value) is dict or type(value) is list]
        if not level:
            return False
    return True


def _encodable(found: Json) -> bool:
    level: list[Any] = [found]
    while level:
        value = level.pop()
        if isinstance(value, str):
            try:
                value.encode("utf-8")
            except UnicodeEncodeError:
                return False
        elif isinstance(value, dict):
            level += value.keys()
            level += value.values()
        elif isinstance(value, list):
            level += value
    return True


# ------------------------------------------------------------------ the envelope


def _envelope(
    body: dict[str, Json], origin: Origin, entry_id: str | None, make_id: Callable[[], str]
) -> Envelope | RefusedMessage:
    named = body.get("id") is not None
    if named and _id_of(body) is None:
        return refusal_of(body, InvalidCommand(f"`id` must be a string of 1 to {MAX_ID} printable characters"))
    try:
        kind = _type(body)
        if not named and entry_id is not None:
            body["id"] = f"queue:{entry_id}"
        payload = _payload(body)
        timestamp, expires_at = _time(body, "timestamp"), _time(body, "expiresAt")
        node_id = _node_id(body)
    except StellarError as error:
        return refusal_of(body, error)
    command = Command(
        id=_id_of(body) or make_id(), type=kind, payload=payload, origin=origin, server_id=server_id_of(payload),
        timestamp=timestamp, expires_at=expires_at,
    )  # fmt: skip
    return Envelope(command, node_id, named)


def _signed(body: dict[str, Json]) -> SignedEnvelope | RefusedMessage:
    signed, key_id, signature = body["signed"], body.get("keyId"), body.get("signature")
    if isinstance(signed, str) and isinstance(key_id, str) and isinstance(signature, str):
        return SignedEnvelope(signed.encode("utf-8"), key_id, signature)
    error = Unauthorized("a signed command has the strings `signed`, `keyId` and `signature`")
    return peek(signed.encode("utf-8"), error) if isinstance(signed, str) else RefusedMessage(error)


def refusal_of(body: dict[str, Json] | RefusedMessage, error: StellarError) -> RefusedMessage:
    """A refusal for `error` that names what `body` says it is."""
    if isinstance(body, RefusedMessage):
        return RefusedMessage(error, body.command_id, body.command, body.server_id)
    kind, payload = body.get("type"), body.get("payload")
    named = kind if isinstance(kind, str) and _is_type(kind) else None
    return RefusedMessage(error, _id_of(body), named, server_id_of(payload if isinstance(payload, dict) else body))


def _id_of(body: Mapping[str, Json]) -> str | None:
    found = body.get("id")
    if isinstance(found, str) and 0 < len(found) <= MAX_ID and found.isprintable():
        return found
    return None


def _is_type(text: str) -> bool:
    return 0 < len(text) <= MAX_TYPE and text.isprintable()


def _type(body: Mapping[str, Json]) -> str:
    found = body.get("type")
    if not isinstance(found, str) or not _is_type(found):
        raise InvalidCommand(f"`type` must be a string of 1 to {MAX_TYPE} printable characters")
    return found


def _payload(body: Mapping[str, Json]) -> Mapping[str, Json]:
    found = body.get("payload")
    if found is None:
        return {key: value for key, value in body.items() if key not in _ENVELOPE_KEYS}
    if not isinstance(found, dict):
        raise InvalidPayload("`payload` must be an object")
    return found


def _time(body: Mapping[str, Json], key: str) -> float | None:
    found = body.get(key)
    if found is None:
        return None
    if isinstance(found, bool) or not isinstance(found, int | float):
        raise InvalidCommand(f"`{key}` must be a number: Unix seconds or milliseconds")
    seconds = found / 1000 if found > MILLISECONDS_ABOVE else float(found)
    if not 0 <= seconds <= MILLISECONDS_ABOVE:
        raise InvalidCommand(f"`{key}` is no time")
    return seconds


def _node_id(body: Mapping[str, Json]) -> str | None:
    found = body.get("nodeId")
    if found is None or isinstance(found, str):
        return found
    raise InvalidCommand("`nodeId` must be a string")
