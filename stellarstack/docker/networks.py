"""Networks: one bridge per server (the `/networks` part of the Engine API)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from urllib.parse import quote

from stellarstack.docker.client import LIST_MAX, Answer, DockerClient, Request
from stellarstack.docker.containers import label_filter
from stellarstack.docker.fields import sequence, text
from stellarstack.docker.translation import one_line
from stellarstack.errors import DockerUnavailable, EngineConflict

_TAKEN = ("overlap", "already exists", "has active endpoints")


class Networks:
    """The engine's networks. Raises DockerUnavailable (or a subclass), TimedOut."""

    def __init__(self, *, client: DockerClient) -> None:
        self._client = client

    async def create(self, name: str, subnet: str, labels: Mapping[str, str]) -> str:
        """See `Engine.create_network`; `subnet` as `10.213.0.16/28`."""
        request = Request(
            "POST",
            "/networks/create",
            body={
                "Name": name,
                "Driver": "bridge",
                "CheckDuplicate": True,
                "IPAM": {"Config": [{"Subnet": subnet}]},
                "Labels": dict(labels),
            },
        )
        answer = _settled(await self._client.call(request))
        made = text(answer.json(), "Id")
        if not made:
            raise DockerUnavailable("Docker made a network and does not tell its id")
        return made

    async def remove(self, name: str) -> None:
        """See `Engine.remove_network`. EngineConflict: containers are still in it."""
        answer = await self._client.call(Request("DELETE", f"/networks/{quote(name, safe='')}"))
        if answer.status != 404:
            _settled(answer)

    async def list(self, wanted: Mapping[str, str]) -> Mapping[str, Sequence[str]]:
        """See `Engine.networks`."""
        params = {"filters": json.dumps({"label": label_filter(wanted)})} if wanted else {}
        answer = await self._client.call(Request("GET", "/networks", params=params, limit=LIST_MAX))
        rows = sequence({"rows": answer.require().json()}, "rows")
        return {text(row, "Name"): _subnets(row) for row in rows if text(row, "Name")}


def _settled(answer: Answer) -> Answer:
    """The engine tells some conflicts with another status than 409; they are told by their words."""
    if answer.status >= 400 and any(words in answer.message for words in _TAKEN):
        raise EngineConflict(f"Docker: {one_line(answer.message)}")
    return answer.require()


def _subnets(row: Mapping[str, object]) -> Sequence[str]:
    found = (text(entry, "Subnet") for entry in sequence(row, "IPAM", "Config"))
    return tuple(subnet for subnet in found if subnet)
