"""Takes terminal control out of text, so that a pattern sees what a person sees. Performs no I/O."""

from __future__ import annotations

import re

# Strings that run to BEL or ST (OSC, DCS, SOS, PM, APC), control sequences, character set choices, all other escapes.
_ESCAPES = re.compile(
    "\x1b[\\]PX^_][^\x07\x1b\x9c]*(?:\x07|\x1b\\\\|\x9c)?"
    "|(?:\x1b\\[|\x9b)[0-?]*[ -/]*[@-~]?"
    "|\x1b[ -/]+[0-~]?"
    "|\x1b[0-~]?"
)
_CONTROLS = {code: None for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in "\t\r\n"}


def strip_ansi(text: str) -> str:
    """`text` without escape codes; an unfinished one at its end goes too. What else it holds stays as it is."""
    if "\x1b" not in text and "\x9b" not in text:
        return text
    return _ESCAPES.sub("", text)


def plain_text(text: str) -> str:
    """`text` without escape codes and control characters other than tab, CR and LF."""
    return strip_ansi(text).translate(_CONTROLS)
