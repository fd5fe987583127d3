"""The tree of addresses on `[server]`: health, metrics, console, the API told to programs (PROTOCOL 9)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from twisted.internet.interfaces import IReactorTime
from twisted.web.resource import IResource

from stellarstack.api.console_past import PastDoor
from stellarstack.api.health import HealthDoor, HealthSource
from stellarstack.api.http import DaemonSite
from stellarstack.api.http_answers import Answer, Ask, Endpoint, Folder, ServersFolder, json_answer
from stellarstack.api.http_channel import HttpLimits
from stellarstack.api.openapi import openapi_document
from stellarstack.api.site_metrics import MetricsDoor, MetricsSource
from stellarstack.api.site_web import WebConsole
from stellarstack.config import Secret
from stellarstack.tasks import Tasks


def make_site(
    *,
    reactor: IReactorTime,
    tasks: Tasks,
    health: HealthSource,
    metrics: MetricsSource,
    metrics_token: Secret | None,
    console: IResource,
    web: WebConsole | None = None,
    past: PastDoor | None = None,
    limits: HttpLimits | None = None,
) -> DaemonSite:
    """The site of `[server]`. `console` is mounted at `/console`; all else is GET (and HEAD) only.

    `past` answers below `/api/v1/servers/{id}/console`, `web` is the page at `/`.
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
            **(_web(web, endpoint) if web is not None else {}),
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


def _web(web: WebConsole, endpoint: Callable[[Ask], IResource]) -> Mapping[str, IResource]:
    files = _folder({web.digest: _tree(web.files, endpoint)})
    return {"": endpoint(web.page), "web": files, "web.json": endpoint(web.settings)}


def _tree(files: Mapping[str, Ask], endpoint: Callable[[Ask], IResource]) -> IResource:
    """Files by their path, as folders in folders."""
    children = {name: endpoint(ask) for name, ask in files.items() if "/" not in name}
    for folder in {name.partition("/")[0] for name in files if "/" in name}:
        inside = {name.removeprefix(f"{folder}/"): ask for name, ask in files.items() if name.startswith(f"{folder}/")}
        children[folder] = _tree(inside, endpoint)
    return _folder(children)


def _fixed(answer: Answer) -> Ask:
    async def get(_request: Any) -> Answer:
        return answer

    return get
