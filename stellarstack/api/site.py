"""The tree of addresses on `[server]`: health, metrics, console, the API told to programs (PROTOCOL 9)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twisted.internet.interfaces import IReactorTime
from twisted.web.resource import IResource

from stellarstack import __version__
from stellarstack.api.console_past import PastDoor
from stellarstack.api.health import HealthDoor, HealthSource
from stellarstack.api.http import DaemonSite
from stellarstack.api.http_answers import Answer, Ask, Endpoint, Folder, ServersFolder, json_answer
from stellarstack.api.http_channel import HttpLimits
from stellarstack.api.openapi import openapi_document
from stellarstack.api.site_metrics import MetricsDoor, MetricsSource
from stellarstack.config import Secret
from stellarstack.tasks import Tasks

_PAGE = f"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>StellarStack node</title>
<h1>StellarStack node</h1>
<p>This is the StellarStack daemon {__version__}. It runs game servers. There is no page for people here yet.</p>
<ul>
<li><a href="/health">/health</a> tells how the node is.
<li><code>/console</code> is a server's console as a WebSocket; <code>stellarctl console SERVER</code> opens one.
<li><a href="/api/v1/openapi.json">/api/v1/openapi.json</a> describes the rest for programs.
</ul>
</html>
"""


def make_site(
    *,
    reactor: IReactorTime,
    tasks: Tasks,
    health: HealthSource,
    metrics: MetricsSource,
    metrics_token: Secret | None,
    console: IResource,
    past: PastDoor | None = None,
    limits: HttpLimits | None = None,
) -> DaemonSite:
    """The site of `[server]`. `console` is mounted at `/console`; all else is GET (and HEAD) only.

    `past` answers below `/api/v1/servers/{id}/console`.
    """

    def endpoint(get: Ask) -> IResource:
        found: IResource = Endpoint({"GET": get}, clock=reactor, tasks=tasks)
        return found

    def server(server_id: str) -> IResource:
        asks = past.asks(server_id) if past is not None else {}
        return _folder({"console": _folder({name: endpoint(ask) for name, ask in asks.items()})})

    servers: IResource = ServersFolder(server)
    v1 = {"openapi.json": endpoint(_fixed(json_answer(200, openapi_document()))), "servers": servers}
    api: Mapping[str, IResource] = {"v1": _folder(v1)}
    root = _folder(
        {
            "": endpoint(_fixed(Answer(200, _PAGE.encode(), "text/html; charset=utf-8"))),
            "health": endpoint(HealthDoor(health, reactor).get),
            "metrics": endpoint(MetricsDoor(metrics, metrics_token).get),
            "console": console,
            "api": _folder(api),
        }
    )
    return DaemonSite(root, reactor=reactor, limits=limits)


def _folder(children: Mapping[str, IResource]) -> IResource:
    found: IResource = Folder(children)
    return found


def _fixed(answer: Answer) -> Ask:
    async def get(_request: Any) -> Answer:
        return answer

    return get
