"""How stellarctl shows things: tables and plain lines for people, JSON for programs."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TextIO

CELL_LIMIT = 60


def table(headings: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Columns as wide as they need to be; control characters of what a node tells never reach the terminal."""
    cells = [list(headings), *([plain(cell) for cell in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(headings))]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in cells)
    return "\n".join(line.rstrip() for line in lines) + "\n"


def plain(value: Any, limit: int = CELL_LIMIT) -> str:
    """One line without control characters."""
    text = "-" if value is None else "yes" if value is True else "no" if value is False else str(value)
    text = "".join(letter if letter.isprintable() else " " for letter in text)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def pairs(found: Mapping[str, Any]) -> str:
    """`key  value` lines; nested objects as `outer.inner`."""
    flat = list(_flatten("", found))
    width = max((len(name) for name, _ in flat), default=0)
    return "".join(f"{name.ljust(width)}  {plain(value, 200)}\n" for name, value in flat)


def _flatten(prefix: str, found: Mapping[str, Any]) -> Iterable[tuple[str, Any]]:
    for name, value in found.items():
        if isinstance(value, dict) and value:
            yield from _flatten(f"{prefix}{name}.", value)
        elif isinstance(value, list):
            yield prefix + name, ", ".join(json.dumps(item) if isinstance(item, dict) else str(item) for item in value)
        else:
            yield prefix + name, value


def as_json(value: Any, out: TextIO) -> None:
    """One line of JSON, flushed, so that a program downstream sees it at once."""
    out.write(json.dumps(value, ensure_ascii=False) + "\n")
    out.flush()


def event_line(event: Mapping[str, Any]) -> str:
    """One event for people: time, type, server, and what else it says."""
    when = event.get("timestamp")
    stamp = time.strftime("%H:%M:%S", time.localtime(when)) if isinstance(when, int | float) else "--:--:--"
    said = {"type", "timestamp", "eventId", "seq", "nodeId", "serverId"}
    rest = " ".join(f"{name}={_short(value)}" for name, value in event.items() if name not in said)
    return plain(f"{stamp}  {event.get('type', '?'):<20} {event.get('serverId', '-'):<16} {rest}", 400) + "\n"


def _short(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def ports_of(row: Mapping[str, Any]) -> str:
    """A server's ports, and behind them those that it has from its next start on."""
    pending = row.get("pendingPorts")
    later = "" if pending is None else f" (from the next start: {ports_cell(pending)})"
    return ports_cell(row.get("ports")) + later


def ports_cell(ports: Any) -> str:
    """`25565` or `3979->3979/udp`, as the node lists a server's ports."""
    found = []
    for port in ports if isinstance(ports, list) else []:
        if not isinstance(port, dict):
            found.append(str(port))
            continue
        host, container = port.get("host"), port.get("container", port.get("host"))
        protocol = port.get("protocol", "both")
        text = str(host) if host == container else f"{host}->{container}"
        found.append(text if protocol == "both" else f"{text}/{protocol}")
    return ", ".join(found) or "-"
