"""Tells this daemon's containers and networks from those of another one that bears the same node id on this Docker.

Each state folder has an installation id, and whatever is made here carries it as a label. What an earlier version made
has none: at the first start after the upgrade it is adopted where its server has a record here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from stellarstack.core.container_spec import LABEL_INSTALLATION, LABEL_NODE, LABEL_SERVER
from stellarstack.core.engine import ContainerState
from stellarstack.core.messages import Json
from stellarstack.interfaces import Engine, Store

ADOPTED_KEY = "docker.adopted"


class Ownership:
    """`installation` is the state folder's id."""

    def __init__(self, *, installation: str, node_id: str, engine: Engine, store: Store) -> None:
        self.installation = installation
        self._node_id = node_id
        self._engine = engine
        self._store = store
        self._adopted: set[str] | None = None  # ids of containers, names of networks; None: nobody looked yet

    @property
    def label(self) -> Mapping[str, str]:
        return {LABEL_INSTALLATION: self.installation}

    def ours(self, container: ContainerState) -> bool:
        """Until it was looked for what to adopt, whatever has no label is taken for ours."""
        label = container.labels.get(LABEL_INSTALLATION)
        if label is not None:
            return label == self.installation
        return self._adopted is None or container.id in self._adopted

    async def our_network(self, name: str) -> bool:
        """Whether there is a network of this name, and it is ours."""
        if name in await self._engine.networks(self.label):
            return True
        return (self._adopted is None or name in self._adopted) and name in await self._engine.networks(
            {LABEL_NODE: self._node_id}
        )

    async def adopt(self, networks: Mapping[str, Iterable[str]]) -> None:
        """Once in the life of a database. `networks`: the names that the networks of each server here may have."""
        if self._adopted is not None:
            return
        kept = await self._store.get_value(ADOPTED_KEY)
        if isinstance(kept, list):
            self._adopted = {str(one) for one in kept}
            return
        found = await self._find(networks)
        listed: list[Json] = [*sorted(found)]
        await self._store.put_value(ADOPTED_KEY, listed)
        self._adopted = found

    async def _find(self, networks: Mapping[str, Iterable[str]]) -> set[str]:
        mine, foreign = set(), set()
        for container in await self._engine.containers({LABEL_NODE: self._node_id}):
            server_id = container.labels.get(LABEL_SERVER, "")
            if LABEL_INSTALLATION in container.labels:
                foreign.add(server_id)
            elif server_id in networks:
                mine.add(container.id)
        here = set(await self._engine.networks({LABEL_NODE: self._node_id}))
        names = {name for server_id, found in networks.items() if server_id not in foreign for name in found}
        return mine | (names & here)
