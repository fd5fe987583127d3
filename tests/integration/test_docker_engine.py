"""The DockerEngine keeps the contract of the seam on the real Docker Engine."""

from __future__ import annotations

import os
import subprocess
from itertools import count

from twisted.internet import reactor
from twisted.trial.unittest import TestCase

from stellarstack.config import DockerConfig
from stellarstack.docker.engine import DockerEngine
from tests.contracts import EngineContract
from tests.images import ensure_busybox_image
from tests.ports import free_port

_numbers = count(1)


class DockerEngineContractTests(EngineContract, TestCase):
    """The contract on the engine that answers on /var/run/docker.sock."""

    def setUp(self) -> None:
        self.image = ensure_busybox_image()
        number = next(_numbers)
        self.label = f"node_contract{os.getpid()}x{number}"
        self.port = free_port()
        third = os.getpid() % 250
        self.subnets = (f"10.211.{third}.{number % 7 * 32}/28", f"10.211.{third}.{number % 7 * 32 + 16}/28")
        self.engine = DockerEngine(reactor=reactor, config=DockerConfig())
        self._names: set[str] = set()
        self.addCleanup(self._clean_up)

    def name(self, suffix: str) -> str:
        name = f"{self.label}-{suffix}"
        self._names.add(name)
        return name

    async def spare_image(self) -> str:
        name = f"stellarstack-test/spare:{os.getpid()}"
        subprocess.run(["docker", "tag", self.image, name], check=True)
        return name

    async def _clean_up(self) -> None:
        for name in self._names:
            await self.engine.remove(name)
        for name in self._names:
            await self.engine.remove_network(name)
