"""The parser `file`: whole lines replaced by what they begin with. Performs no I/O."""

from __future__ import annotations

from collections.abc import Sequence

from stellarstack.core.configfiles.lines import LINES_MOST
from stellarstack.core.configfiles.prepared import Prepared


def patch_lines(text: str, replacements: Sequence[Prepared]) -> str:
    """Each line that begins with a key becomes that key's value; of several keys all values, in order, unseparated.

    Nothing is trimmed and nothing appended; lines end in LF, the last one too. Further lines of a value that stand
    below already are not doubled.
    """
    if text.count("\n") > LINES_MOST:
        raise ValueError(f"has over {LINES_MOST} lines")
    lines = text.replace("\r\n", "\n").split("\n")
    if lines[-1] == "":
        lines.pop()
    values = [(replacement.key, replacement.text.replace("\r\n", "\n")) for replacement in replacements]
    written: list[str] = []
    index = 0
    while index < len(lines):
        found = [value for key, value in values if key and lines[index].startswith(key)]
        new = "".join(found) if found else lines[index]
        index += 1
        written.append(new)
        rest = new.split("\n")[1:]
        if found and rest and lines[index : index + len(rest)] == rest:
            index += len(rest)
    return "".join(f"{line}\n" for line in written)
