"""Java properties: every comment, blank and untouched line as it was. Performs no I/O."""

from __future__ import annotations

import re
from collections.abc import Sequence

from stellarstack.core.configfiles.lines import Line, newline_of, split_lines
from stellarstack.core.configfiles.prepared import Prepared

_ENTRY = re.compile(r"([ \t\f]*)((?:\\.|[^=:\s\\]++)*+)([ \t\f]*[=:]?[ \t\f]*)(.*)", re.DOTALL)
_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|.)", re.DOTALL)
_ESCAPED = {"\n": "\\n", "\r": "\\r", "\t": "\\t", "\f": "\\f", "\\": "\\\\", '"': '\\"'}
_UNESCAPED = {"n": "\n", "r": "\r", "t": "\t", "f": "\f"}


def patch_properties(text: str, replacements: Sequence[Prepared]) -> str:
    """Sets each key wherever it stands; one that is missing comes at the end, unless it hangs on an `if_value`."""
    newline = newline_of(text)
    entries = _logical(split_lines(text))
    for replacement in replacements:
        _apply(entries, replacement, newline)
    return "".join(line.text + line.end for line in entries)


def _logical(lines: list[Line]) -> list[Line]:
    """Lines with their continuations joined into one entry, breaks and all."""
    entries: list[Line] = []
    gathered: list[str] = []
    for line in lines:
        is_comment = not gathered and _is_comment(line.text)
        backslashes = len(line.text) - len(line.text.rstrip("\\"))
        gathered.append(line.text)
        if is_comment or backslashes % 2 == 0:
            entries.append(Line("".join(gathered), line.end))
            gathered = []
        else:
            gathered.append(line.end)
    if gathered:
        entries.append(Line("".join(gathered[:-1]), gathered[-1]))
    return entries


def _is_comment(text: str) -> bool:
    return text.lstrip(" \t\f")[:1] in ("", "#", "!")


def _apply(entries: list[Line], replacement: Prepared, newline: str) -> None:
    found = False
    for entry in entries:
        if _is_comment(entry.text):
            continue
        parts = _ENTRY.fullmatch(entry.text)
        if parts is None or unescape(parts[2]) != replacement.key:
            continue
        found = True
        current = unescape(parts[4])
        if replacement.applies(current) and replacement.new_text(current) != current:
            entry.text = f"{parts[1]}{parts[2]}{parts[3] or '='}{escape(replacement.new_text(current))}"
    if not found and replacement.if_value is None:
        if entries and not entries[-1].end:
            entries[-1].end = newline
        entries.append(Line(f"{_escape_key(replacement.key)}={escape(replacement.text)}", newline))


def unescape(text: str) -> str:
    """What Java reads: continuations joined, escapes undone (a pair of surrogates is one character)."""
    joined = re.sub(r"(?<!\\)((?:\\\\)*)\\\r?\n[ \t\f]*", r"\1", text)

    def put(found: re.Match[str]) -> str:
        escape = found[1]
        return chr(int(escape[1:], 16)) if len(escape) == 5 else _UNESCAPED.get(escape, escape)

    read = _ESCAPE.sub(put, joined)
    pairs = read.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
    return read if any("\udc80" <= letter <= "\udcff" for letter in text) else pairs


def escape(value: str) -> str:
    """A value as Java reads it back: all of it ASCII, a leading blank kept."""
    written = "".join(_ESCAPED.get(letter) or _ascii(letter) for letter in value)
    return f"\\{written}" if written[:1] in (" ",) else written


def _ascii(letter: str) -> str:
    if " " <= letter <= "~":
        return letter
    if "\udc80" <= letter <= "\udcff":  # a byte that is no UTF-8, as it came in
        return letter
    units = letter.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[index] << 8 | units[index + 1]:04x}" for index in range(0, len(units), 2))


def _escape_key(key: str) -> str:
    return re.sub(r"([ =:#!])", r"\\\1", "".join(_ESCAPED.get(letter) or _ascii(letter) for letter in key))
