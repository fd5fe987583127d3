"""INI as games write it: repeated keys, odd lines and comments as they were. Performs no I/O."""

from __future__ import annotations

import re
from collections.abc import Sequence

from stellarstack.core.configfiles.lines import Line, newline_of, split_lines
from stellarstack.core.configfiles.prepared import Prepared

_SECTION = re.compile(r"\s*\[([^\]]*)\]\s*(?:[;#].*)?")
_INLINE_COMMENT = re.compile(r"(?<!\s)\s+([;#]\s.*)")


def patch_ini(text: str, replacements: Sequence[Prepared]) -> str:
    """Sets each key of its section, or adds it at the section's end; a missing section comes last.

    A comment behind a value that changes moves to a line of its own above it: what counts as a comment there differs
    from game to game.
    """
    lines = split_lines(text)
    spaced, entries = sum(" = " in line.text for line in lines), sum("=" in line.text for line in lines)
    style = " = " if spaced * 2 >= entries else "="
    for replacement in replacements:
        section, key = split_key(replacement.key)
        _apply(lines, section, key, replacement, newline_of(text), style)
    return "".join(line.text + line.end for line in lines)


def split_key(path: str) -> tuple[str, str]:
    """Section and key: split at the first dot outside of brackets, which are dropped. No such dot: no section."""
    depth = 0
    for index, letter in enumerate(path):
        depth += (letter == "[") - (letter == "]")
        if letter == "." and depth <= 0:
            return path[:index].replace("[", "").replace("]", ""), path[index + 1 :]
    return "", path


def _apply(lines: list[Line], section: str, key: str, replacement: Prepared, newline: str, style: str) -> None:
    start, end = _bounds(lines, section)
    if start is None:
        if replacement.if_value is None:
            _add_section(lines, section, newline)
            _insert(lines, len(lines), f"{key}{style}{_value(replacement.text)}", newline)
        return
    found = [index for index in range(start, end) if _key_of(lines[index].text) == key]
    for index in reversed(found):
        _set(lines, index, replacement)
    if not found and replacement.if_value is None:
        _insert(lines, _last_used(lines, start, end), f"{key}{style}{_value(replacement.text)}", newline)


def _bounds(lines: list[Line], section: str) -> tuple[int | None, int]:
    """The lines of the section, its header left out; of several sections of one name the last."""
    heads = [(index, found[1].strip()) for index, line in enumerate(lines) if (found := _SECTION.fullmatch(line.text))]
    ends = [index for index, _ in heads[1:]] + [len(lines)]
    if not section:
        return 0, heads[0][0] if heads else len(lines)
    for (index, name), end in reversed(list(zip(heads, ends, strict=False))):
        if name == section:
            return index + 1, end
    return None, 0


def _entry(text: str) -> tuple[str, str] | None:
    """A line up to its value, and the value; None where it is no entry."""
    left, equals, right = text.partition("=")
    if not equals or left.lstrip()[:1] in ("", ";", "#", "["):
        return None
    value = right.lstrip(" \t")
    return f"{left}={right[: len(right) - len(value)]}", value


def _key_of(text: str) -> str | None:
    entry = _entry(text)
    return entry[0].partition("=")[0].strip() if entry else None


def _set(lines: list[Line], index: int, replacement: Prepared) -> None:
    line = lines[index]
    head, value = _entry(line.text) or ("", "")
    comment = _INLINE_COMMENT.search(value)
    current = (value[: comment.start()] if comment else value).rstrip()
    new = _value(replacement.new_text(current)) if replacement.applies(current) else current
    if new in (current, value.strip()):
        return
    line.text = f"{head}{new}"
    if comment:
        lines.insert(index, Line(f"{head[: len(head) - len(head.lstrip())]}{comment[1]}", line.end or "\n"))


def _value(text: str) -> str:
    """One line: a line break would start another entry."""
    return " ".join(text.splitlines()) if "\n" in text or "\r" in text else text


def _add_section(lines: list[Line], section: str, newline: str) -> None:
    if lines and lines[-1].text.strip():
        _insert(lines, len(lines), "", newline)
    _insert(lines, len(lines), f"[{section}]", newline)


def _last_used(lines: list[Line], start: int, end: int) -> int:
    """Behind the last line of the section that is not blank."""
    while end > start and not lines[end - 1].text.strip():
        end -= 1
    return end


def _insert(lines: list[Line], index: int, text: str, newline: str) -> None:
    if index and not lines[index - 1].end:
        lines[index - 1].end = newline
    lines.insert(index, Line(text, newline))
