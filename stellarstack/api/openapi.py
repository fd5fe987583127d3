"""`GET /api/v1/openapi.json`: what the HTTP door offers, told to programs."""

from __future__ import annotations

from stellarstack import __version__
from stellarstack.api.openapi_past import PAST_REFUSALS, SEARCH_PAGE, download_operation, search_operation
from stellarstack.core.identifiers import SERVER_ID_FORM
from stellarstack.core.messages import Json


def openapi_document() -> dict[str, Json]:
    """An OpenAPI 3.1 document of PROTOCOL 8 and 9, as far as this version offers them."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "StellarStack node daemon",
            "version": __version__,
            "description": "One node of game servers. Commands and events go over Redis; this is the rest.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "paths": {
            "/": {"get": _page()},
            "/web.json": {"get": _operation("getWebSettings", "What the page asks first", {"200": _json("It", _WEB)})},
            "/health": {"get": _health()},
            "/metrics": {"get": _metrics()},
            "/console": {"get": _console([])},
            "/console/{serverId}": {"get": _console([_SERVER_ID])},
            "/api/v1/servers/{serverId}/console/search": {"get": _past(*search_operation())},
            "/api/v1/servers/{serverId}/console/download": {"get": _past(*download_operation())},
            "/api/v1/openapi.json": {
                "get": _operation("getOpenApi", "This document", {"200": _json("The document", {})})
            },
        },
        "components": {
            "schemas": {"Error": _ERROR, "Health": _HEALTH, "SearchPage": SEARCH_PAGE},
            "securitySchemes": {
                "consoleToken": {"type": "http", "scheme": "bearer", "bearerFormat": "strk_console_ and a JWT"},
                "metricsToken": {"type": "http", "scheme": "bearer"},
            },
        },
    }


def _operation(name: str, summary: str, responses: dict[str, Json], **more: Json) -> dict[str, Json]:
    return {"operationId": name, "summary": summary, "responses": responses, **more}


def _json(description: str, schema: Json) -> dict[str, Json]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _refusal(description: str) -> Json:
    return _json(description, {"$ref": "#/components/schemas/Error"})


def _page() -> Json:
    html: Json = {"description": "The page", "content": {"text/html": {"schema": {"type": "string"}}}}
    responses: dict[str, Json] = {"200": html, "304": {"description": "The browser has it already"}}
    return _operation("getWebConsole", "The web console; its token is in the link's fragment, #token=…", responses)


def _health() -> Json:
    schema: Json = {"$ref": "#/components/schemas/Health"}
    responses: dict[str, Json] = {
        "200": _json("The node is ONLINE or DRAINING", schema),
        "503": _json("It is in another state", schema),
    }
    return _operation("getHealth", "Whether the node works; no token", responses)


def _metrics() -> Json:
    text: Json = {
        "description": "OpenMetrics text",
        "content": {"application/openmetrics-text": {"schema": {"type": "string"}}},
    }
    responses: dict[str, Json] = {"200": text, "403": _refusal("Neither from this machine nor with the token")}
    return _operation("getMetrics", "Figures for Prometheus", responses, security=[{}, {"metricsToken": []}])


def _console(parameters: list[Json]) -> Json:
    responses: dict[str, Json] = {"101": {"description": "The console; frames as stellarstack.console.v1 tells"}}
    for status, text in _CONSOLE_REFUSALS.items():
        responses[status] = _refusal(text)
    query: list[Json] = [
        _query("since", {"type": "integer", "minimum": 0}, "Go on from this byte"),
        _query(
            "scrollback", {"type": "integer", "minimum": 0, "maximum": 1048576, "default": 65536}, "Bytes shown first"
        ),
    ]
    name = "openServerConsole" if parameters else "openConsole"
    summary = "A server's console as a WebSocket; without the header a first frame {type: auth, token} within 10 s"
    security: Json = [{"consoleToken": []}, {}]
    return _operation(name, summary, responses, parameters=[*parameters, *query], security=security)


def _past(name: str, summary: str, answer: Json, query: list[Json]) -> Json:
    """An operation on what one console said."""
    refusals = {status: _refusal(text) for status, text in PAST_REFUSALS.items()}
    security: Json = [{"consoleToken": []}]
    return _operation(name, summary, {"200": answer, **refusals}, parameters=[_SERVER_ID, *query], security=security)


def _query(name: str, schema: Json, description: str) -> Json:
    return {"name": name, "in": "query", "description": description, "schema": schema}


_CONSOLE_REFUSALS = {
    "400": "No WebSocket upgrade, a token in the query, a bad `since`, or only unknown subprotocols",
    "401": "`unauthorized` or `token_expired`",
    "403": "Revoked, no console.read, a foreign Origin, or another server's token",
    "404": "No such server",
    "429": "Too many connections",
    "503": "The daemon stops",
}

_SERVER_ID: Json = {
    "name": "serverId",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "pattern": f"^{SERVER_ID_FORM}$"},
}

_WEB: Json = {
    "type": "object",
    "required": ["version", "embedders"],
    "properties": {
        "version": {"type": "string"},
        "embedders": {"type": "array", "items": {"type": "string"}, "description": "[server] frame_ancestors"},
    },
}

_ERROR: Json = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["code", "message"],
            "properties": {"code": {"type": "string"}, "message": {"type": "string"}},
        }
    },
}

_HEALTH: Json = {
    "type": "object",
    "required": ["status", "nodeId", "state", "version", "uptime", "checks"],
    "properties": {
        "status": {"enum": ["healthy", "degraded", "unhealthy"]},
        "nodeId": {"type": ["string", "null"]},
        "state": {"enum": ["OFFLINE", "STARTING", "ONLINE", "UNHEALTHY", "ERROR", "DRAINING"]},
        "version": {"type": "string"},
        "uptime": {"type": "number", "description": "seconds"},
        "checks": {
            "type": "object",
            "required": ["redis", "docker", "database", "disk"],
            "additionalProperties": {"enum": ["ok", "failed"]},
        },
    },
}
