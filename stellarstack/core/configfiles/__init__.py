"""Patches the config files of game servers: the wanted values in, all else as it was. Performs no I/O.

Seven parsers with the meaning that panels gave them (EGGS.md 4). What is no file of its format is refused and left
alone: nothing is written unless all of a file could be read.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from stellarstack.core.blueprint import Replacement
from stellarstack.core.configfiles.ini_file import patch_ini
from stellarstack.core.configfiles.json_file import patch_json
from stellarstack.core.configfiles.line_file import patch_lines
from stellarstack.core.configfiles.names import parser_name
from stellarstack.core.configfiles.prepared import LookUp, Prepared, prepare
from stellarstack.core.configfiles.properties_file import patch_properties
from stellarstack.core.configfiles.toml_file import patch_toml
from stellarstack.core.configfiles.xml_file import patch_xml
from stellarstack.core.configfiles.yaml_file import patch_yaml
from stellarstack.errors import BlueprintInvalid, TooLarge

FILE_MOST = 5 << 20
# Readers in pure Python, which a large file would keep busy for minutes.
SLOW_FILE_MOST = 512 << 10
_BOM = "\ufeff"
_XML_ENCODING = re.compile(rb"\s*<\?xml\s[^>]*encoding\s*=\s*[\"']([A-Za-z0-9._-]{1,40})[\"']")
_XML_CODECS = {"iso-8859-1": "latin-1", "latin1": "latin-1", "windows-1252": "cp1252", "us-ascii": "ascii"}

_PARSERS: dict[str, tuple[Callable[[str, Sequence[Prepared]], str], int]] = {
    "properties": (patch_properties, FILE_MOST),
    "file": (patch_lines, FILE_MOST),
    "ini": (patch_ini, FILE_MOST),
    "json": (patch_json, FILE_MOST),
    "xml": (patch_xml, FILE_MOST),
    "yaml": (patch_yaml, SLOW_FILE_MOST),
    "toml": (patch_toml, SLOW_FILE_MOST // 2),
}
_WHERE_MISSING = {"json": "{}"}
# What these write is Unicode by definition; the others keep bytes that are no UTF-8 as they are.
_STRICT = frozenset({"json", "yaml", "toml", "xml"})
_UNWRITABLE = {"xml": "xmlcharrefreplace", "json": "replace", "yaml": "replace", "toml": "replace"}


def patch(parser: str, content: bytes | None, replacements: Sequence[Replacement], look_up: LookUp) -> bytes:
    """The file's new content; `content` None: there is no file yet. `look_up` answers placeholders.

    TooLarge: over 5 MiB (YAML 512, TOML 256 KiB), before it is read. BlueprintInvalid: it cannot be parsed, a path
    leads nowhere, or there is no such parser. Takes seconds for the largest files: call it in a thread.
    """
    parser = parser_name(parser)
    found = _PARSERS.get(parser)
    if found is None:
        raise BlueprintInvalid(f"parser: there is none of the name {parser!r:.40}")
    patcher, most = found
    if content is not None and len(content) > most:
        raise TooLarge(f"is over {most >> 10} KiB")
    text = _WHERE_MISSING.get(parser, "") if content is None else _decoded(parser, content)
    try:
        bom = _BOM if text.startswith(_BOM) else ""
        written = bom + patcher(text.removeprefix(_BOM), [prepare(item, look_up) for item in replacements])
    except RecursionError as error:
        raise BlueprintInvalid("nests too deep") from error
    except ValueError as error:
        raise BlueprintInvalid(f"is no {parser}: {' '.join(str(error).split())[:300]}") from error
    return written.encode(_codec(parser, content or b""), _UNWRITABLE.get(parser, "surrogateescape"))


def _decoded(parser: str, content: bytes) -> str:
    codec = _codec(parser, content)
    try:
        return content.decode(codec, "strict" if parser in _STRICT else "surrogateescape")
    except UnicodeDecodeError as error:
        raise BlueprintInvalid(f"is no {parser}: it is not {codec} (byte {error.start})") from error


def _codec(parser: str, content: bytes) -> str:
    """XML may name an encoding of its own; the few that are still met are kept, all else is UTF-8."""
    named = _XML_ENCODING.match(content) if parser == "xml" else None
    return _XML_CODECS.get(named[1].decode().lower(), "utf-8") if named else "utf-8"
