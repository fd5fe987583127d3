"""The search and the download of a console's past, as the OpenAPI document tells them."""

from __future__ import annotations

from stellarstack.core.asciicast import CONTENT_TYPE
from stellarstack.core.messages import Json

_OFFSET: Json = {"type": "integer", "minimum": 0}
_FLAG: Json = {"enum": ["0", "1"], "default": "0"}

PAST_REFUSALS = {
    "400": "A parameter that cannot be; its name is in the text",
    "401": "`unauthorized` or `token_expired`",
    "403": "Revoked, no console.read, or another server's token",
    "404": "No such server",
    "429": "`busy`: too many at once",
}

SEARCH_PAGE: Json = {
    "type": "object",
    "required": ["matches", "first", "end", "more"],
    "properties": {
        "matches": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["offset", "line"],
                "properties": {
                    "offset": {"type": "integer", "description": "of the line's first byte"},
                    "line": {"type": "string", "description": "escape codes removed, at most 4 KiB"},
                    "timestamp": {"type": "number", "description": "Unix seconds; missing where it is not known"},
                },
            },
        },
        "first": {"type": "integer", "description": "the oldest byte kept"},
        "end": {"type": "integer", "description": "the newest"},
        "more": {"type": "boolean", "description": "older output was not searched: go on with `before`"},
        "before": {"type": "integer"},
    },
}


def search_operation() -> tuple[str, str, Json, list[Json]]:
    """Its id, what it does, the answer, the parameters."""
    page: Json = {"$ref": "#/components/schemas/SearchPage"}
    answer: Json = {"description": "The newest lines that match", "content": {"application/json": {"schema": page}}}
    query: list[Json] = [
        {**_query("q", {"type": "string", "minLength": 1, "maxLength": 256}, "What to look for"), "required": True},
        _query("regex", _FLAG, "1: `q` is an RE2 expression"),
        _query("case", _FLAG, "1: upper and lower case differ"),
        _query("before", _OFFSET, "Only lines that begin before this byte"),
        _query("limit", {"type": "integer", "minimum": 1, "maximum": 1000, "default": 100}, "Lines at most"),
    ]
    return "searchConsole", "Lines of a server's scrollback, newest first", answer, query


def download_operation() -> tuple[str, str, Json, list[Json]]:
    """As `search_operation`."""
    text: Json = {"schema": {"type": "string"}}
    answer: Json = {"description": "An attachment", "content": {"text/plain": text, CONTENT_TYPE: text}}
    query: list[Json] = [
        _query(
            "format", {"enum": ["text", "asciinema"], "default": "text"}, "Plain text, or an asciicast v2 recording"
        ),
        _query("from", _OFFSET, "The first byte; the oldest kept where it is left out"),
        _query("to", _OFFSET, "Up to this byte; the newest of now where it is left out"),
        _query("run", {"enum": ["last"]}, "Only what came since the server's last start"),
    ]
    return "downloadConsole", "A server's scrollback as a file", answer, query


def _query(name: str, schema: Json, description: str) -> dict[str, Json]:
    return {"name": name, "in": "query", "description": description, "schema": schema}
