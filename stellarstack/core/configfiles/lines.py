"""Text as lines that keep their own endings. Performs no I/O."""

from __future__ import annotations

import re
from dataclasses import dataclass

LINES_MOST = 100_000
_LINE = re.compile(r"([^\n]*?)(\r?\n|$)")


@dataclass(slots=True)
class Line:
    """`text` without its `end`, which is empty only of a last line that has none."""

    text: str
    end: str


def split_lines(text: str) -> list[Line]:
    """Split at LF and CRLF alone. ValueError: over 100 000 lines, which no config file has."""
    if text.count("\n") > LINES_MOST:
        raise ValueError(f"has over {LINES_MOST} lines")
    return [Line(found[1], found[2]) for found in _LINE.finditer(text) if found[0]]


def newline_of(text: str) -> str:
    """How new lines of this text are to end."""
    return "\r\n" if "\r\n" in text else "\n"
