"""The parsers that a blueprint may name: an allow-list, nothing is ever looked up by such a name. Performs no I/O."""

from __future__ import annotations

PARSER_NAMES = frozenset({"properties", "file", "yaml", "yml", "json", "ini", "xml", "toml"})


def parser_name(name: str) -> str:
    """The one spelling of a name that is in PARSER_NAMES."""
    return "yaml" if name == "yml" else name
