"""What /health tells of a node whose parts hang or fail."""

from __future__ import annotations

from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from stellarstack.api.health import NodeHealth
from stellarstack.core.figures import HostFigures
from stellarstack.core.node_lifecycle import NodeState
from stellarstack.errors import StellarError
from stellarstack.facts import CHECK_PATIENCE, NodeFacts, Sources
from stellarstack.interfaces import Store
from tests.fakes import at_once


class Commits:
    """A store that answers when it is told to."""

    def __init__(self) -> None:
        self.answer: Deferred[bool] = Deferred()

    async def healthy(self) -> bool:
        return await self.answer


class HealthTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.store = Commits()
        self.figures: Deferred[HostFigures] = at_once(lambda: self.used(50.0))
        nothing = cast("Any", None)
        sources = Sources(
            state=lambda: NodeState.ONLINE, figures=lambda: self.figures, store=cast("Store", self.store),
            engine=nothing, servers=nothing, measured=nothing, redis_connected=lambda: True,
            docker_connected=lambda: False, missed=nothing, viewers=nothing,
        )  # fmt: skip
        self.facts = NodeFacts(node_id="node_a", started=0, now=lambda: 5.0, clock=self.clock, sources=sources)

    def used(self, disk: float) -> HostFigures:
        return HostFigures(0, 0, 0, 0, disk, 0, 0, 0, 0, (0, 0, 0), 1, 0)

    def ask(self) -> Deferred[NodeHealth]:
        return Deferred.fromCoroutine(self.facts.health())

    def checks(self, asked: Deferred[NodeHealth]) -> dict[str, bool]:
        return dict(self.successResultOf(asked).checks)

    def test_well(self) -> None:
        """Each check stands for itself."""
        self.store.answer.callback(True)
        health = self.successResultOf(self.ask())
        self.assertEqual((health.state, health.uptime), ("ONLINE", 5.0))
        self.assertEqual(health.checks, {"redis": True, "docker": False, "database": True, "disk": True})

    def test_full_disk(self) -> None:
        self.store.answer.callback(True)
        self.figures = at_once(lambda: self.used(99.9))
        self.assertFalse(self.checks(self.ask())["disk"])

    def test_parts_that_hang(self) -> None:
        """A database and a host that do not answer have failed; who asks is told so before they give up."""
        self.figures = Deferred()
        asked = self.ask()
        self.clock.advance(CHECK_PATIENCE)
        self.assertNoResult(asked)
        self.clock.advance(CHECK_PATIENCE)
        checks = self.checks(asked)
        self.assertEqual((checks["redis"], checks["database"], checks["disk"]), (True, False, False))

    def test_parts_that_fail(self) -> None:
        self.store.answer.errback(StellarError("no"))
        self.assertEqual(self.checks(self.ask())["database"], False)
