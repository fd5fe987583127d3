"""The FakeEngine keeps the contract of the seam, and its faults are those of Docker."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from tests.contracts import PROGRAMS, EngineContract
from tests.fake_container import Program
from tests.fake_engine import FakeEngine

IMAGE = "stellarstack-test/busybox:latest"


def program_of(body: Mapping[str, Any]) -> Program:
    return PROGRAMS[body["Cmd"][2]]


class FakeEngineContractTests(EngineContract, TestCase):
    """The contract on the fake."""

    label = "node_contract"
    image = IMAGE
    subnets = ("10.213.0.0/28", "10.213.0.16/28")
    port = 25565

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1_700_000_000)
        self.engine = FakeEngine(clock=self.clock, images={IMAGE: program_of})

    def name(self, suffix: str) -> str:
        return f"contract-{suffix}"

    def pass_time(self) -> None:
        self.clock.advance(1)
